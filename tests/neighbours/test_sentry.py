"""sentry-sdk: its Celery integration wraps `run`, `__call__` and `apply_async`."""

import pytest

from tests.neighbours.needs import needs

pytestmark = needs("sentry-sdk")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_reports_to_sentry(home, collector, pool):
    """The collector is a stand-in for Sentry."""
    worker = home.start(
        "sentry_app:app",
        arguments=(f"--pool={pool}",),
        env={"TEST_DSN": f"http://key@{collector.address}/1"},
    )
    home.check(worker)
    shipped = collector.wait_for(
        b"on purpose", b'"vars"', b"OpenFailed", b"NotSealed", b'"transaction":"home_tasks.login"'
    )
    home.check_nothing_secret(shipped)
