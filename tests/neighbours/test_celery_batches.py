"""celery-batches: a body that serves many calls, run past Celery's own tracer."""

import hashlib

from tests.neighbours.needs import needs
from tests.support.scrape import scrape, total

pytestmark = needs("celery-batches")

TASK = "batch_tasks.login_all"


def test_a_worker_that_collects_calls(home):
    worker = home.start(
        "home_app:app",
        arguments=("--include=batch_tasks", "--prefetch-multiplier=10"),
    )
    pending = [worker.send(TASK, home.seal(TASK)) for _ in range(6)]
    digest = hashlib.sha256(home.password.encode()).hexdigest()
    assert [worker.result(each) for each in pending] == [digest] * 6
    before = scrape(worker)
    assert total(before, "shop_batched_total") == 6
    assert total(before, "bufpool_gets_total", pool="regular") == 2
    assert total(before, "bufpool_in_use") == 0
