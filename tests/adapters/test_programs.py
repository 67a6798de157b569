"""Programs with prometheus_client in multiprocess mode: `bufpool serve` knows every total."""

import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.host_process import FOLDER
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.scrape import read_samples, total
from tests.support.without_celery import serve, url_of

REQUESTS = 60
WEB_SERVERS = {
    "gunicorn": "gunicorn --bind=127.0.0.1:{port} --workers=2 --max-requests=20 counting_web:wsgi",
    "uvicorn workers of gunicorn": "gunicorn --bind=127.0.0.1:{port} --workers=2 --max-requests=20 "
    "--worker-class=uvicorn_worker.UvicornWorker counting_web:asgi",
    "uvicorn": "uvicorn --port={port} --workers=2 --limit-max-requests=20 counting_web:asgi",
    "uWSGI": "uwsgi --http-socket=127.0.0.1:{port} --master --processes=2 --max-requests=20 "
    "--min-worker-lifetime=0 --die-on-term --need-app --module=counting_web:wsgi",
}


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    return directory


@pytest.fixture
def start(tmp_path, directory):
    """Start a program of the environment's `bin`, in the folder of the tests' modules."""
    started = []

    def start(program, *arguments, **environ):
        path = Path(sys.executable).parent / program
        if not path.exists():
            pytest.skip(f"{program} is not installed here (the extra `test` has it where it can)")
        process = LocalProcess(
            [sys.executable, str(path), *arguments],
            log=tmp_path / f"{program}.log",
            cwd=FOLDER,
            env={
                "PROMETHEUS_MULTIPROC_DIR": str(directory),
                "PYTHONPATH": str(FOLDER),
                **environ,
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
        print(process.log())  # noqa: T201 - pytest shows it when the test failed


def get(url):
    """Return the answer; None while the server does not take connections, or ends one."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - loopback
            return response.read()
    except (OSError, urllib.error.URLError):
        return None


def scraped(tmp_path, directory):
    """Return the samples that `bufpool serve` has."""
    with serve(tmp_path / "serve.log", "--compact-foreign", directory) as server:
        return read_samples(f"{url_of(server)}metrics")


@pytest.mark.parametrize("name", WEB_SERVERS)
def test_every_request_is_in_the_scrape_when_workers_were_recycled(
    name, start, tmp_path, directory
):
    port = free_port()
    server = start(*WEB_SERVERS[name].format(port=port).split())
    url = f"http://127.0.0.1:{port}/"
    answered, lost, pids = [], [], set()

    def ask():
        answer = server.wait_until(lambda: get(url) or lost.append(url), what="an answer")
        answered.append(answer)
        pids.update(child.pid for child in psutil.Process(server.pid).children(recursive=True))
        return len(answered) >= REQUESTS and len(pids) > 2

    # it waits for some starts of Python, one after the other
    server.wait_until(ask, what="a worker in the place of another one", timeout_seconds=60)
    alive = scraped(tmp_path, directory)
    # of a request that a worker's end cut off nobody knows whether it was counted
    assert len(answered) <= total(alive, "web_requests_total") <= len(answered) + len(lost)
    assert total(alive, "web_seconds_count") == total(alive, "web_requests_total")
    assert total(alive, "bufpool_gets_total") == total(alive, "web_requests_total")
    server.close()
    dead = scraped(tmp_path, directory)
    for metric in ("web_requests_total", "web_seconds_count", "bufpool_gets_total"):
        assert total(dead, metric) == total(alive, metric)
    assert len(list(directory.glob("*.db"))) <= 3


def test_every_task_of_taskiq_is_in_the_scrape_when_a_worker_was_killed(
    start, tmp_path, directory, redis_server
):
    url = redis_server.client_url()
    worker = start("taskiq", "worker", "counting_taskiq:broker", "--workers=2", TEST_BROKER_URL=url)
    send = f"""
import asyncio
from counting_taskiq import broker, work
async def main():
    await broker.startup()
    for number in range({REQUESTS}):
        await work.kiq(number)
    await broker.shutdown()
asyncio.run(main())
"""
    env = {"TEST_BROKER_URL": url, "PYTHONPATH": str(FOLDER)}
    for _ in range(2):
        with LocalProcess([sys.executable, "-c", send], log=tmp_path / "send", env=env) as sender:
            assert sender.wait(timeout_seconds=60) == 0
    done = worker.wait_until(
        lambda: (
            (samples := scraped(tmp_path, directory))
            and total(samples, "taskiq_done_total") == 2 * REQUESTS
            and samples
        ),
        what="all tasks",
        timeout_seconds=60,
    )
    assert total(done, "bufpool_gets_total") == 2 * REQUESTS
    for child in psutil.Process(worker.pid).children(recursive=True):
        child.kill()
    worker.close()
    dead = scraped(tmp_path, directory)
    assert total(dead, "taskiq_done_total") == 2 * REQUESTS
    assert total(dead, "bufpool_gets_total") == 2 * REQUESTS
    assert len(list(directory.glob("*.db"))) <= 3


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn --bind=127.0.0.1:0 bufpool_workers.metrics:wsgi_app()",
        "uvicorn --port=0 --factory bufpool_workers.metrics:asgi_app",
    ],
)
def test_web_server_over_a_missing_directory_does_not_start_and_names_it(start, tmp_path, command):
    missing = tmp_path / "absent"
    server = start(*command.split(), PROMETHEUS_MULTIPROC_DIR=str(missing))
    assert server.wait(timeout_seconds=60) > 0
    (line,) = {
        line.removeprefix("bufpool_workers.errors.MetricsError: ")
        for line in server.log().splitlines()
        if str(missing) in line
    }
    assert line == (
        f"metrics directory '{missing}': it does not exist; name the one that the workers count "
        "in, or set PROMETHEUS_MULTIPROC_DIR to it"
    )


def test_every_job_of_rq_is_in_the_scrape_though_its_process_is_gone(
    start, tmp_path, directory, redis_server
):
    from redis import Redis  # noqa: PLC0415 - of this test alone
    from rq import Queue  # noqa: PLC0415

    url = redis_server.client_url()
    with Redis.from_url(url) as client:
        queue = Queue(connection=client)
        for number in range(20):
            queue.enqueue("counting_jobs.work", number)
        worker = start("rq", "worker", "--burst", "--url", url)
        assert worker.wait(timeout_seconds=90) == 0
        assert len(list(directory.glob("*.db"))) >= 20
        samples = scraped(tmp_path, directory)
    assert total(samples, "job_done_total") == total(samples, "job_seconds_count") == 20
    assert len(list(directory.glob("*.db"))) <= 3
