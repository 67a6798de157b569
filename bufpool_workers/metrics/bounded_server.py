"""An HTTP server whose clients can take up neither descriptors, nor threads, nor time."""

import errno
import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from threading import Condition
from time import monotonic
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

from bufpool_workers.metrics.apps import WSGIApp
from bufpool_workers.metrics.connection import Connection, silent_ones
from bufpool_workers.metrics.host_check import is_loopback
from bufpool_workers.metrics.request import RequestHandler

logger = logging.getLogger(__name__)

HEAD_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
MAX_CONNECTIONS: Final = 16
MAX_PER_PEER: Final = 4
LOG_SECONDS: Final = 60.0

_ROOM_SECONDS: Final = 0.01
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class BoundedServer(ThreadingMixIn, WSGIServer):
    """wsgiref's server with a thread for each request, for few clients, and hostile ones.

    It holds MAX_CONNECTIONS at most, and MAX_PER_PEER of them for each address beyond loopback.
    When they are taken, the oldest one makes room that waits for its client; while there is none,
    new clients wait in the kernel's queue. Handshake and head have HEAD_SECONDS together, the
    answer ANSWER_SECONDS. What fails is logged in one line, once in LOG_SECONDS.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, app: WSGIApp, *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, address = found[0]
        self._changed = Condition()
        self._open: dict[socket.socket, Connection] = {}
        self._failures = 0
        self._last_failure: tuple[str, BaseException | str] = ("", "")
        self._next_line = 0.0
        super().__init__((str(address[0]), port), RequestHandler)
        self.app = app
        self.socket.setblocking(False)  # a client that has gone again must not hold the lock
        if tls is not None:
            # In the request's thread: a client that never says hello would block all others.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        # A fork waits until each descriptor is either in the table or closed.
        os.register_at_fork(
            before=self._changed.acquire,
            after_in_parent=self._changed.release,
            after_in_child=self._leave_to_parent,
        )

    # called by the loop, on its thread

    def get_request(self) -> tuple[Any, Any]:
        """Accept a client when there is room."""
        with self._changed:
            if not self._make_room():
                raise BlockingIOError
            try:
                request, address = self.socket.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._note("a new client", error)
                    self._changed.wait(_ROOM_SECONDS)  # or the loop would spin
                raise
            request.setblocking(False)
            deadline = monotonic() + HEAD_SECONDS
            self._open[request] = Connection(request, address[0], deadline)
            return request, address

    def _make_room(self) -> bool:
        connections = self._open.values()
        if len(connections) == MAX_CONNECTIONS and not any(each.is_dropped for each in connections):
            self._drop_oldest(connections)
        # the slot is free when its thread has ended
        return self._changed.wait_for(
            lambda: len(self._open) < MAX_CONNECTIONS, timeout=_ROOM_SECONDS
        )

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse a client whose address has all its connections, and none that can make room."""
        peer = client_address[0]
        with self._changed:
            others = [
                each
                for each in self._open.values()
                if each.peer == peer and each.socket is not request and not each.is_dropped
            ]
            if len(others) < MAX_PER_PEER or is_loopback(peer) or self._drop_oldest(others):
                return True
            self._note(peer, f"{MAX_PER_PEER} of its requests are being answered")
            return False

    def _drop_oldest(self, connections: Iterable[Connection]) -> bool:
        silent = silent_ones(connections)
        if not silent:
            return False
        oldest = min(silent, key=lambda each: each.is_answering)  # the table is in order of age
        self._drop(oldest, "it made room for another one")
        return True

    def _drop(self, connection: Connection, reason: str) -> None:
        connection.drop()
        self._note(connection.peer, reason)

    def service_actions(self) -> None:
        """Drop what is late, and log; the loop calls it twice a second at least."""
        now = monotonic()
        with self._changed:
            for each in self._open.values():
                if each.deadline < now and each.waits_for and not each.is_dropped:
                    what = "its answer was not taken" if each.is_answering else "it was not whole"
                    self._drop(each, f"{what} in time")
            if not self._failures or now < self._next_line:
                return
            failures, self._failures = self._failures, 0
            (peer, error), self._last_failure = self._last_failure, ("", "")
            self._next_line = now + LOG_SECONDS
        what = "a request from" if failures == 1 else f"{failures} requests failed, the last from"
        logger.warning(
            "bufpool: metrics endpoint: %s %s%s: %s",
            what,
            peer,
            " failed" if failures == 1 else "",
            error,
            exc_info=error if isinstance(error, Exception) and _is_bug(error) else None,
        )

    # called by a request's thread

    def connection(self, request: Any) -> Connection:
        """Return the connection of a request's socket."""
        return self._open[request]

    def begin_answer(self, connection: Connection) -> bool:
        """Note that a request is whole; return False if its connection was dropped."""
        with self._changed:
            connection.is_answering = True
            connection.deadline = monotonic() + ANSWER_SECONDS
            return not connection.is_dropped

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note why a connection broke, most often in its handshake; any client can bring it about.

        A connection that was dropped is noted already.
        """
        with self._changed:
            if not self._open[request].is_dropped:
                self._note(client_address[0], sys.exception() or "")

    def _note(self, peer: str, error: BaseException | str) -> None:
        self._failures += 1
        self._last_failure = peer, error

    def close_request(self, request: Any) -> None:
        """Close a connection, and free its slot."""
        with self._changed:
            del self._open[request]
            request.close()
            self._changed.notify_all()

    # the end

    def server_close(self) -> None:
        """Close the listening socket, and end all connections."""
        super().server_close()
        with self._changed:
            for each in self._open.values():
                each.drop()

    def _leave_to_parent(self) -> None:
        """Close a forked child's copies of all descriptors; their threads are not in the child."""
        for each in (self.socket, *self._open):
            # `close` would wait for the files that those threads made of their sockets
            if (fd := each.detach()) >= 0:
                os.close(fd)
        self._open.clear()
        self._changed.release()


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, OSError)
