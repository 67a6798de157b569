"""pytest-celery's setup: a broker, a backend and a prefork worker for each test that asks.

They are local processes; with TEST_ENGINE=docker they are containers, the worker's image built from
this checkout.
"""

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import docker
import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryWorkerContainer,
    RedisContainer,
)
from pytest_docker_tools import wrappers

from tests.celery import node_app, node_utils, pool_tasks
from tests.support.build_context import DOCKERFILE, build_context
from tests.support.engine import ProcessEngine

_ENGINES = ("process", "docker")


def _engine() -> str:
    name = os.environ.get("TEST_ENGINE", "process")
    if name not in _ENGINES:
        raise pytest.UsageError(f"TEST_ENGINE={name}: must be one of {', '.join(_ENGINES)}")
    return name


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "worker(*arguments, **settings): how celery_setup's worker is started"
    )


def pytest_report_header() -> str:
    return f"worker nodes: {_engine()} engine"


def _loopback_url(redis: RedisContainer) -> str:
    return f"{redis.prefix()}127.0.0.1:{redis.port}/{redis.vhost}"


@pytest.fixture(scope="session")
def docker_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if _engine() == "docker":
        yield docker.from_env()
        return
    if request.config.option.reuse_containers:
        pytest.fail("--reuse-containers: processes can't be reused, set TEST_ENGINE=docker")
    with pytest.MonkeyPatch.context() as patch:
        # inside a container the wrappers would take Redis' own port, not the published one
        patch.setattr(wrappers.container, "tests_inside_container", lambda: False)
        # pytest-celery names `localhost`, which not every host has
        patch.setattr(RedisContainer, "host_url", property(_loopback_url))
        yield ProcessEngine()


@pytest.fixture(scope="session")
def celery_base_worker_image(docker_client: Any) -> Any:
    if isinstance(docker_client, ProcessEngine):
        return docker_client.images.get("this Python")
    image, _log = docker_client.images.build(
        fileobj=build_context(),
        custom_context=True,
        dockerfile=DOCKERFILE,
        tag="bufpool-workers/test-worker:checkout",
        rm=True,
    )
    return image


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: CeleryTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_redis_broker)  # left alone, RabbitMQ would be tried too


@pytest.fixture
def celery_backend_cluster(celery_redis_backend: CeleryTestBackend) -> CeleryBackendCluster:
    return CeleryBackendCluster(celery_redis_backend)


@pytest.fixture
def default_worker_app_module() -> ModuleType:
    return node_app


@pytest.fixture
def default_worker_utils_module() -> ModuleType:
    return node_utils


@pytest.fixture
def default_worker_tasks() -> set[ModuleType]:
    return {pool_tasks}


@pytest.fixture
def default_worker_command(request: pytest.FixtureRequest) -> list[str]:
    """Prefork with two children; a test's `worker` mark adds arguments, or names another pool."""
    mark = request.node.get_closest_marker("worker")
    added = list(mark.args if mark else ())
    # Celery reads the first one to decide on gevent's patches, the last one for all else
    if not any(argument.startswith("--pool=") for argument in added):
        added.insert(0, "--pool=prefork")
    command: list[str] = CeleryWorkerContainer.command(
        # mingle and gossip wait a second for other nodes; this one is alone
        *("--without-mingle", "--without-gossip", "--concurrency=2"),
        *added,
    )
    return command


@pytest.fixture
def default_worker_app(celery_setup_app: Celery, request: pytest.FixtureRequest) -> Celery:
    """The settings of a test's `worker` mark reach the worker as well as the test's own app."""
    mark = request.node.get_closest_marker("worker")
    if mark:
        celery_setup_app.conf.update(mark.kwargs)
    return celery_setup_app
