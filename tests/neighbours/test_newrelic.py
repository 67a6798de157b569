"""New Relic's agent, which replaces each task's `run` and `__call__`; in developer mode it sends
nothing, and writes what it would have sent to its audit log.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.neighbours.needs import needs

pytestmark = needs("newrelic")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_under_newrelic_admin(home, tmp_path, pool):
    admin = shutil.which("newrelic-admin", path=Path(sys.executable).parent)
    audit = tmp_path / "audit"
    worker = home.start(
        "home_app:app",
        arguments=(f"--pool={pool}",),
        prefix=(admin, "run-program"),
        env={
            "NEW_RELIC_DEVELOPER_MODE": "true",
            "NEW_RELIC_LICENSE_KEY": "0" * 40,
            "NEW_RELIC_APP_NAME": "neighbours",
            "NEW_RELIC_AUDIT_LOG": str(audit),
            "NEW_RELIC_STARTUP_TIMEOUT": "10",
            "NEW_RELIC_ATTRIBUTES_INCLUDE": "job.*",
        },
    )
    home.check(worker)
    assert worker.stop(15) == 0  # the agent sends what it has when its process ends
    shipped = audit.read_bytes()
    assert b"OtherTransaction/Celery/home_tasks.login" in shipped
    assert b"RuntimeError" in shipped
    home.check_nothing_secret(shipped)
