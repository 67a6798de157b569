import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

import bufpool_workers as bp
from tests.deploy.dockerfile import CHECKOUT, DEPLOY, Image
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.redis_server import find_redis, wait_for_redis


@pytest.fixture(scope="session")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


class ComposedRedis(LocalProcess):
    """Redis as compose.yaml starts it, on a free port of loopback, with a password of its own."""

    password = "secret of compose"  # noqa: S105 - the test's own; a URL has to quote it

    def __init__(self, compose, folder: Path) -> None:
        self.password_file = folder / "redis.password"
        self.password_file.write_text(f"{self.password}\n")
        self.port = free_port()
        shell, option, script = compose["services"]["redis"]["entrypoint"]
        for inside, outside in {
            "$$": "$",
            "/run/secrets/redis.password": f"'{self.password_file}'",
            "/data": f"'{folder}'",
            "redis-server": f"'{find_redis().path}' --bind 127.0.0.1 --port {self.port}",
        }.items():
            assert inside in script
            script = script.replace(inside, outside)
        super().__init__([shell, option, script], log=folder / "redis.log", cwd=folder)

    def wait_ready(self) -> None:
        wait_for_redis(self, host="127.0.0.1", port=self.port, password=self.password)


@pytest.fixture
def composed_redis(compose, tmp_path) -> Iterator[ComposedRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with ComposedRedis(compose, folder) as server:
        server.wait_ready()
        yield server


@pytest.fixture
def start_container(composed_redis, tmp_path, compose):
    """Start the image's command with compose's environment, at a free port, as a process.

    `prefix` is its virtual environment, and `workdir` holds tasks/; by default those of the tests.
    Gives the process and its broker's URL.
    """
    with ExitStack() as running:

        def start(*, prefix=Path(sys.prefix), workdir=CHECKOUT):
            key, metrics = tmp_path / "worker.key", tmp_path / "metrics"
            bp.generate_key(key)
            metrics.mkdir()
            address = f"127.0.0.1:{composed_redis.port}/0"
            image = Image()
            environment = image.environment | compose["services"]["worker"]["environment"]
            environment |= {
                "PATH": str(prefix / "bin"),
                "BUFPOOL_BROKER_URL": f"redis://{address}",
                "BUFPOOL_BROKER_PASSWORD_FILE": str(composed_redis.password_file),
                "BUFPOOL_PRIVATE_KEY": str(key),
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
                "BUFPOOL_METRICS_PORT": "0",
            }
            program, *arguments = image.command
            command = [shutil.which(program, path=environment["PATH"]), *arguments]
            worker = LocalProcess(command, log=tmp_path / "log", cwd=workdir, env=environment)
            running.callback(lambda: print(worker.log()))  # noqa: T201 - shown with a failure
            running.enter_context(worker)
            return worker, f"redis://:{quote(composed_redis.password)}@{address}"

        yield start
