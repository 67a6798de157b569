"""A stand-in for the collectors that vendors run: it takes whatever is posted, and keeps it."""

import gzip
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.support.waiting import wait_until


class Collector:
    """An HTTP server on loopback that answers everything with `{}`."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = _read(self)
                unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(
                    self.headers.get("Content-Encoding", ""), bytes
                )
                collector._bodies.append(f"{self.command} {self.path}\n".encode() + unpack(body))
                self.do_GET()

            do_PUT = do_POST  # noqa: N815 - as http.server calls it

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def received(self) -> bytes:
        """All that has come so far."""
        return b"\n".join(self._bodies)

    def wait_for(self, *words: bytes) -> bytes:
        """Wait until all of these have come; return all that has."""
        wait_until(
            lambda: all(word in self.received() for word in words),
            what=f"{words} at the collector",
            timeout_seconds=60,
        )
        return self.received()


def _read(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body
