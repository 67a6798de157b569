"""Dramatiq's Prometheus middleware, which sets PROMETHEUS_MULTIPROC_DIR after `setup`."""

import pytest

from tests.neighbours.needs import needs
from tests.support.scrape import scrape, total

pytestmark = needs("dramatiq")


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_with_dramatiqs_middleware_in_it(home, tmp_path, pool):
    worker = home.start(
        "dramatiq_app:app",
        arguments=(f"--pool={pool}",),
        env={"dramatiq_prom_db": str(tmp_path / "dramatiq")},
    )
    home.check(worker)
    worker.run("dramatiq_app.process", "one")
    assert total(scrape(worker), "dramatiq_messages_total") == 1
