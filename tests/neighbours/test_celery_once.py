"""celery_once: a lock in Redis for each call, whose name has the call's arguments."""

import hashlib

from tests.neighbours.needs import needs

pytestmark = needs("celery-once")

TASK = "once_tasks.login_once"


def test_a_worker_with_tasks_that_are_queued_once(home, redis_server):
    once = {
        "backend": "celery_once.backends.Redis",
        "settings": {
            "url": redis_server.client_url().replace("unix://", "redis+socket://"),
            "default_timeout": 60,
        },
    }
    worker = home.start(
        "home_app:app", arguments=("--include=once_tasks",), settings={"ONCE": once}
    )
    digest = hashlib.sha256(home.password.encode()).hexdigest()
    assert worker.run(TASK, "eve", home.seal(TASK)) == digest
    _, refused = worker.run("once_tasks.queue_twice", home.seal(TASK), home.seal(TASK))
    assert refused == "AlreadyQueued"  # though the two tokens differ
    home.check(worker)
