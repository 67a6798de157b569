"""A worker node for each test, on a Redis that the test may restart or stop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from node import Node
from support.celery_worker import StartWorker
from support.redis_server import RedisServer


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def node(start_worker: StartWorker, own_redis: RedisServer, tmp_path: Path) -> Node:
    directory = tmp_path / "metrics"
    directory.mkdir()
    return Node(start_worker, redis=own_redis, folder=tmp_path, directory=directory)
