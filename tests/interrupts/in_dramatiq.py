"""The storm that Dramatiq's time limits are: exceptions set in threads, at any moment of theirs."""

import gc
import random
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import default_middleware
from dramatiq.middleware.time_limit import TimeLimit, TimeLimitExceeded
from dramatiq.threading import raise_thread_exception
from dramatiq.worker import WorkerThread

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.dramatiq import BufpoolMiddleware
from bufpool_workers.runtime import current_runtime
from bufpool_workers.sealing import generate_key
from bufpool_workers.settings import KINDS
from tests.interrupts.harness import Outcome, quiet

THREADS = 4
_LONGEST_PAUSE = 0.0006
_SWALLOWED_SECONDS = 5
_STUCK_SECONDS = 60
_SWITCH_SECONDS = 0.00002


def storm(interrupts: int, *, folder: Path, seed: int = 1) -> Outcome:
    """Interrupt four threads that process messages as Dramatiq's own do, then look at the pools."""
    testing.reset()
    public = generate_key(folder / "key")
    broker = StubBroker(middleware=[m() for m in default_middleware if m is not TimeLimit])
    middleware = BufpoolMiddleware({"private_keys": [str(folder / "key")]})
    broker.add_middleware(middleware)
    token = bp.seal(b"mine", task="seals", argument="secret", public_key=public)
    threads = [_Thread(broker, name, token) for name in _actors(broker)]
    middleware.after_process_boot(broker)
    switch = sys.getswitchinterval()
    with quiet():
        sys.unraisablehook = _count_swallowed  # `quiet` puts the former one back
        try:
            sys.setswitchinterval(_SWITCH_SECONDS)
            outcome = _strike(threads, interrupts, seed=seed)
        finally:
            sys.setswitchinterval(switch)
            broker.close()
        _audit(outcome, threads)
    testing.reset()
    return outcome


def _actors(broker: StubBroker) -> list[str]:
    kept = defaultdict(list)

    def mine(buffer):
        tag = threading.get_ident().to_bytes(8, "big")
        buffer[:8] = tag
        if buffer[:8] != tag:
            kept["shared"].append(tag)

    @dramatiq.actor(broker=broker, max_retries=0)
    @bp.pooled_buffer("4KiB")
    @bp.pooled_buffer("2KiB", name="other", kind="random")
    def decorated(token, *, buf, other):
        mine(buf)
        mine(other)

    @dramatiq.actor(broker=broker, max_retries=0)
    def withs(token):
        with bp.buffer("4KiB") as one, bp.secure_buffer("1KiB") as two, memoryview(one) as view:
            mine(view)
            mine(two)

    @dramatiq.actor(broker=broker, max_retries=0)
    def keeps(token):
        kept[threading.get_ident()] = [bp.buffer("4KiB"), bp.secure_buffer("1KiB")]
        mine(kept[threading.get_ident()][0])

    @dramatiq.actor(broker=broker, max_retries=0)
    @bp.sealed("secret")
    def seals(secret):
        if bytes(secret) != b"mine":
            kept["shared"].append(bytes(secret))

    _Thread.shared = kept["shared"]
    return ["decorated", "withs", "keeps", "seals"]


class _Thread(threading.Thread):
    """Processes one message after the other, by the code of Dramatiq's worker thread."""

    shared: list[bytes]

    def __init__(self, broker: StubBroker, name: str, token: str) -> None:
        super().__init__(daemon=True)
        self.struck = self.processed = 0
        self._met = 0  # how many exceptions before the message that is processed
        self._sent = -1, 0.0  # that when the last one was set, and the time
        self.wrong: list[BaseException] = []
        self.stopping = False
        self._actor, self._args = broker.get_actor(name), (token,)
        consumers = defaultdict(lambda: SimpleNamespace(post_process_message=self._done))
        self._worker = WorkerThread(
            broker=broker,
            consumers=consumers,
            work_queue=SimpleNamespace(task_done=lambda: None),
            worker_timeout=100,
        )

    def _done(self, message: MessageProxy) -> None:
        error = message._exception
        if error is None:
            self.processed += 1
        elif isinstance(error, TimeLimitExceeded) or isinstance(
            error.__context__, TimeLimitExceeded
        ):
            self.struck += 1
        else:
            self.wrong.append(error)

    def run(self) -> None:
        while not self.stopping:
            try:
                self._run()
            except TimeLimitExceeded:
                self.struck += 1

    def _run(self) -> None:
        try:
            while not self.stopping:
                self._met = self.struck
                self._worker.process_message(MessageProxy(self._actor.message(*self._args)))
        except TimeLimitExceeded:
            self.struck += 1

    def strike(self) -> None:
        """Set an exception, unless the one before is still to be met.

        One that comes while another is on its way could end the thread, as it would Dramatiq's.
        """
        met, when = self._sent
        if self._met > met or time.monotonic() > when + _SWALLOWED_SECONDS:
            self._sent = self._met, time.monotonic()
            raise_thread_exception(self.ident, TimeLimitExceeded)

    def end(self) -> None:
        """Process one more message: it ends a job that was interrupted last."""
        self._worker.process_message(MessageProxy(self._actor.message(*self._args)))


def _count_swallowed(unraisable: "sys.UnraisableHookArgs") -> None:
    """Count an exception that was raised in a finalizer."""
    thread = threading.current_thread()
    if isinstance(thread, _Thread) and isinstance(unraisable.exc_value, TimeLimitExceeded):
        thread.struck += 1


def _strike(threads: list[_Thread], interrupts: int, *, seed: int) -> Outcome:
    dice, last = random.Random(seed), time.monotonic() + _STUCK_SECONDS
    pause = threading.Event()  # never set: its wait lets the threads run
    for thread in threads:
        thread.start()
    struck = 0
    while struck < interrupts:
        for thread in threads:
            thread.strike()
        if dice.random() < 0.5:
            pause.wait(dice.uniform(0, _LONGEST_PAUSE))
        before, struck = struck, sum(thread.struck for thread in threads)
        if struck > before:
            last = time.monotonic() + _STUCK_SECONDS
        elif time.monotonic() > last:
            raise TimeoutError("the threads are stuck")
    for thread in threads:
        thread.stopping = True
    for thread in threads:
        thread.join(_STUCK_SECONDS)
        if thread.is_alive():
            raise TimeoutError("a thread is stuck")
    return Outcome(interrupts=sum(thread.struck for thread in threads))


def _audit(outcome: Outcome, threads: list[_Thread]) -> None:
    if wrong := [error for thread in threads for error in thread.wrong]:
        raise wrong[0]
    if not all(thread.processed for thread in threads):
        raise AssertionError("a thread processed nothing")
    for thread in threads:
        thread.end()
    gc.collect()
    stats = current_runtime().pools.stats()
    outcome.lost = stats.total.in_use
    outcome.doubled = len(_Thread.shared)
    for kind in KINDS:
        numbers = getattr(stats, kind)
        outcome.miscounted += abs(numbers.gets - numbers.puts)
        outcome.miscounted += abs(numbers.gets - numbers.hits - numbers.misses)
