"""The scrape over HTTP, as an application for WSGI and ASGI servers.

`/metrics` is for Prometheus, `/healthz` for probes, `/` for people, `/status.json` for programs.
"""

import gzip
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from bufpool_workers._environ import VARIABLE, directory_of_environment
from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE, Catalog
from bufpool_workers.counters.directory import fault_of
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import Collector
from bufpool_workers.metrics.page import status

_TEXT: Final = "text/plain; charset=utf-8"
_ALLOW: Final = (("Allow", "OPTIONS, GET, HEAD"),)
_NOT_ALLOWED: Final = b"only GET, HEAD and OPTIONS\n"
_GZIP_LEVEL: Final = 1
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
    disable_compression: bool = False,
) -> WSGIApp:
    """Make a WSGI application over `directory`, by default that of PROMETHEUS_MULTIPROC_DIR.

    `gunicorn 'bufpool_workers.metrics:wsgi_app()'`. Raises MetricsError when there is no such
    directory.
    """
    pages = _Pages(directory, namespace=namespace, compact_foreign=compact_foreign)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        page = pages.answer(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            query=environ.get("QUERY_STRING", ""),
            accept=environ.get("HTTP_ACCEPT", ""),
            accept_encoding="" if disable_compression else environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        start_response(f"{page.status} {HTTPStatus(page.status).phrase}", page.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page.body]

    app.sample = pages.sample  # type: ignore[attr-defined]  # for `Endpoint`
    return app


def asgi_app(
    directory: str | os.PathLike[str] | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    compact_foreign: bool = False,
    disable_compression: bool = False,
) -> ASGIApp:
    """Make an ASGI application, as `wsgi_app` makes a WSGI one; a scrape blocks its loop for ms."""
    pages = _Pages(directory, namespace=namespace, compact_foreign=compact_foreign)

    async def app(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        page = pages.answer(
            scope["method"],
            _own_path(scope),
            query=scope.get("query_string", b"").decode("latin-1"),
            accept=_header(scope, b"accept"),
            accept_encoding="" if disable_compression else _header(scope, b"accept-encoding"),
        )
        headers = [(name.encode(), value.encode()) for name, value in page.headers]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})

    return app


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    values = (value for key, value in scope.get("headers", ()) if key.lower() == name)
    return b",".join(values).decode("latin-1")


def _own_path(scope: Mapping[str, Any]) -> str:
    """Return the path below the application's mount point; ASGI's `path` has it in front."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    # some servers and older frameworks leave it out
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    body: bytes
    content_type: str = _TEXT
    policy: str = "default-src 'none'"
    more_headers: tuple[tuple[str, str], ...] = ()

    def compressed(self) -> Self:
        """Return the answer compressed by gzip; its lowest level makes a scrape's text a tenth."""
        encoding = ("Content-Encoding", "gzip")
        body = gzip.compress(self.body, _GZIP_LEVEL)
        return replace(self, body=body, more_headers=(*self.more_headers, encoding))

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", self.policy),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            *self.more_headers,
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
        fault = fault_of(where) if where else "none is given"
        if not where or fault:
            raise MetricsError(
                f"metrics directory {str(where or '')!r}: {fault}; name the one that the workers "
                f"count in, or set {VARIABLE} to it"
            )
        # all share one, which names a file that can't be read once
        registry = CollectorRegistry(support_collectors_without_names=True)
        self._collector = Collector(
            registry, os.fspath(where), catalog=Catalog(namespace), compact_foreign=compact_foreign
        )
        self._registry = registry

    def sample(self) -> None:
        """Keep the history while nobody asks."""
        self._collector.sample()

    def answer(
        self, method: str, path: str, *, query: str, accept: str, accept_encoding: str
    ) -> _Page:
        """Answer a request, whose body is for all methods but HEAD."""
        if method == "OPTIONS":
            return _Page(HTTPStatus.OK, b"", more_headers=_ALLOW)
        if method not in {"GET", "HEAD"}:
            return _Page(HTTPStatus.METHOD_NOT_ALLOWED, _NOT_ALLOWED, more_headers=_ALLOW)
        try:
            page = self._scrape(query, accept) if path == "/metrics" else self._show(path)
        except MetricsError as error:
            return _Page(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
        return page.compressed() if gzip_accepted(accept_encoding) else page

    def _scrape(self, query: str, accept: str) -> _Page:
        encoder, content_type = choose_encoder(accept)
        names = parse_qs(query).get("name[]")
        if names:
            body = encoder(self._registry.restricted_registry(names))
        else:
            body = self._collector.text(encoder, content_type)
        return _Page(HTTPStatus.OK, body, content_type)

    def _show(self, path: str) -> _Page:
        if path == "/healthz":
            return _Page(HTTPStatus.OK, b"ok\n")
        if path not in {"", "/", "/status.json"}:
            return _Page(HTTPStatus.NOT_FOUND, _NOT_FOUND)
        report = self._collector.report()
        if path == "/status.json":
            body = json.dumps(report.as_dict()).encode()
            return _Page(HTTPStatus.OK, body, "application/json")
        policy = status.policy()
        return _Page(HTTPStatus.OK, status.show(report), "text/html; charset=utf-8", policy)


async def _live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
