"""A node's scrape: right from the start, through recycling and SIGKILL, and gone at its end."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest
from celery.exceptions import WorkerLostError

from bufpool_workers.memory import LEVELS, reachable_level
from tests.support.celery_worker import wait_for_pong
from tests.support.processes import LocalProcess
from tests.support.scrape import private_directory, scrape, total, value
from tests.support.waiting import wait_until

SIZE = {"pool": "regular", "size": "4kb"}


def start(start_worker, *arguments, ready=True, env=None, **settings):
    return start_worker(
        "metrics_app:app",
        ready=ready,
        arguments=["--concurrency=2", *arguments],
        settings={"bufpool_metrics_port": 0, **settings},
        env=env or {},
    )


@pytest.mark.parametrize(
    ("pool", "settings"),
    [
        ("prefork", {}),
        ("prefork", {"worker_pool_start_method": "spawn"}),
        ("solo", {}),
        ("threads", {}),
        ("gevent", {}),
    ],
)
def test_every_task_is_counted_once_in_one_scrape(start_worker, pool, settings):
    worker = start(start_worker, f"--pool={pool}", **settings)
    pids = {worker.result(r) for r in [worker.send("metric_tasks.work", 3) for _ in range(20)]}
    samples = scrape(worker)
    assert value(samples, "bufpool_gets_total", **SIZE) == 60
    assert value(samples, "bufpool_puts_total", **SIZE) == 60
    assert value(samples, "bufpool_hit_rate", **SIZE) == 100
    assert value(samples, "jobs_total") == 20
    assert value(samples, "bufpool_buffers_in_use", **SIZE) == 0
    assert value(samples, "bufpool_processes") >= len(pids)
    assert value(samples, "bufpool_warmed_processes") == value(samples, "bufpool_processes")


SCRIPT = """
from pathlib import Path
from celery import Celery
import bufpool_workers as bp
from bufpool_workers.metrics import read_report
from bufpool_workers.runtime import current_runtime, malloc

app = Celery("script")
bp.setup(app)
"""
USE_ONE = """
with bp.buffer(4096):
    (process,) = (report := read_report(Path.cwd())).processes
    assert process.total.gets == report.warmed_processes == 1
    assert process.warmed is None
