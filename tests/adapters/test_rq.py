"""RQ's own commands: totals, ends of jobs, horses, the pool of workers, sealed arguments."""

import pickle
import signal
from pathlib import Path

import psutil
import pytest
import rq
from redis import Redis
from rq import Queue, Retry
from rq.job import Job as StockJob

from bufpool_workers.rq import Job
from tests.support.host_client import check_totals
from tests.support.rq_client import connected, jobs
from tests.support.scrape import total, value
from tests.support.scripts import run_script
from tests.support.waiting import wait_until

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere
SPAWNS_OURS = hasattr(rq.SpawnWorker, "_dump_worker_config")  # since RQ 3
CLASSES = ["SimpleWorker", "Worker", *(["SpawnWorker"] if SPAWNS_OURS else [])]
WARM = {"regular": {"64KiB": 2}, "secure": {}, "random": {}}


def command(name, *options, url):
    return ["rq", *options, "--worker-class", f"bufpool_workers.rq.{name}", "--url", url]


@pytest.fixture(scope="module")
def start(start_host, redis_server, keys):
    def start(name="SimpleWorker", *, line=("worker",), broker=None, **options):
        broker = broker or redis_server.client_url()
        settings = {"warm": WARM, **keys, **options.pop("settings", {})}
        return start_host(
            command(name, *line, url=broker), broker=broker, settings=settings, **options
        )

    return start


@pytest.mark.parametrize("name", CLASSES)
def test_totals_equal_what_jobs_noted(start, name):
    host = start(name)
    with connected(host) as client:
        jobs(client, horses=name != "SimpleWorker")
        samples = check_totals(host, client)
        assert value(samples, "bufpool_processes") == (name == "SimpleWorker")
        numbers = client.run("numbers")
        assert numbers["in_use"] == 0
        assert numbers["idle"] == (2 if name == "SimpleWorker" else 0)
        warned = "take bufpool_workers.rq.SimpleWorker" in host.log()
        assert warned == (name != "SimpleWorker")
    path = Path(directory_of(host))
    host.send_signal(signal.SIGTERM)
    assert host.wait() == 0
    assert not path.exists()


def directory_of(host):
    for link in Path(f"/proc/{host.pid}/fd").iterdir():
        if (target := link.readlink()).name.startswith("bufpool-metrics-"):
            return target
    raise AssertionError("no private directory")


@pytest.mark.skipif(SPAWNS_OURS, reason="RQ 3 spawns ours; .ci/versions takes an older one")
def test_spawn_worker_is_refused_where_its_horses_are_rqs_own(start):
    host = start("SpawnWorker")
    assert host.wait() != 0
    assert "Error: bufpool_workers.rq.SpawnWorker needs RQ 3, not 2." in host.log()
    assert "Traceback" not in host.log()


def test_parent_merges_what_horses_leave(start):
    host = start("Worker", settings={"compact_foreign": True})
    with connected(host) as client:
        sent = [client.send("work", number) for number in range(60)]
        for job in sent:
            client.ended(job)
        files = list(directory_of(host).glob("*.db"))
        assert len(files) <= 30  # each horse has left two, one of prometheus_client
        check_totals(host, client)
        assert len(list(directory_of(host).glob("*.db"))) <= 5


def test_parent_imports_nothing_of_the_users(start):
    host = start("Worker")
    with connected(host) as client:
        client.run("work", 1)
        maps = Path(f"/proc/{host.pid}/maps").read_text()
        assert "numpy" not in maps
        assert client.run("numbers")["pid"] != host.pid
        assert "rq_jobs" in client.run("numbers")["modules"]


def test_time_limit_leaves_no_buffer(start):
    host = start()
    with connected(host) as client:
        for _ in range(2):
            assert client.ended(client.send("spin", job_timeout=1)).get_status() == "failed"
        assert client.run("numbers")["in_use"] == 0
        samples = host.scrape()
        gets, puts = (total(samples, f"bufpool_{name}_total") for name in ("gets", "puts"))
        assert gets == puts


