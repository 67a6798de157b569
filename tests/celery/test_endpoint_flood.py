"""A worker works on, and is scraped, while clients of its endpoint do their worst."""

import contextlib
import re
import resource
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from celery.exceptions import WorkerLostError

from tests.support.scrape import read_samples, total
from tests.support.waiting import wait_until

WIDTH = 5000
ROUNDS = 8
HALF = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half: "
WHOLE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def descriptors():
    """Raise this process's limit, not the worker's, for the thousands of the attack."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Clients that are opened round by round, and kept."""

    def __init__(self, port, main):
        self.address = ("127.0.0.1", port)
        self.main = main
        self.clients = contextlib.ExitStack()
        self.opened = self.most_descriptors = self.most_threads = 0

    def open_some(self):
        """Open 250 clients with half a request, 4 slow readers and 4 with a large head."""
        for number in range(258):
            client = self.clients.enter_context(socket.socket())
            client.settimeout(20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(self.address)
            with contextlib.suppress(ConnectionError):  # refused while it is sent
                client.sendall(
                    HALF
                    if number % 32
                    else WHOLE
                    if number % 64
                    else b"GET / HTTP/1.1\r\nX-Large: " + b"x" * 1_000_000
                )
            self.opened += 1
            if number % 10 == 0:
                self.most_descriptors = max(self.most_descriptors, self.main.num_fds())
                self.most_threads = max(self.most_threads, self.main.num_threads())


def scrape_at_last(url):
    """The gets of a whole answer; a client that is slow to ask may have to make room once."""

    def scrape():
        with contextlib.suppress(ConnectionError), urllib.request.urlopen(url, timeout=30) as found:  # noqa: S310
            return found.read().decode()

    text = wait_until(scrape, what="a whole scrape")
    assert text.count("\nwide_total{") == WIDTH
    # a parse of all of it takes longer than the rest of the round
    (gets,) = re.findall(
        r'^bufpool_gets_total\{pool="regular",size="4kb"\} (\S+)$', text, re.MULTILINE
    )
    return float(gets)


@pytest.mark.timeout(240)
def test_flooded_endpoint_leaves_the_worker_its_tasks_and_its_scrape(start_worker, descriptors):
    worker = start_worker(
        "metrics_app:app",
        arguments=["--concurrency=2", "--max-tasks-per-child=3"],
        settings={"bufpool_metrics_port": 0},
        prefix=["prlimit", "--nofile=1024:1024"],  # as many as a process has by default
    )
    worker.run("metric_tasks.widen", WIDTH)
    url = f"http://127.0.0.1:{worker.wait_for_port()}/metrics"
    assert total(read_samples(url), "wide_total") == WIDTH
    main = psutil.Process(worker.pid)
    descriptors_idle, threads_idle = main.num_fds(), main.num_threads()
    flood = Flood(worker.wait_for_port(), main)
    with flood.clients, ThreadPoolExecutor(1) as pool:
        for done in range(ROUNDS):
            opening = pool.submit(flood.open_some)
            pending = [worker.send("metric_tasks.work", 3) for _ in range(6)]
            scrape_at_last(url)
            with pytest.raises(WorkerLostError):
                worker.run("metric_tasks.die")
            for each in pending:
                worker.result(each)
            opening.result()
            assert scrape_at_last(url) == 18 * (done + 1)
    assert flood.opened >= 2000
    assert flood.most_descriptors <= descriptors_idle + 20
    assert flood.most_threads <= threads_idle + 17
    assert main.pid == worker.pid
    assert worker.exit_status is None
    lines = [line for line in worker.log().splitlines() if "metrics endpoint" in line]
    assert 1 <= len(lines) <= 4  # one in a minute
    assert "bounded_server" not in worker.log()  # no traceback goes through it
