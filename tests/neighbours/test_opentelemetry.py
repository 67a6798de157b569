"""OpenTelemetry: its exporter imports prometheus_client before `setup`."""

import pytest

from tests.neighbours.needs import needs

pytestmark = [
    needs("opentelemetry-instrumentation-celery"),
    needs("opentelemetry-exporter-prometheus"),
    needs("opentelemetry-exporter-otlp-proto-http"),
]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_that_is_traced(home, collector, pool):
    """The collector is a stand-in for one that takes OTLP over HTTP."""
    worker = home.start(
        "otel_app:app", arguments=(f"--pool={pool}",), env={"TEST_COLLECTOR": collector.address}
    )
    home.check(worker)
    assert "shop_orders_total" in worker.run("otel_app.exported")
    shipped = collector.wait_for(
        b"run/home_tasks.login", b"apply_async/home_tasks.login_at_second_try", b"on purpose"
    )
    home.check_nothing_secret(shipped)
