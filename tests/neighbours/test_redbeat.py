"""redbeat: a schedule that lies in Redis."""

import sys

import redis

from tests.neighbours.needs import needs
from tests.support.memory_scan import copies_in_redis
from tests.support.processes import LocalProcess
from tests.support.scrape import scrape, total

pytestmark = needs("celery-redbeat")

TASK = "home_tasks.login"


def beat(home, redis_url, *, password, tmp_path, worker):
    """Run `celery beat` with redbeat and one entry, due each second."""
    entry = {"task": TASK, "schedule": 1.0, "args": ["ada", password]}
    settings = {"beat_schedule": {"each": entry}, "redbeat_redis_url": redis_url}
    command = [sys.executable, "-m", "celery", "-A", "home_app:app", "beat"]
    command += ["--scheduler=redbeat.RedBeatScheduler", "--max-interval=1"]
    return LocalProcess(
        command, log=tmp_path / "beat", cwd=worker.folder, env=home.env(worker, settings)
    )


def test_a_schedule_in_redis_holds_tokens_and_never_plain_secrets(home, redis_server, tmp_path):
    worker = home.start("home_app:app")
    home.check(worker)
    url = redis_server.client_url()
    options = {"tmp_path": tmp_path, "worker": worker}
    with beat(home, url, password=home.seal(TASK), **options) as process:
        process.wait_until(
            lambda: total(scrape(worker), "shop_logins_total", user="ada") > 4,
            what="a login by the schedule",
        )
        home.check_nothing_secret(process.log().encode())
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() > 0
        client.flushdb()
        with beat(home, url, password=home.plain, **options) as process:
            assert process.wait(timeout_seconds=60) != 0
            assert f"{TASK}, argument 'password': expected a token" in process.log()
            home.check_nothing_secret(process.log().encode())
        assert copies_in_redis(client, home.plain.encode()) == 0
