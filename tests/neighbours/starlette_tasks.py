"""Tasks of a Starlette app: they count as its web processes do."""

import asyncio

from celery import shared_task
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware


def orders(request):
    return PlainTextResponse("none")


web = Starlette(routes=[Route("/orders", orders)])
web.add_middleware(PrometheusMiddleware, app_name="shop", prefix="web")


@shared_task
def visit():
    """Send the app one request, as a server does."""
    scope = {"type": "http", "method": "GET", "path": "/orders", "query_string": b""}
    scope |= {"headers": [], "http_version": "1.1", "scheme": "http", "server": ("web", 80)}
    statuses = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(web(scope, receive, send))
    return statuses