"""
WARM_IN_VAIN = """
app.conf.bufpool_tune_malloc = True
del malloc.tune  # tuning fails
current_runtime().start_process()
(process,) = (report := read_report(Path.cwd())).processes
assert process.warmed is False
assert report.warmed_processes == 0
"""


@pytest.mark.parametrize("script", [USE_ONE, WARM_IN_VAIN], ids=["nobody", "in vain"])
def test_only_who_should_be_warm_is_missed_as_unwarmed(tmp_path, script):
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SCRIPT + script], cwd=tmp_path, env=env, check=True)


def test_recycled_and_killed_children_leave_exact_totals_and_no_files(start_worker):
    worker = start(start_worker, "--max-tasks-per-child=2", bufpool_compact_foreign=True)
    done = last = 0
    for _ in range(3):
        for _ in range(4):
            worker.run("metric_tasks.work", 5)
            done += 1
        with pytest.raises(WorkerLostError):
            worker.run("metric_tasks.die")
        samples = scrape(worker)
        now = value(samples, "bufpool_gets_total", **SIZE)
        assert now == 5 * done > last
        assert value(samples, "jobs_total") == done
        last = now
    assert value(samples, "bufpool_skipped_files") == 0
    directory = private_directory(worker)
    # merged, and at most one of ours and one of the user's for each process that lives
    assert len(list(directory.glob("*.db"))) <= 2 + 2 * (1 + 2)
    assert value(samples, "bufpool_processes") <= 3


@pytest.mark.skipif(reachable_level(2**20) == "plain", reason="this system locks no memory")
def test_locked_memory_and_its_level_are_those_of_the_living(start_worker):
    worker = start(start_worker, "--concurrency=1", bufpool_warm={"secure": {}, "random": {}})
    before = scrape(worker)
    locked = worker.run("metric_tasks.hold_secret", 4096)
    samples = scrape(worker)
    assert value(before, "bufpool_locked_bytes") == 0
    assert value(samples, "bufpool_locked_bytes") == locked >= 4096
    assert LEVELS[int(value(samples, "bufpool_secure_level"))] == reachable_level()


def test_a_scrape_over_tls_needs_a_certificate_that_is_trusted(start_worker, certificate):
    cert = certificate["certfile"]
    tls = {**certificate, "client_cafile": cert, "client_auth_required": True}
    worker = start(start_worker, bufpool_metrics_tls=tls)
    worker.run("metric_tasks.work", 2)
    stranger = ssl.create_default_context(cafile=cert)
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        scrape(worker, tls=stranger)
    known = ssl.create_default_context(cafile=cert)
    known.load_cert_chain(**certificate)
    assert value(scrape(worker, tls=known), "bufpool_gets_total", **SIZE) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_its_private_directory_ends_with_it(start_worker, number):
    worker = start(start_worker)
    directory = private_directory(worker)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    worker.run("metric_tasks.work", 1)
    worker.stop(number)
    assert not directory.exists()


def test_a_directory_left_by_a_killed_worker_goes_with_the_next(start_worker):
    worker = start(start_worker)
    directory = private_directory(worker)
    worker.run("metric_tasks.work", 1)
    worker.close()
    other = start(start_worker)
    assert not directory.exists()
    assert private_directory(other).exists()


def test_the_deployments_directory_is_used_and_kept(start_worker, tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    totals = []
    for _ in range(2):
        worker = start(start_worker, env=env)
        worker.run("metric_tasks.work", 4)
        totals.append(value(scrape(worker), "bufpool_gets_total", **SIZE))
        worker.stop(signal.SIGTERM)
    assert totals == [4, 8]


def test_a_missing_directory_ends_the_start_and_is_named(start_worker, tmp_path):
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "absent")}
    worker = start(start_worker, ready=False, env=env)
    assert worker.wait() != 0
    assert f"metrics directory {str(tmp_path / 'absent')!r}: it does not exist" in worker.log()
    assert worker.members() == []


def test_a_taken_port_ends_the_start_and_is_named(start_worker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = start(start_worker, ready=False, bufpool_metrics_port=port)
        assert worker.wait() != 0
    assert f"Error: bufpool_metrics_port = {port}" in worker.log()
    assert "Traceback" not in worker.log()
    assert "Address already in use" in worker.log()
    assert worker.members() == []


def test_children_do_not_hold_the_port(start_worker):
    worker = start(start_worker, "--max-tasks-per-child=1")
    pids = {worker.run("metric_tasks.work", 1) for _ in range(3)}
    port = worker.wait_for_port()
    main = psutil.Process(worker.pid)
    seen, listening = set(), set()

    def look():
        for process in (main, *main.children()):
            # one that has just been recycled: where it isn't gone, what is left is root's
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        listening.add(process.pid)
                seen.add(process.pid)
        return len(seen) > 2

    wait_until(look, what="two children")
    assert len(pids) == 3
    assert listening == {main.pid}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_metrics_made_before_setup_are_scraped_with_what_they_counted(start_worker, pool):
    worker = start(start_worker, f"--pool={pool}", env={"TEST_IMPORT_EARLY": "1"})
    worker.run("metric_tasks.work", 1)
    worker.run("metric_tasks.count_early")
    assert "will not be scraped" not in worker.log()
    samples = scrape(worker)
    assert value(samples, "bufpool_gets_total", **SIZE) == 1
    assert value(samples, "jobs_total") == 1
    assert value(samples, "early_total") == 1 + 10
    assert total(samples, "early_labelled", kind="a") == 2 + 10
    assert value(samples, "early_histogram_count") == 1 + 1
    assert value(samples, "early_histogram_bucket", le="1.0") == 1
    assert value(samples, "early_histogram_sum") == 0.5 + 10
    assert value(samples, "early_summary_sum") == 3 + 10


def test_an_early_import_without_a_metric_shares_later_ones(start_worker):
    """As by a plugin of the `celery` command, such as Flower."""
    worker = start(start_worker, env={"TEST_IMPORT_EARLY": "only"})
    worker.run("metric_tasks.work", 1)
    assert value(scrape(worker), "jobs_total") == 1


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_metrics_move_to_the_directory_that_the_setting_names(start_worker, tmp_path, pool):
    directory = tmp_path / "metrics"
    directory.mkdir()
    worker = start(start_worker, f"--pool={pool}", bufpool_metrics_dir=str(directory))
    worker.run("metric_tasks.work", 1)
    samples = scrape(worker)
    assert value(samples, "bufpool_gets_total", **SIZE) == 1
    assert value(samples, "jobs_total") == 1
    assert list(directory.glob("counter_[0-9]*.db"))


def test_a_worker_that_the_command_did_not_start_is_told_what_to_set(
    redis_server, tmp_path, request
):
    node, broker = "called@localhost", redis_server.celery_url()
    arguments = ["worker", "--pool=solo", "--loglevel=INFO", "--without-mingle", "-n", node]
    code = f"from metrics_app import app; app.worker_main({arguments})"
    env = {"TEST_WORKER_SETTINGS": "{}", "CELERY_BROKER_URL": broker, "TEST_IMPORT_EARLY": "1"}
    worker = LocalProcess(
        [sys.executable, "-c", code], log=tmp_path / "log", cwd=request.path.parent, env=env
    )
    with worker:
        wait_for_pong(worker, broker, node)
    (line,) = [line for line in worker.log().splitlines() if "will not be scraped" in line]
    assert re.search("will not be scraped: early, .*jobs; start the worker with the command", line)


def test_what_serves_the_workers_metrics_is_told_nothing_of_its_own(tmp_path, request):
    settings = {"bufpool_metrics_dir": str(tmp_path), "bufpool_metrics_port": 0}
    env = {"TEST_WORKER_SETTINGS": json.dumps(settings), "TEST_IMPORT_EARLY": "1"}
    command = [sys.executable, "-m", "celery", "-A", "metrics_app", "bufpool", "serve"]
    with LocalProcess(command, log=tmp_path / "log", cwd=request.path.parent, env=env) as server:
        server.wait_for_log(r"^metrics at .*\n")
        assert len(server.log().splitlines()) == 1


def test_a_process_that_nobody_warmed_tells_its_level_and_what_it_locked(tmp_path):
    script = """
