"""A request, as a thread of the bounded server reads and answers it."""

from __future__ import annotations

import io
import re
import select
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from bufpool_workers.metrics.connection import Connection
from bufpool_workers.units import KiB

if TYPE_CHECKING:
    from bufpool_workers.metrics.bounded_server import BoundedServer

MAX_HEAD_BYTES: Final = 64 * KiB

_CHUNK_BYTES: Final = 8 * KiB
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class RequestHandler(WSGIRequestHandler):
    """One request of a connection, which ends with its answer."""

    server: BoundedServer
    rfile: io.BytesIO
    wfile: Any

    def setup(self) -> None:
        """Read the request's head, after the handshake if there is one."""
        self._client = self.server.connection(self.request)
        self.wfile = _Writer(self._client)
        if hasattr(self.request, "do_handshake"):
            self._client.call(select.POLLIN, self.request.do_handshake)
        # the standard library parses it; a body, which no page takes, is not waited for
        self.rfile = io.BytesIO(self._read_head())

    def handle(self) -> None:
        """Answer the request."""
        head = self.rfile.getvalue()
        self.raw_requestline = self.rfile.readline()
        if len(head) > MAX_HEAD_BYTES:
            self.requestline = self.request_version = self.command = ""
            self.send_error(431)
        elif head and self.parse_request() and self.server.begin_answer(self._client):
            answer = _Answer(
                self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True
            )
            answer.request_handler = self
            answer.run(self.server.app)

    def _read_head(self) -> bytes:
        """Read up to the empty line that ends a request's head, or a little beyond the limit.

        A client that leaves without a word is no error, such as a probe that only connects.
        """
        head = bytearray()
        seen = 0
        while len(head) <= MAX_HEAD_BYTES and not _HEAD_END.search(head, max(0, seen - 2)):
            seen = len(head)
            received = self._client.call(select.POLLIN, self.request.recv, _CHUNK_BYTES)
            if not received and head:
                raise ConnectionError("it ended inside its head")
            if not received:
                break
            head += received
        return bytes(head)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
        """Log nothing: any client can ask, as often as it likes."""


class _Writer(io.BufferedIOBase):
    def __init__(self, client: Connection) -> None:
        self._client = client

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while left:
            left = left[self._client.call(select.POLLOUT, self._client.socket.send, left) :]
        return len(data)


class _Answer(ServerHandler):
    os_environ: dict[str, str] = {}  # noqa: RUF012 - wsgiref's; a request is no CGI script
    request_handler: RequestHandler

    def log_exception(self, exc_info: Any) -> None:  # noqa: ARG002 - wsgiref's
        handler = self.request_handler
        handler.server.handle_error(handler.request, handler.client_address)
