"""The pools of this package in the storm, used in the ways that a task uses them."""

import itertools
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime
from bufpool_workers.settings import KINDS, Settings

NBYTES = 3000
WARM = {kind: {4096: 4} for kind in KINDS}
MINE, OTHERS = b"mine", b"them"


class With:
    """`with buffer(n)`; the pools of this process are made anew for each storm."""

    way = "with"

    def __init__(self, kind: str = "regular") -> None:
        self.name = f"bufpool_workers: {self.way}, {kind}"
        self.kind = kind
        self.shared = 0
        self.lend = getattr(bp, "buffer" if kind == "regular" else f"{kind}_buffer")
        testing.configure(self.settings())
        self.pools = current_runtime().pools
        self.pools.warm()

    def settings(self) -> Settings:
        return Settings(warm=WARM)

    def use(self) -> None:
        with self.lend(NBYTES) as buffer:
            self.work(buffer)

    def work(self, buffer: bp.Buffer) -> None:
        buffer[:4] = MINE
        self.shared += buffer[:4] != MINE

    def use_again(self) -> None:
        again = self.lend(NBYTES)
        again[:4] = OTHERS
        again.release()

    def out(self) -> int:
        return self.pools.stats().total.in_use

    def miscounted(self) -> int:
        wrong = 0
        for kind in KINDS:
            pool = getattr(self.pools, kind)
            stats = pool.stats()
            classes = zip(pool.size_classes, stats.sizes.values(), strict=False)
            idle_bytes = sum(size * numbers.idle for size, numbers in classes)
            wrong += abs(stats.held_bytes - idle_bytes)
            for numbers in (stats, *stats.sizes.values()):
                wrong += abs(numbers.gets - numbers.puts)
                wrong += abs(numbers.gets - numbers.hits - numbers.misses)
        return wrong

    def drain(self) -> list[Any]:
        pool = getattr(self.pools, self.kind)
        idle = [numbers.idle for numbers in pool.stats().sizes.values()]
        sizes = zip(pool.size_classes, idle, strict=False)
        return [pool.acquire(size) for size, count in sizes for _ in range(count)]


class Release(With):
    """Taken and given back by hand."""

    way = "release()"

    def use(self) -> None:
        buffer = self.lend(NBYTES)
        self.work(buffer)
        buffer.release()


class Views(With):
    """Given back while views of it live, so that it waits for the last of them."""

    way = "escaping views"

    def use(self) -> None:
        with self.lend(NBYTES) as buffer:
            view = buffer[8:]
            part = view[1:]
            part[0] = 1
            self.work(buffer)
        del view, part


class Decorated(With):
    """A function with two buffers by decorator."""

    way = "pooled_buffer"

    def __init__(self, kind: str = "regular") -> None:
        super().__init__(kind)

        @bp.pooled_buffer(NBYTES, kind=kind)
        @bp.pooled_buffer(lambda n: n, name="other", kind=kind)
        def work(n: int, *, buf: bp.Buffer, other: bp.Buffer) -> None:
            self.work(buf)
            self.work(other)

        self._function = work

    def use(self) -> None:
        self._function(100)


class WholeTask(With):
    """A task that Celery's tracer runs, with a buffer that it ends holding."""

    way = "whole task"

    def __init__(self, kind: str = "regular") -> None:
        super().__init__(kind)
        app = Celery("interrupted", set_as_current=False)
        app.conf.update(task_ignore_result=True, bufpool_warm=WARM)
        testing.reset()
        bp.setup(app)
        self.pools = current_runtime().pools
        self._kept: list[bp.Buffer] = []
        self._ids = map(str, itertools.count())

        @app.task(name="work", shared=False)
        @bp.pooled_buffer(NBYTES, kind=kind)
        def work(*, buf: bp.Buffer) -> None:
            self._kept.append(self.lend(100))
            self.work(buf)

        self._trace = build_tracer(work.name, work, app=app)

    def use(self) -> None:
        self._kept.clear()
        number = next(self._ids)
        self._trace(number, (), {}, {"id": number, "delivery_info": {}})

    def out(self) -> int:
        with suppress(IndexError):
            self.use()  # ends the task that was interrupted last, as the next one does
        return super().out()
