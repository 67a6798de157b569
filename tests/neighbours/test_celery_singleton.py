"""celery-singleton: a lock in Redis for each call, whose name is a hash of the call's arguments."""

import hashlib

from tests.neighbours.needs import needs

pytestmark = needs("celery-singleton")

TASK = "singleton_tasks.login_single"


def test_a_worker_with_tasks_that_are_single(home, redis_server):
    worker = home.start(
        "home_app:app",
        arguments=("--include=singleton_tasks",),
        settings={"singleton_backend_url": redis_server.client_url()},
    )
    digest = hashlib.sha256(home.password.encode()).hexdigest()
    assert worker.run(TASK, "eve", home.seal(TASK)) == digest
    one, other = worker.run("singleton_tasks.queue_twice", home.seal(TASK), home.seal(TASK))
    assert one == other  # though the two tokens differ
    home.check(worker)
