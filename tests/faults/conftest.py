"""A worker node for each test, on a Redis that the test may restart or stop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.node import Node
from tests.faults.storage_faults import plain
from tests.support.celery_worker import StartWorker
from tests.support.redis_server import RedisServer


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The metrics directory, on the file system that a test's parameter makes."""
    path = tmp_path / "metrics"
    path.mkdir()
    with getattr(request, "param", plain)(path):
        yield path


@pytest.fixture
def node(
    directory: Path, start_worker: StartWorker, own_redis: RedisServer, tmp_path: Path
) -> Node:
    return Node(start_worker, redis=own_redis, folder=tmp_path, directory=directory)
