"""ddtrace, which wraps Celery's tasks and patches modules as they are imported."""

import shutil
import sys
from pathlib import Path

from tests.neighbours.needs import needs

pytestmark = needs("ddtrace")


def test_a_worker_under_ddtrace_run(home, collector):
    """The collector is a stand-in for Datadog's agent."""
    worker = home.start(
        "home_app:app",
        prefix=(shutil.which("ddtrace-run", path=Path(sys.executable).parent),),
        env={
            "DD_TRACE_AGENT_URL": f"http://{collector.address}",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        },
    )
    home.check(worker)
    home.check_nothing_secret(
        collector.wait_for(b"celery.run", b"celery.apply", b"home_tasks.login", b"on purpose")
    )
