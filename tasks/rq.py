"""RQ: `rq worker --worker-class bufpool_workers.rq.SimpleWorker`.

Settings come from the environment: BUFPOOL_WARM='{"regular": {"1MiB": 1, "4MiB": 1}}' has what one
job holds at once. Producers give their queue the class that refuses plain secrets.
"""

import os

from redis import Redis
from rq import Queue

import bufpool_workers as bp
from bufpool_workers.rq import Job
from tasks.images import PIXELS, SCALED, is_password, scale_into

redis = Redis.from_url(os.environ.get("BUFPOOL_BROKER_URL", "redis://localhost:6379/0"))
queue = Queue(connection=redis, job_class=Job)


@bp.pooled_buffer(PIXELS, name="raw")
@bp.pooled_buffer(SCALED, name="scaled")
def scale(source: str, factor: float, *, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Scale an image; the buffers are lent for this call."""
    return scale_into(source, factor, raw, scaled)


@bp.sealed("password")
def login(user: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer) -> str | None:
    """Check a password: `bp.seal(password, task="tasks.rq.login", argument="password")`."""
    return user if is_password(password, salt_hex, expected_hex) else None
