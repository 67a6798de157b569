"""starlette_exporter: an app whose metrics a task counts."""

from tests.neighbours.needs import needs
from tests.support.scrape import scrape, total

pytestmark = needs("starlette-exporter")


def test_a_worker_that_imports_the_starlette_app(home):
    worker = home.start("home_app:app", arguments=("--include=starlette_tasks",))
    assert [worker.run("starlette_tasks.visit") for _ in range(4)] == [[200]] * 4
    home.check(worker)
    assert total(scrape(worker), "web_requests_total", path="/orders", status_code="200") == 4
