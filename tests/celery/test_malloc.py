"""bufpool_tune_malloc: its effect in real workers, and its refusal where there is no glibc."""

import ctypes
import signal
import sys

import pytest

from bufpool_workers.errors import SettingsError
from bufpool_workers.runtime import malloc

PAIRS = 20
FAULTS_OF_A_MAPPED_PAIR = 4  # the least, with huge pages of 2 MiB


@pytest.fixture
def faults_in_a_worker(start_worker):
    def faults(pool, **settings):
        arguments = [f"--pool={pool}", "--concurrency=1", "--include=malloc_tasks"]
        worker = start_worker("plugin_app:app", arguments=arguments, settings=settings)
        return worker.run("malloc_tasks.page_faults", PAIRS)

    return faults


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_large_blocks_fault_no_more_in_a_tuned_worker(faults_in_a_worker, pool):
    assert faults_in_a_worker(pool, bufpool_tune_malloc=True) < PAIRS


def test_large_blocks_fault_each_time_in_a_worker_as_it_comes(faults_in_a_worker):
    assert faults_in_a_worker("prefork") >= PAIRS * FAULTS_OF_A_MAPPED_PAIR


class OtherLibrary:
    """A C library that has mallopt, but is not glibc."""

    def mallopt(self, option, value):
        raise AssertionError((option, value))


class RefusingGlibc:
    gnu_get_libc_version = None

    def mallopt(self, option, value):
        return 0


@pytest.fixture
def c_library(monkeypatch):
    return lambda library: monkeypatch.setattr(ctypes, "CDLL", lambda _: library)


@pytest.mark.parametrize("use", [malloc.check, malloc.tune])
def test_it_is_refused_on_another_c_library(c_library, use):
    c_library(OtherLibrary())
    with pytest.raises(SettingsError, match="bufpool_tune_malloc = True: it needs glibc"):
        use()


@pytest.mark.parametrize("use", [malloc.check, malloc.tune])
def test_it_is_refused_on_another_system(monkeypatch, use):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SettingsError, match=r"\(darwin\)"):
        use()


def test_a_refusal_by_glibc_is_an_error_that_names_the_threshold(c_library):
    c_library(RefusingGlibc())
    with pytest.raises(OSError, match="refused M_MMAP_THRESHOLD = 33554432"):
        malloc.tune()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_without_glibc_does_not_start(start_worker, pool):
    worker = start_worker(
        "foreign_c_app:app",
        ready=False,
        arguments=[f"--pool={pool}", "--concurrency=1"],
        settings={"bufpool_tune_malloc": True},
    )
    assert worker.wait() not in (0, -signal.SIGKILL)
    assert "bufpool_tune_malloc = True: it needs glibc" in worker.log()
    assert " ready." not in worker.log()
