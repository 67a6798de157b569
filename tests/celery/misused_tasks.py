"""Tasks that misuse buffers in every way that is counted."""

import ctypes

from celery import shared_task

import bufpool_workers as bp

kept = []


@shared_task
def escapes():
    with bp.buffer(4096) as buf:
        kept.append(buf[:10])


@shared_task
@bp.pooled_buffer(4096)
def decorated_escapes(*, buf: bp.Buffer):
    kept.append(buf[:10])


@shared_task
def reclaims():
    bp.buffer(100)


@shared_task
def held_reclaims():
    kept.append(bp.buffer(100))


@shared_task
def damages():
    with bp.secure_buffer(100) as buf:
        memory = (ctypes.c_char * len(buf)).from_buffer(buf)
        at = ctypes.addressof(memory)
        del memory
        ctypes.memmove(at + 100, b"x" * 8, 8)


@shared_task
def unlocked():
    with bp.secure_buffer(100):
        pass
