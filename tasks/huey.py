"""Huey: `huey_consumer tasks.huey.huey --worker-type process`.

Settings come from the environment: BUFPOOL_WARM='{"regular": {"1MiB": 1, "4MiB": 1}}' has what one
task holds at once, for each worker that is a process.
"""

import os

from huey import RedisHuey

import bufpool_workers as bp
from bufpool_workers.huey import setup
from tasks.images import PIXELS, SCALED, is_password, scale_into

huey = RedisHuey("tasks", url=os.environ.get("BUFPOOL_BROKER_URL", "redis://localhost:6379/0"))
setup(huey)


@huey.task()
@bp.pooled_buffer(PIXELS, name="raw")
@bp.pooled_buffer(SCALED, name="scaled")
def scale(source: str, factor: float, *, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Scale an image; the buffers are lent for this call."""
    return scale_into(source, factor, raw, scaled)


@huey.task()
@bp.sealed("password")
def login(user: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer) -> str | None:
    """Check a password: `bp.seal(password, task="tasks.huey.login", argument="password")`."""
    return user if is_password(password, salt_hex, expected_hex) else None
