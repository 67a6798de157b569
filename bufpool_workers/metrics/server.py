"""The server of the scrape, on a thread of a process."""

import errno
import logging
import os
import socket
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.apps import WSGIApp

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_SUCH_HOST: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_NO_SUCH_PORT: Final = {errno.EADDRINUSE, errno.EACCES}  # taken; below 1024, for others than root


def serve(
    app: WSGIApp,
    *,
    port: int,
    host: str = LOOPBACK,
    tls: Mapping[str, Any] = _NOTHING,
    given: Mapping[str, str] = _NOTHING,
) -> "Endpoint":
    """Serve `app`, of `wsgi_app`, from a thread of this process and from none of its children.

    `tls` is for `Endpoint.start`. `given` says how "host" and "port" were given, such as
    "--port 80": the MetricsError for an address that is not available begins with it.
    """
    try:
        endpoint = Endpoint.start(app, port=port, host=host, **tls)
    except MetricsError as error:
        wrong = _wrong_part(error.__cause__)
        if wrong not in given:
            raise
        raise MetricsError(f"{given[wrong]}: {error}") from error
    os.register_at_fork(after_in_child=endpoint.close)
    logger.info("bufpool: metrics at %s", endpoint.url)
    return endpoint


class Endpoint:
    """A server on a thread of this process; prometheus_client's own, with our pages.

    `url` is its address, for people to click.
    """

    def __init__(self, server: WSGIServer, *, url: str) -> None:
        self.url = url
        self._server = server
        self._pid = os.getpid()

    @classmethod
    def start(cls, app: WSGIApp, *, port: int, host: str = LOOPBACK, **tls: Any) -> Self:
        """Listen on `host`, by default on loopback; port 0 takes a free one.

        `tls` goes to prometheus_client's `start_http_server`: `certfile` and `keyfile`, and
        `client_cafile` or `client_capath` with `client_auth_required=True` to let in known clients
        only. Raises MetricsError that names the address when it is not available.
        """
        for name in ("certfile", "keyfile", "client_cafile", "client_capath"):
            path = tls.get(name)
            if path is not None and not os.access(path, os.R_OK):
                raise MetricsError(f"metrics endpoint: {name} {path!r} can't be read")
        try:
            server, _ = start_http_server(port, host, registry=CollectorRegistry(), **tls)
        except OSError as error:
            where = f"metrics endpoint {_address(host, port)}"
            raise MetricsError(f"{where}: {error.strerror or error}") from error
        if hasattr(server.socket, "do_handshake_on_connect"):
            # In the request's thread: a client that never says hello would block all others.
            server.socket.do_handshake_on_connect = False
        server.handle_error = _note_error  # type: ignore[method-assign]  # the class is not ours
        server.set_app(app)
        scheme = "https" if tls else "http"
        return cls(server, url=f"{scheme}://{_address(host, server.server_port)}/")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop listening. In a forked child, which has no server thread, only close its socket."""
        if self._pid == os.getpid():
            self._server.shutdown()
        self._server.server_close()


def _note_error(request: Any, client_address: Any) -> None:  # noqa: ARG001 - socketserver's
    """Log in one line why a connection broke, most often in its handshake; any client can."""
    error = sys.exception()
    logger.warning(
        "bufpool: metrics endpoint: a request from %s failed: %s",
        client_address[0],
        error,
        exc_info=None if isinstance(error, OSError) else error,
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wrong_part(error: BaseException | None) -> str:
    """Return the part of an address that can't be listened on; "" for other reasons."""
    if not isinstance(error, OSError):
        return ""
    if isinstance(error, socket.gaierror) or error.errno in _NO_SUCH_HOST:
        return "host"
    return "port" if error.errno in _NO_SUCH_PORT else ""