@pytest.mark.parametrize("name", ["SimpleWorker", "Worker"])
def test_job_that_can_not_be_looked_up_fails_alone(start, name):
    host = start(name)
    with connected(host) as client:
        client.run("work", 1)
        broken = client.queue.enqueue("broken_jobs.run")
        absent = client.queue.enqueue("absent_jobs.run")
        unreadable = client.queue.create_job("rq_jobs.work", args=(1,))
        unreadable.data = b"no pickle"
        client.queue.enqueue_job(unreadable)
        for job in (broken, absent, unreadable):
            assert client.ended(job).get_status() == "failed"
        assert client.run("work", 2) == 2
        assert host.exit_status is None


# sealed arguments


@pytest.fixture(scope="module", params=["SimpleWorker", "Worker"])
def sealed_host(start, request):
    return start(request.param)


def test_sealed_argument_is_opened_and_shows_nowhere(sealed_host, seal):
    token = seal(SECRET, task="rq_jobs.login")
    with connected(sealed_host) as client:
        assert client.run("login", "ada", token) == ["ada", 21, True]
        assert SECRET.encode() not in client.everything()
    assert SECRET not in sealed_host.log()
    assert token[:20] not in sealed_host.log()
    assert "rq_jobs.login(...)" in sealed_host.log()


@pytest.mark.parametrize("how", ["elsewhere", "plain"])
def test_what_does_not_open_is_not_retried(sealed_host, seal, how):
    given = seal(SECRET, task="another") if how == "elsewhere" else "plain-from-elsewhere"
    with connected(sealed_host) as client:
        logins = client.noted().get("logins")
        job = client.ended(client.send("login", "ada", given, retry=Retry(max=3)))
        client.run("numbers")
        job.refresh()
        assert job.get_status() == "failed"
        assert "argument 'password'" in job.latest_result().exc_string
        assert client.noted().get("logins") == logins
        assert client.queue.count == 0
    assert "plain-from-elsewhere" not in sealed_host.log()


def test_single_use_token_survives_retries_of_its_job_alone(sealed_host, seal):
    token = seal(SECRET, task="rq_jobs.login_at_last", expires=60, single_use=True)
    user = f"ada{sealed_host.pid}"
    with connected(sealed_host) as client:
        job = client.send("login_at_last", user, token, retry=Retry(max=5))
        wait_until(lambda: job.get_status() == "finished", what="the third try")
        assert job.return_value() is True
        again = client.ended(client.send("login_at_last", "bob", token))
        assert "TokenReplayed" in again.latest_result().exc_string


# the pool of workers


def test_pool_has_one_scrape_and_outlives_its_workers(start):
    host = start("SimpleWorker", line=("worker-pool", "--num-workers", "2"))
    with connected(host) as client:
        jobs(client, horses=False)
        host.wait_until(
            lambda: value(host.scrape(), "bufpool_processes") == 2, what="both in the scrape"
        )
        check_totals(host, client)
        # with their schedulers: Redis gives jobs to whoever still waits for one
        killed = psutil.Process(host.pid).children(recursive=True)
        for child in killed:
            child.kill()  # the pool starts others, one of which serves
        wait_until(lambda: not any(is_alive(child) for child in killed), what="their end")
        host.wait_until(lambda: value(host.scrape(), "bufpool_processes") == 2, what="the next two")
        jobs(client, horses=False)
        check_totals(host, client)


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_orphans_of_a_pool_do_not_hold_the_port(start):
    line = ("worker-pool", "--num-workers", "2")
    host = start("SimpleWorker", line=line)
    with connected(host) as client:
        client.run("work", 1)
        host.scrape()
        host.send_signal(signal.SIGKILL)
        host.wait()
        again = start("SimpleWorker", line=line, port=host.port)
        again.wait_until(
            lambda: total(again.scrape(), "bufpool_gets_total") == 0, what="the next node's scrape"
        )


# what is wrong


def test_missing_rq_names_its_extra():
    script = "import sys; sys.modules['rq'] = None; import bufpool_workers.rq"
    assert "pip install 'bufpool-workers[rq]'" in run_script(script).stderr


def test_stored_job_is_rqs_own(redis_server):
    with Redis.from_url(redis_server.client_url()) as redis:
        job = Queue(connection=redis, job_class=Job).enqueue("operator.add", 1, 2)
        stock = StockJob.fetch(job.id, connection=redis)
        assert pickle.loads(job.data) == pickle.loads(stock.data)  # noqa: S301 - this test's own
        assert (stock.args, stock.description) == ((1, 2), "operator.add(...)")
