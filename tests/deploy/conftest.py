import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import bufpool_workers as bp
from tests.deploy.dockerfile import CHECKOUT, DEPLOY, Image
from tests.support.processes import LocalProcess


@pytest.fixture(scope="session")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.fixture
def start_container(redis_server, tmp_path, compose):
    """Start the image's command with compose's environment, at a free port, as a process.

    `prefix` is its virtual environment, and `workdir` holds tasks/; by default those of the tests.
    Gives the process and its broker's URL.
    """
    with ExitStack() as running:

        def start(*, prefix=Path(sys.prefix), workdir=CHECKOUT):
            key, metrics = tmp_path / "worker.key", tmp_path / "metrics"
            bp.generate_key(key)
            metrics.mkdir()
            broker = redis_server.celery_url()
            image = Image()
            environment = image.environment | compose["services"]["worker"]["environment"]
            environment |= {
                "PATH": str(prefix / "bin"),
                "BUFPOOL_BROKER_URL": broker,
                "BUFPOOL_PRIVATE_KEY": str(key),
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
                "BUFPOOL_METRICS_PORT": "0",
            }
            program, *arguments = image.command
            command = [shutil.which(program, path=environment["PATH"]), *arguments]
            worker = LocalProcess(command, log=tmp_path / "log", cwd=workdir, env=environment)
            running.callback(lambda: print(worker.log()))  # noqa: T201 - shown with a failure
            running.enter_context(worker)
            return worker, broker

        yield start
