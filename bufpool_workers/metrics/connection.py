"""A client's connection, which others can end while its thread waits for the client."""

import errno
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Connection:
    """A client's socket, which never blocks: its thread waits for the client in `call` alone."""

    socket: Any  # of gevent's class where it has patched the standard library
    peer: str
    deadline: float
    waits_for: int = 0  # an event of poll(2)
    is_answering: bool = False
    is_dropped: bool = False

    def call(self, event: int, operation: Callable[..., T], *args: Any) -> T:
        """Call a method of the socket until its client, with this event, lets it be done."""
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            except BlockingIOError:
                self._wait(event)

    def _wait(self, event: int) -> None:
        # The event is still there when this thread runs on, so that another one can tell a client
        # that says nothing from a thread that didn't come to hear it.
        self.waits_for = event
        poller = select.poll()
        poller.register(self.socket, event)
        poller.poll()
        self.waits_for = 0
        if self.is_dropped:
            raise ConnectionAbortedError

    def drop(self) -> None:
        """End the connection; a thread that waits for the client wakes and finds it ended."""
        self.is_dropped = True
        # not SSLSocket's own `shutdown`, after which its thread would write in clear
        plain = socket.socket(fileno=self.socket.fileno())
        try:
            plain.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # else its client was quicker
                raise
        finally:
            plain.detach()


def silent_ones(connections: Iterable[Connection]) -> list[Connection]:
    """Return those that wait for their client, in vain so far."""
    waiting = [each for each in connections if each.waits_for and not each.is_dropped]
    poller = select.poll()
    for each in waiting:
        poller.register(each.socket, each.waits_for)
    ready = {fd for fd, _ in poller.poll(0)}
    return [each for each in waiting if each.socket.fileno() not in ready]
