"""What dashboards show of sealed arguments and results: tokens, and nothing in clear."""

import html
import io
import re
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.metadata import version
from urllib.parse import urljoin
from wsgiref.util import setup_testing_defaults

import pytest
from rq import Queue

from bufpool_workers.rq import Job
from tests.support.dramatiq_client import DramatiqClient
from tests.support.host_process import FOLDER
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.rq_client import connected
from tests.support.waiting import wait_until

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere


def crawled(read, *first):
    """Read these pages and all that they link to; return their texts by path."""
    pages, paths = {}, list(first)
    while paths:
        if (path := paths.pop()) not in pages:
            pages[path] = read(path)
            links = re.findall(
                r'href="([^"#:<>]+)"', pages[path]
            )  # of templates for a browser none
            paths += [urljoin(path, link.replace("&amp;", "&")) for link in links]
    return pages


# RQ


@pytest.fixture
def worker(start_host, redis_server, keys):
    url = redis_server.client_url()
    command = ["rq", "worker", "--worker-class", "bufpool_workers.rq.SimpleWorker", "--url", url]
    public = keys["public_key"]
    return start_host(command, broker=url, settings={**keys, "result_public_keys": [public]})


@pytest.fixture
def jobs(worker, seal):
    """Jobs with a sealed argument that have ended, have failed and wait; and a sealed result."""
    with connected(worker) as client:
        client.queue = Queue(connection=client.redis, job_class=Job)
        waiting = Queue("later", connection=client.redis, job_class=Job)
        token = seal(SECRET, task="rq_jobs.login")
        yield [
            client.ended(client.send("login", "ada", token)),
            client.ended(client.send("mint", seal(SECRET, task="rq_jobs.mint"))),
            client.ended(client.send("login", "eve", seal(SECRET, task="another"))),
            waiting.enqueue("rq_jobs.login", "ada", token),
        ]


def check_jobs(shown, jobs):
    assert [job.get_status().value for job in jobs] == ["finished", "finished", "failed", "queued"]
    for job in jobs:
        assert job.id in shown
    assert "rq_jobs.login" in shown
    assert "argument 'password'" in html.unescape(shown)
    assert SECRET not in shown


@pytest.mark.skipif(
    version("django-rq").startswith("3."), reason="django-rq has these pages from release 4 on"
)
def test_admin_of_django_shows_no_sealed_argument(worker, jobs):
    command = [sys.executable, str(FOLDER / "django_admin.py"), "/admin/django_rq/dashboard/"]
    done = subprocess.run(
        command, env=worker.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bps1." in done.stdout  # it shows arguments as they lie in Redis
    check_jobs(done.stdout, jobs)


def test_rq_dashboard_shows_no_sealed_argument(worker, jobs, tmp_path):
    pytest.importorskip("rq_dashboard", reason="rq-dashboard is not installed: make neighbours")
    port = free_port()
    command = [sys.executable, "-m", "rq_dashboard", "--bind=127.0.0.1", f"--port={port}"]
    command += [f"--redis-url={worker.broker}"]

    def read(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return f"{error.code}"

    def is_up():
        try:
            return read("/0/view/queues")
        except OSError:
            return None

    registries = ("queued", "finished", "failed")
    with LocalProcess(command, log=tmp_path / "dashboard") as dashboard:
        dashboard.wait_until(is_up, what="the dashboard")
        data = [
            f"/0/data/jobs/{job.origin}/{name}/8/asc/1.json" for job in jobs for name in registries
        ]
        data += [f"/0/data/job/{job.id}.json" for job in jobs]
        views = [f"/0/view/job/{job.id}" for job in jobs]
        pages = crawled(read, "/0/data/queues.json", "/0/data/workers.json", *data, *views)
        shown = "\n".join(pages.values()) + dashboard.log()
    assert "rq_jobs.login(...)" in shown
    assert jobs[1].return_value() in pages[f"/0/data/job/{jobs[1].id}.json"]  # its token
    check_jobs(shown, jobs)


# Dramatiq


def test_dramatiq_dashboard_shows_no_sealed_argument(start_host, redis_server, keys, seal):
    dashboard = pytest.importorskip(
        "dramatiq_dashboard", reason="dramatiq-dashboard is not installed: make neighbours"
    )
    command = ["dramatiq", "dramatiq_app", "--processes=1", "--threads=2"]
    host = start_host(command, broker=(url := redis_server.client_url()), settings=keys)
    client = DramatiqClient(url)
    token = seal(SECRET, task="login")
    assert client.run("login", "ada", password=token) == ["ada", 21, True]
    client.send("login", "eve", password=seal(SECRET, task="another"))
    wait_until(lambda: client.dead() == 1, what="the message that does not open")
    host.close()
    waiting = client.send("login", "ada", password=token)
    app = dashboard.make_wsgi_middleware("/shown", client.broker)(None)

    def read(path):
        answer = []
        environ = {"PATH_INFO": path.partition("?")[0], "QUERY_STRING": path.partition("?")[2]}
        setup_testing_defaults(environ)
        environ["wsgi.input"] = io.BytesIO()
        body = b"".join(app(environ, lambda status, _headers: answer.append(status)))
        assert answer
        assert answer[0][:3] in {"200", "302", "404"}, (path, answer)
        return body.decode()

    first = [f"/shown/queues/default/{tab}" for tab in ("standard", "delayed", "failed")]
    pages = crawled(read, "/shown/", *first)
    client.close()
    shown = "\n".join(pages.values())
    assert waiting.message_id in shown
    assert "bps1." in shown  # what lay in Redis
    assert SECRET not in shown
