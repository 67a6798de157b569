"""The scrape over HTTP: as an application for a server that is there already, or as a server.

`/metrics` is for Prometheus, `/healthz` for probes, `/` for people, `/status.json` for programs.
"""

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, make_asgi_app, make_wsgi_app, start_http_server

from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE, Catalog
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import Collector
from bufpool_workers.metrics.page import status

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
_TEXT: Final = "text/plain; charset=utf-8"
_NOT_FOUND: Final = b"not found; there are /, /metrics, /healthz and /status.json\n"

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ASGIApp = Callable[
    [
        Mapping[str, Any],
        Callable[[], Awaitable[Mapping[str, Any]]],
        Callable[[Mapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


def wsgi_app(
    directory: str | os.PathLike[str] | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    compact_foreign: bool = False,
) -> WSGIApp:
    """Make a WSGI application over `directory`, by default that of PROMETHEUS_MULTIPROC_DIR.

    `gunicorn 'bufpool_workers.metrics:wsgi_app()'`. Raises MetricsError when there is no such
    directory.
    """
    pages = _Pages(directory, namespace=namespace, compact_foreign=compact_foreign)
    scrape = make_wsgi_app(pages.registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        try:
            if path == "/metrics":
                body: Iterable[bytes] = scrape(environ, start_response)
            else:
                body = _send(pages.show(path), start_response)
        except MetricsError as error:
            body = _send(_Page.failed(error), start_response)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return app


def asgi_app(
    directory: str | os.PathLike[str] | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    compact_foreign: bool = False,
) -> ASGIApp:
    """Make an ASGI application, as `wsgi_app` makes a WSGI one; a scrape blocks its loop for ms."""
    pages = _Pages(directory, namespace=namespace, compact_foreign=compact_foreign)
    scrape = make_asgi_app(pages.registry)

    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        if scope["method"] == "HEAD":
            send = _without_body(send)
        path = _own_path(scope)
        if path == "/metrics":
            try:
                await scrape(scope, receive, send)
            except MetricsError as error:
                page = _Page.failed(error)
            else:
                return
        else:
            page = pages.show(path)
        headers = [(name.encode(), value.encode()) for name, value in page.headers]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": page.body})

    return app


def _own_path(scope: Mapping[str, Any]) -> str:
    """Give the path below where the application is mounted; ASGI's `path` has it in front."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # as it does not with some servers, and with frameworks of before they followed it
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def _without_body(send: Any) -> Any:
    async def send_head(message: Mapping[str, Any]) -> None:
        await send({**message, "body": b""} if "body" in message else message)

    return send_head


class Endpoint:
    """A server on a thread of this process; prometheus_client's own, with our pages."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._pid = os.getpid()

    @classmethod
    def start(cls, app: WSGIApp, *, port: int, host: str = LOOPBACK, **tls: Any) -> Self:
        """Listen, on loopback unless told otherwise; port 0 takes a free one.

        `tls` goes to prometheus_client's `start_http_server`: `certfile` and `keyfile`, and
        `client_cafile` or `client_capath` with `client_auth_required=True` to let in known clients
        only. Raises MetricsError that names the address when it can't be had.
        """
        for name in ("certfile", "keyfile", "client_cafile", "client_capath"):
            path = tls.get(name)
            if path is not None and not os.access(path, os.R_OK):
                raise MetricsError(f"metrics endpoint: {name} {path!r} can't be read")
        try:
            server, _ = start_http_server(port, host, registry=CollectorRegistry(), **tls)
        except OSError as error:
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise MetricsError(f"metrics endpoint {address}: {error.strerror or error}") from error
        if hasattr(server.socket, "do_handshake_on_connect"):
            # In the request's thread: a client that never says hello would block all others.
            server.socket.do_handshake_on_connect = False
        server.handle_error = _note_error  # type: ignore[method-assign]  # the class is not ours
        server.set_app(app)
        return cls(server)

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
    """Log in a line what broke a connection off, above all a handshake: anybody can have one."""
    error = sys.exception()
    logger.warning(
        "bufpool: metrics endpoint: a request from %s failed: %s",
        client_address[0],
        error,
        exc_info=None if isinstance(error, OSError) else error,
    )


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    body: bytes
    content_type: str = _TEXT
    policy: str = "default-src 'none'"

    @classmethod
    def failed(cls, error: MetricsError) -> Self:
        return cls(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", self.policy),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]


class _Pages:
    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        *,
        namespace: str,
        compact_foreign: bool,
    ) -> None:
        where = directory or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not where or not os.path.isdir(where):  # noqa: PTH112 - a path as it was given
            raise MetricsError(
                f"metrics directory {str(where or '')!r} is not there: give one, or set "
                "PROMETHEUS_MULTIPROC_DIR to the one that the workers use"
            )
        # the registry and the page share one, which names a file that can't be read once
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self._collector = Collector(
            self.registry,
            os.fspath(where),
            catalog=Catalog(namespace),
            compact_foreign=compact_foreign,
        )

    def show(self, path: str) -> _Page:
        if path == "/healthz":
            return _Page(HTTPStatus.OK, b"ok\n")
        if path not in {"", "/", "/status.json"}:
            return _Page(HTTPStatus.NOT_FOUND, _NOT_FOUND)
        try:
            report = self._collector.report()
        except MetricsError as error:
            return _Page.failed(error)
        if path == "/status.json":
            body = json.dumps(report.as_dict()).encode()
            return _Page(HTTPStatus.OK, body, "application/json")
        policy = status.policy()
        return _Page(HTTPStatus.OK, status.show(report), "text/html; charset=utf-8", policy)


def _send(page: _Page, start_response: Callable[..., Any]) -> list[bytes]:
    start_response(f"{page.status} {HTTPStatus(page.status).phrase}", page.headers)
    return [page.body]


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
