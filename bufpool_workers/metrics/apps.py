"""The scrape over HTTP, as an application for WSGI and ASGI servers.

`/metrics` is for Prometheus, `/healthz` for probes, `/` for people, `/status.json` for programs.
"""

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry, make_asgi_app, make_wsgi_app

from bufpool_workers._environ import directory_of_environment
from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE, Catalog
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import Collector
from bufpool_workers.metrics.page import status

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

    app.sample = pages.sample  # type: ignore[attr-defined]  # for `Endpoint`
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
    """Return the path below the application's mount point; ASGI's `path` has it in front."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # some servers and older frameworks leave it out
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def _without_body(send: Any) -> Any:
    async def send_head(message: Mapping[str, Any]) -> None:
        await send({**message, "body": b""} if "body" in message else message)

    return send_head


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
        where = directory or directory_of_environment()
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

    def sample(self) -> None:
        """Keep the history while nobody asks."""
        self._collector.sample()

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
