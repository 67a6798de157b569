"""A task that uses pools from many greenlets at once."""

import random
import warnings

import gevent
from celery import shared_task
from gevent.queue import Queue

import bufpool_workers as bp

SIZES = (100, 3000, 70_000)


@shared_task
def share_among_greenlets(greenlets: int, rounds: int) -> int:
    """Write to buffers and change greenlets before reading again; counts what was not intact.

    Some keep a view past their buffer, for another greenlet to look at and drop.
    """
    views: Queue = Queue()
    damaged = 0

    def work(number: int) -> None:
        nonlocal damaged
        dice, mark = random.Random(number), bytes([number % 250 + 1])
        for turn in range(rounds):
            nbytes = dice.choice(SIZES)
            with bp.buffer(nbytes) as buffer, bp.secure_buffer(64) as secret:
                buffer[:] = mark * nbytes
                secret[:] = mark * 64
                gevent.sleep(0)
                damaged += bytes(buffer) != mark * nbytes or bytes(secret) != mark * 64
                if turn % 10 == 0:
                    views.put((memoryview(buffer), mark))
            if not views.empty():
                view, its_mark = views.get()
                damaged += bytes(view) != its_mark * view.nbytes
                view.release()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gevent.joinall([gevent.spawn(work, n) for n in range(greenlets)], raise_error=True)
    while not views.empty():
        view, mark = views.get()
        damaged += bytes(view) != mark * view.nbytes
        view.release()
    return damaged