import bufpool_workers as bp, celery
bp.setup(celery.Celery())
with bp.secure_buffer(100):
    from bufpool_workers import memory, metrics
    report = metrics.Collector(None).report()
assert report.secure_level == memory.secure_level()
assert report.locked_bytes == memory.secure_locked_bytes()
assert report.warmed_processes == 1  # of one: nobody was to warm it
"""
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)


@pytest.fixture
def serve(tmp_path, request):
    """Run `celery bufpool serve` over a directory, with its arguments."""
    command = [sys.executable, "-m", "celery", "-A", "metrics_app", "bufpool", "serve"]

    def serve(*arguments, directory, **settings):
        env = {
            "TEST_WORKER_SETTINGS": json.dumps(settings),
            "PROMETHEUS_MULTIPROC_DIR": str(directory),
        }
        log, cwd = tmp_path / "log", request.path.parent
        return LocalProcess([*command, *arguments], log=log, cwd=cwd, env=env)

    return serve


@pytest.mark.parametrize(
    ("arguments", "host"), [((), "127.0.0.1"), (("--host=::1",), "[::1]")], ids=["IPv4", "IPv6"]
)
def test_a_process_of_its_own_serves_the_directory_of_the_workers(serve, tmp_path, arguments, host):
    if ":" in host and not has_ipv6():
        pytest.skip("no ::1 to listen on here")
    directory = tmp_path / "metrics"
    directory.mkdir()
    with serve("--port=0", *arguments, directory=directory) as server:
        (found,) = server.wait_for_log(rf"^metrics at (http://{re.escape(host)}:\d+/)$")
        url = f"{found[1]}metrics"
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - matched above
            assert b"bufpool_processes 0.0" in response.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_served_without_a_directory_it_says_what_to_set(serve):
    with serve("--port=0", directory="") as server:
        assert server.wait() == 1
        assert "no metrics directory: give DIR, or set PROMETHEUS_MULTIPROC_DIR" in server.log()


@pytest.mark.parametrize("as_options", [True, False], ids=["options", "settings"])
@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_here_is_named_as_it_was_given(serve, tmp_path, host, as_options):
    given = [f"--host={host}"] if as_options else []
    settings = {} if as_options else {"bufpool_metrics_host": host}
    with serve("--port=0", *given, directory=tmp_path, **settings) as server:
        assert server.wait() == 1
        named = f"--host {host}" if as_options else f"bufpool_metrics_host = {host!r}"
        assert f"Error: {named}: metrics endpoint {host}:0: " in server.log()


def test_a_taken_port_is_named_as_the_option_that_it_was_given_as(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serve(f"--port={port}", directory=tmp_path, bufpool_metrics_port=1) as server:
            assert server.wait() == 1
            assert f"Error: --port {port}: metrics endpoint 127.0.0.1:{port}: " in server.log()


def test_a_certificate_that_can_not_be_read_is_not_blamed_on_the_address(serve, tmp_path):
    tls = {"certfile": str(tmp_path / "no.pem"), "keyfile": str(tmp_path / "no.key")}
    with serve("--port=0", directory=tmp_path, bufpool_metrics_tls=tls) as server:
        assert server.wait() == 1
        assert str(tmp_path / "no.pem") in server.log()
        assert not re.search("--port|metrics_port", server.log())
