"""A small stand-in for Google Cloud Storage, for tests: its XML interface as far as it is used.

No emulator that can be installed from a package index speaks that interface with conditions.
This one follows Google's description of it: objects have a generation, puts and deletions take
`x-goog-if-generation-match`, reads take `If-Match` with the ETag.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "rayft-test"
_NOT_MODIFIED_SINCE = "Mon, 01 Jan 2024 00:00:00 GMT"


@dataclass(frozen=True)
class _Object:
    content: bytes
    generation: int
    metadata: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(self.content).hexdigest()}"',
            "x-goog-generation": str(self.generation),
            "Last-Modified": _NOT_MODIFIED_SINCE,
            "Content-Type": "application/octet-stream",
            **self.metadata,
        }


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """Run a server on a free port, and give the address of an empty bucket: `gs://rayft-test`.

    Args:
        folder: where the file that names the server is put.
    """
    objects: dict[str, _Object] = {}

    class Handler(_Handler):
        store = objects
        lock = threading.Lock()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    account = folder / "account.json"
    address = f"http://127.0.0.1:{server.server_port}"
    fields = {"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True}
    account.write_text(json.dumps({**fields, "gcs_base_url": address}))
    try:
        variables = {"GOOGLE_SERVICE_ACCOUNT": str(account), "GOOGLE_ALLOW_HTTP": "true"}
        with patch.dict(os.environ, variables):
            yield f"gs://{BUCKET}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: dict[str, _Object]
    lock: threading.Lock

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            bucket, key, _ = self._asked()
            there = self.store.get(key)
            wanted = self.headers.get("x-goog-if-generation-match")
            if bucket != BUCKET:
                self._fail(404, "NoSuchBucket")
            elif wanted is not None and int(wanted) != (there.generation if there else 0):
                self._fail(412, "PreconditionFailed")
            else:
                kept = {n: v for n, v in self.headers.items() if n.startswith("x-goog-meta-")}
                generation = there.generation + 1 if there else 1000 + len(self.store)
                self.store[key] = _Object(content, generation, kept)
                self._send(200, self.store[key].headers, b"")

    def do_DELETE(self) -> None:
        with self.lock:
            _, key, _ = self._asked()
            if self.store.pop(key, None) is None:
                self._fail(404, "NoSuchKey")
            else:
                self._send(204, {}, b"")

    def do_GET(self) -> None:
        with self.lock:
            bucket, key, query = self._asked()
            there = self.store.get(key)
            wanted = self.headers.get("If-Match")
            if bucket != BUCKET:
                self._fail(404, "NoSuchBucket")
            elif not key:
                self._list(query)
            elif there is None:
                self._fail(404, "NoSuchKey")
            elif wanted is not None and wanted != there.headers["ETag"]:
                self._fail(412, "PreconditionFailed")
            else:
                self._give(there)

    do_HEAD = do_GET  # noqa: N815  name of the base class

    def _asked(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.removeprefix("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return unquote(bucket), unquote(key), query

    def _give(self, found: _Object) -> None:
        span = self.headers.get("Range")
        if span is None:
            self._send(200, found.headers, found.content)
            return
        start, end = (int(number) for number in span.removeprefix("bytes=").split("-"))
        content = found.content[start : end + 1]
        total = f"bytes {start}-{start + len(content) - 1}/{len(found.content)}"
        self._send(206, {**found.headers, "Content-Range": total}, content)

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        contents, prefixes = [], set()
        for key, found in sorted(self.store.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            etag = escape(found.headers["ETag"])
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(found.content)}</Size>"
                f"<ETag>{etag}</ETag><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        found_prefixes = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in sorted(prefixes)
        )
        body = f"<ListBucketResult>{''.join(contents)}{found_prefixes}</ListBucketResult>"
        self._send(200, {"Content-Type": "application/xml"}, body.encode())

    def _fail(self, status: int, code: str) -> None:
        self._send(status, {}, f"<Error><Code>{code}</Code></Error>".encode())

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
