"""Tasks that keep views of their buffers."""

import os

from celery import shared_task

import bufpool_workers as bp

kept = []


@shared_task
def keep_slice() -> int:
    with bp.buffer(4096) as buf:
        kept.append(buf[:10])
    return os.getpid()


@shared_task
def hold_at_end() -> int:
    held = bp.secure_buffer(100)
    kept.append((held, held[:10]))
    return os.getpid()


@shared_task
@bp.pooled_buffer(4096)
def keep_decorated(*, buf: bp.Buffer) -> int:
    kept.append(buf[:10])
    return os.getpid()


@shared_task
@bp.sealed("secret")
def keep_sealed(secret: bp.Buffer) -> int:
    kept.append(secret[:1])
    return os.getpid()
