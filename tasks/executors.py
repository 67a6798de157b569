"""Executors: `ProcessPoolExecutor(initializer=start_process)`.

Settings come from the environment, as for RQ. The parent calls `start_node` first where it wants
one scrape of all its processes. A token's task is module and name of the function.
"""

import bufpool_workers as bp
from tasks.images import PIXELS, SCALED, is_password, scale_into


@bp.pooled_buffer(PIXELS, name="raw")
@bp.pooled_buffer(SCALED, name="scaled")
def scale(source: str, factor: float, *, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Scale an image: `executor.submit(scale, path, 0.5)`."""
    return scale_into(source, factor, raw, scaled)


@bp.sealed("password")
def login(user: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer) -> str | None:
    """Check a password: `bp.seal(password, task="tasks.executors.login", argument="password")`."""
    return user if is_password(password, salt_hex, expected_hex) else None
