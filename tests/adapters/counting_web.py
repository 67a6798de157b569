"""A web application with metrics of prometheus_client, for WSGI and ASGI servers."""

from prometheus_client import Counter, Histogram

import bufpool_workers as bp

bp.configure()  # settings of the environment; the process counts
REQUESTS = Counter("web_requests", "Requests that were answered.")
SECONDS = Histogram("web_seconds", "How long they took.", buckets=(1, 2))


def answer() -> bytes:
    """Use a buffer, and count."""
    with bp.buffer(4096):
        REQUESTS.inc()
        SECONDS.observe(1.5)
    return b"done\n"


def wsgi(environ, start_response):
    """Answer as a WSGI application."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer()]


async def asgi(scope, receive, send):
    """Answer as an ASGI application."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer()})
