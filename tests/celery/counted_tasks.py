"""Tasks that note what they were lent, in a line of a file, before they end or are killed."""

import json
import os
import signal

from celery import shared_task

import bufpool_workers as bp


def _borrow(name: str, sizes: list[int], path: str) -> None:
    held = [bp.buffer(size) for size in sizes]
    line = json.dumps({"task": name, "gets": len(sizes), "peak_bytes": sum(sizes)})
    with open(path, "a") as file:  # noqa: PTH123 - one write, which no kill halves
        file.write(f"{line}\n")
    for buffer in held:
        buffer.release()


@shared_task
def resize(sizes: list[int], path: str) -> int:
    _borrow("counted_tasks.resize", sizes, path)
    return os.getpid()


@shared_task
def mail(sizes: list[int], path: str) -> int:
    _borrow("counted_tasks.mail", sizes, path)
    return os.getpid()


@shared_task
def die(sizes: list[int], path: str) -> None:
    _borrow("counted_tasks.die", sizes, path)
    os.kill(os.getpid(), signal.SIGKILL)
