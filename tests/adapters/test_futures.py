"""Executors of real processes: warm pools, jobs, sealed arguments, and one exact scrape."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import forkserver

import pytest

import bufpool_workers as bp
from bufpool_workers import futures, testing
from bufpool_workers.diagnostics.limits import machine_bytes
from bufpool_workers.metrics import read_report
from bufpool_workers.units import GiB
from tests.adapters import futures_work as work
from tests.support.scrape import read_samples, value

SETTINGS = {"warm": {"regular": {"1MiB": 2, "4KiB": 2}}}
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(autouse=True)
def own_process(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    (tmp_path / "metrics").mkdir()
    testing.reset()
    yield
    testing.reset()
    forkserver._forkserver._stop()  # the next one shall have the next test's environment


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "metrics"


def executor(method, workers=2, settings=SETTINGS, **options):
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context(method),
        initializer=futures.start_process,
        initargs=(settings,),
        **options,
    )


@pytest.mark.parametrize("method", METHODS)
def test_processes_are_warm_and_every_buffer_is_counted(method, directory):
    with executor(method) as pool:
        pids, misses = zip(*pool.map(work.fill, range(40)), strict=True)
    assert set(misses) == {0}
    report = read_report(directory)
    assert report.total.gets == report.total.hits == report.total.puts == 40
    assert len(set(pids)) <= 2
    assert report.processes == ()  # all have ended, and closed their pools


def test_node_does_not_start_with_what_its_processes_could_not_use():
    with pytest.raises(bp.KeyFileError, match=r"private key file /absent\.key: No such file"):
        futures.start_node({"private_keys": ["/absent.key"]})
    testing.reset()
    count = machine_bytes() // GiB + 1
    many = {"size_classes": ["1GiB"], "max_bytes": {"regular": f"{count}GiB"}}
    with pytest.raises(bp.SettingsError, match=r"bufpool_warm takes .* in 1 process, "):
        futures.start_node({**many, "warm": {"regular": {"1GiB": count}}})


@pytest.mark.parametrize("method", ["spawn", "forkserver"])  # fork has no max_tasks_per_child
def test_numbers_of_replaced_processes_stay(method, directory):
    with executor(method, workers=1, max_tasks_per_child=5) as pool:
        # one after the other: a queue hangs here, with or without us (CPython issue 115634)
        pids = {pool.submit(work.fill, number).result()[0] for number in range(12)}
    assert len(pids) == 3
    assert read_report(directory).total.gets == 12


def test_processes_of_a_multiprocessing_pool_are_warm(directory):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, futures.start_process, (SETTINGS,), maxtasksperchild=5) as pool:
        assert {misses for _, misses in pool.map(work.fill, range(20), chunksize=1)} == {0}
        pool.close()
        pool.join()
    assert read_report(directory).total.gets == 20


def test_processes_of_loky_are_warm(directory):
    loky = pytest.importorskip("joblib.externals.loky", reason="joblib is not installed")
    pool = loky.ProcessPoolExecutor(2, initializer=futures.start_process, initargs=(SETTINGS,))
    with pool:
        assert {misses for _, misses in pool.map(work.fill, range(20))} == {0}
    assert read_report(directory).total.gets == 20


@pytest.mark.filterwarnings("default::ResourceWarning")  # a forked process has the parent's
@pytest.mark.parametrize("method", METHODS)
def test_what_a_job_holds_is_taken_back_when_it_is_over(method, directory):
    with executor(method, workers=1) as pool:
        for number in range(3):
            pool.submit(work.keep, number).result()
        assert pool.submit(work.held, 0).result() == [True] * 3
    assert read_report(directory).total.reclaims == 3


def test_killed_process_loses_no_count(directory, tmp_path):
    with executor("fork", workers=1) as pool:
        pool.submit(work.fill, 1).result()
        with pytest.raises(BrokenProcessPool):
            pool.submit(work.die, str(tmp_path)).result()
    assert read_report(directory).total.gets == 2


@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "as_job"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_sealed_arguments_are_opened(method, wrapped, tmp_path):
    public_key = bp.generate_key(tmp_path / "key")
    login = futures.as_job(work.login)
    assert login.name == "tests.adapters.futures_work.login"
    token = bp.seal("secret", task=login, argument="password", public_key=public_key)
    settings = {"private_keys": [str(tmp_path / "key")]}
    with executor(method, workers=1, settings=settings) as pool:
        function = login if wrapped else work.login
        assert pool.submit(function, "ada", token).result() == ("ada", b"secret")
        with pytest.raises(bp.NotSealed):
            pool.submit(function, "ada", "secret").result()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_result_of_a_job_is_sealed_and_that_of_a_plain_call_is_not(method, tmp_path):
    public_key = bp.generate_key(tmp_path / "key")
    parents = bp.generate_key(tmp_path / "parents")
    mint = futures.as_job(work.mint)
    token = bp.seal("secret", task=mint, argument="password", public_key=public_key)
    settings = {
        "public_key": public_key,
        "private_keys": [str(tmp_path / "key")],
        "result_public_keys": [parents],
        "result_private_keys": [str(tmp_path / "parents")],
    }
    testing.configure(bp.Settings.read(settings))
    with executor(method, workers=1, settings=settings) as pool:
        future = pool.submit(mint, token)
        assert future.result().startswith("bpr1.")
        with bp.unseal_result(future, task=mint) as secret:
            assert bytes(secret) == b"secret"
        assert pool.submit(work.mint, token).result() == b"secret"
        with pytest.raises(bp.NotSealed):
            bp.unseal_result(pool.submit(mint, "plain"), task=mint)


def test_parent_serves_its_processes_with_their_own_metrics(directory):
    endpoint = futures.start_node({**SETTINGS, "metrics_port": 0, "compact_foreign": True})
    with closing(endpoint), executor("spawn", settings={**SETTINGS, "metrics_port": 0}) as pool:
        list(pool.map(work.fill, range(10)))
        samples = read_samples(f"{endpoint.url}metrics")
        assert value(samples, "work_done_total") == 10
        assert value(samples, "bufpool_gets_total", pool="regular", size="1mb") == 10


PRIVATE = """
import os, sys
os.environ.pop("PROMETHEUS_MULTIPROC_DIR")
from concurrent.futures import ProcessPoolExecutor
from bufpool_workers import futures, metrics
def main():
    endpoint = futures.start_node({"metrics_port": 0})
    from tests.adapters import futures_work as work
    with ProcessPoolExecutor(1, initializer=futures.start_process) as pool:
        list(pool.map(work.fill, range(10)))
    directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
    print(directory, metrics.read_report(directory).total.gets)
if __name__ == "__main__":
    main()
"""


def test_without_a_directory_there_is_a_private_one_that_ends_with_the_parent(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    directory, gets = done.stdout.split()
    assert gets == "10"
    assert not (tmp_path / directory).exists()


def test_wrong_settings_are_an_error_in_the_parent():
    with pytest.raises(bp.SettingsError, match=r"^wram: there is no such setting"):
        futures.start_node({"wram": {}})
