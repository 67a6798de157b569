"""django-rq's own command, with our classes named in Django's settings."""

import pytest

from tests.support.host_client import check_totals
from tests.support.host_process import FOLDER
from tests.support.rq_client import connected, jobs
from tests.support.scrape import value
from tests.support.scripts import run_script

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere
WARM = {"regular": {"64KiB": 2}, "secure": {}, "random": {}}
COMMAND = [str(FOLDER / "django_manage.py"), "rqworker", "default"]


@pytest.mark.parametrize("name", ["SimpleWorker", "Worker"])
def test_command_has_one_exact_scrape(start_host, keys, seal, name):
    host = start_host(COMMAND, settings={"warm": WARM, **keys}, env={"TEST_WORKER_CLASS": name})
    with connected(host) as client:
        jobs(client, horses=name == "Worker")
        samples = check_totals(host, client)
        assert value(samples, "bufpool_processes") == (name == "SimpleWorker")
        token = seal(SECRET, task="rq_jobs.login")
        assert client.run("login", "ada", token) == ["ada", 21, True]
        assert SECRET.encode() not in client.everything()
    assert SECRET not in host.log()


PRODUCER = """
import django
django.setup()
import django_rq, rq_jobs
job = django_rq.enqueue(rq_jobs.work, 7)
print(job.description)
django_rq.enqueue(rq_jobs.login, "ada", "correct horse battery")
"""


def test_its_queues_refuse_a_plain_secret(redis_server):
    done = run_script(
        PRODUCER,
        PYTHONPATH=str(FOLDER),
        DJANGO_SETTINGS_MODULE="django_site",
        TEST_BROKER_URL=redis_server.client_url(),
    )
    assert done.stdout == "rq_jobs.work(...)\n"
    assert "NotSealed: rq_jobs.login, argument 'password'" in done.stderr
    assert SECRET not in done.stderr.replace(PRODUCER.strip().splitlines()[-1], "")
