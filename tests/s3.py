"""A local S3 server with one bucket, for tests."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "rayft-test"


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a server on a free port, and give the address of an empty bucket: `s3://rayft-test`.

    The environment names the server for the time of the block, so that processes started in it
    find it too.
    """
    log = logging.getLogger("werkzeug")
    level = log.level
    log.setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key-of-the-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with patch.dict(os.environ, variables):
            s3_client().create_bucket(Bucket=BUCKET)
            yield f"s3://{BUCKET}"
    finally:
        server.stop()
        log.setLevel(level)


def s3_client() -> Any:
    """Return a client of another make, to see or do what rayft does not."""
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
