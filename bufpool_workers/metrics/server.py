"""The server of the scrape, on a thread of a process."""

import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from types import MappingProxyType
from typing import Any, Final, Self

from bufpool_workers.counters.history import INTERVAL_SECONDS
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.apps import WSGIApp
from bufpool_workers.metrics.bounded_server import BoundedServer
from bufpool_workers.metrics.host_check import check_host, is_loopback

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_SUCH_HOST: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_NO_SUCH_PORT: Final = {errno.EADDRINUSE, errno.EACCES}  # taken; below 1024, for others than root


def serve(app: WSGIApp, **options: Any) -> "Endpoint":
    """Serve `app` as `listen` does, and log where."""
    endpoint = listen(app, **options)
    logger.info("bufpool: metrics at %s", endpoint.url)
    return endpoint


def listen(  # noqa: PLR0913 (all but the first by keyword)
    app: WSGIApp,
    *,
    port: int,
    host: str = LOOPBACK,
    hosts: Iterable[str] = (),
    tls: Mapping[str, Any] = _NOTHING,
    given: Mapping[str, str] = _NOTHING,
) -> "Endpoint":
    """Serve `app`, of `wsgi_app`, from a thread of this process and from none of its children.

    `hosts` and `tls` are for `Endpoint.start`. `given` says how "host" and "port" were given, such
    as "--port 80": the MetricsError for an address that is not available begins with it.
    """
    try:
        return Endpoint.start(app, port=port, host=host, hosts=hosts, **tls)
    except MetricsError as error:
        wrong = _wrong_part(error.__cause__)
        if wrong not in given:
            raise
        raise MetricsError(f"{given[wrong]}: {error}") from error


class Endpoint:
    """A server on a thread of this process, of which a forked child keeps no descriptor.

    `url` is its address, for people to click.
    """

    def __init__(self, server: BoundedServer, *, url: str, ended: Event | None = None) -> None:
        self.url = url
        self._ended = ended or Event()
        self._server = server
        self._pid = os.getpid()

    @classmethod
    def start(
        cls,
        app: WSGIApp,
        *,
        port: int,
        host: str = LOOPBACK,
        hosts: Iterable[str] = (),
        **tls: Any,
    ) -> Self:
        """Listen on `host`, by default on loopback; port 0 takes a free one.

        On loopback it answers to the `Host` headers that `check_host` lets pass, with `hosts`.
        `tls` is `certfile` and `keyfile`, and `client_cafile` or `client_capath` with
        `client_auth_required=True` to let in known clients only. Raises MetricsError that names
        the address when it is not available.
        """
        for name in ("certfile", "keyfile", "client_cafile", "client_capath"):
            path = tls.get(name)
            if path is not None and not os.access(path, os.R_OK):
                raise MetricsError(
                    f"metrics endpoint: {name} {path!r} is missing, or this user can't read it"
                )
        try:
            context = _tls_context(**tls) if tls else None
            server = BoundedServer(app, host=host, port=port, tls=context)
        except OSError as error:
            where = f"metrics endpoint {_address(host, port)}"
            raise MetricsError(f"{where}: {error.strerror or error}") from error
        if is_loopback(str(server.server_address[0])):
            server.app = check_host(app, hosts=hosts)
        Thread(target=server.serve_forever, name="bufpool-metrics", daemon=True).start()
        ended = Event()
        sample = getattr(app, "sample", None)
        if sample is not None:
            arguments = sample, ended
            Thread(target=_sample, args=arguments, name="bufpool-history", daemon=True).start()
        scheme = "https" if tls else "http"
        return cls(server, url=f"{scheme}://{_address(host, server.server_port)}/", ended=ended)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop listening, and end all connections. A forked child has none of them."""
        if self._pid == os.getpid():
            self._ended.set()
            self._server.shutdown()
            self._server.server_close()


def _sample(sample: Callable[[], None], ended: Event) -> None:
    """Keep the history of the directory, until the endpoint is closed."""
    while not ended.wait(INTERVAL_SECONDS):
        sample()


def _tls_context(
    *,
    certfile: str,
    keyfile: str,
    client_cafile: str | None = None,
    client_capath: str | None = None,
    client_auth_required: bool = False,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    if client_auth_required:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_cafile, client_capath)
    return context


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wrong_part(error: BaseException | None) -> str:
    """Return the part of an address that can't be listened on; "" for other reasons."""
    if not isinstance(error, OSError):
        return ""
    if isinstance(error, socket.gaierror) or error.errno in _NO_SUCH_HOST:
        return "host"
    return "port" if error.errno in _NO_SUCH_PORT else ""
