"""prometheus-flask-exporter: an app whose metrics a task counts."""

from tests.neighbours.needs import needs
from tests.support.scrape import scrape, total

pytestmark = needs("prometheus-flask-exporter")


def test_a_worker_that_imports_the_flask_app(home):
    worker = home.start("home_app:app", arguments=("--include=flask_tasks",))
    assert [worker.run("flask_tasks.visit") for _ in range(4)] == [200] * 4
    home.check(worker)
    found = scrape(worker)
    assert total(found, "shop_order_pages_total") == 4
    assert total(found, "flask_http_request_total", method="GET", status="200") == 4
