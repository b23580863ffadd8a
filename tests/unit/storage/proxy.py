"""An HTTP proxy before an object store that loses, delays or changes what passes through."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from unittest.mock import patch
from urllib.parse import urlsplit

Deed = Literal["pass", "refuse", "lose", "deny", "cut"]
"""Answer properly; close the connection at once; do it and close; do it and say that it failed;
do it and answer by half."""


@dataclass
class Proxy:
    """What the proxy does; may be changed while it runs."""

    deed: "Callable[[str, str], Deed]" = lambda method, path: "pass"
    """Given the method and the path of a request."""
    strip: tuple[str, ...] = ()
    """Headers to leave out, in small letters."""
    answer: tuple[int, bytes] | None = None
    """Status and body to answer instead of asking the store."""
    delay_s: float = 0.0
    """Seconds to wait with each answer."""
    bytes_per_read: int = 0
    """Where given, bodies are answered in pieces of so many bytes, each after `delay_s`."""
    seen: list[str] = field(default_factory=list)
    """Methods and paths of requests so far."""


@contextmanager
def proxy_before_s3(certificate: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy before the S3 server of the environment, and put it in its place."""
    target = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    proxy = Proxy()

    class Handler(_Handler):
        plan = proxy
        host, port = target.hostname or "", target.port or 0

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    scheme = "http" if certificate is None else "https"
    address = f"{scheme}://127.0.0.1:{server.server_port}"
    try:
        with patch.dict(os.environ, {"AWS_ENDPOINT_URL": address}):
            yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Proxy
    host: str
    port: int

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.plan.seen.append(f"{self.command} {self.path}")
        deed = self.plan.deed(self.command, self.path)
        self.close_connection = deed != "pass"
        if deed == "refuse":
            return
        if self.plan.answer is not None:
            status, content = self.plan.answer
            self._send(status, {"Content-Length": str(len(content))}, content)
            return
        response, content = self._ask(body)
        if deed == "lose":
            return
        if deed == "deny":
            self._send(503, {"Content-Length": "0"}, b"")
            return
        headers = {
            name: value
            for name, value in response.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(content))
        self._send(
            response.status, headers, content[: len(content) // 2 if deed == "cut" else None]
        )

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _do  # noqa: N815  names of the base class

    def _ask(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self.host, self.port, timeout=30)
        headers = {n: v for n, v in self.headers.items() if n.lower() not in self.plan.strip}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response, content

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        time.sleep(self.plan.delay_s)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        size = self.plan.bytes_per_read or len(content) or 1
        for start in range(0, len(content), size):
            self.wfile.write(content[start : start + size])
            self.wfile.flush()
            if self.plan.bytes_per_read:
                time.sleep(self.plan.delay_s)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
