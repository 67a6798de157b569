"""Fixtures for the commands of job systems."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bufpool_workers as bp
from bufpool_workers.sealing import generate_key
from tests.support.host_process import HostProcess
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Make a key pair, as settings."""
    path = tmp_path_factory.mktemp("keys") / "private.key"
    public = generate_key(path)
    return {"private_keys": [str(path)], "public_key": str(public)}


@pytest.fixture
def seal(keys: dict[str, Any]) -> Callable[..., str]:
    """Seal a secret for those keys, as the argument `password` unless another one is named."""

    def seal(secret: str | bytes, **options: Any) -> str:
        key = keys["public_key"]
        return bp.seal(secret, **{"argument": "password", "public_key": key, **options})

    return seal


@pytest.fixture(scope="module")
def start_host(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., HostProcess]]:
    """Start commands: `start_host(["dramatiq", "dramatiq_app"], settings={...})`.

    Each has a new database unless `broker` is given. All end with the module; the log of each is
    shown when a test fails.
    """
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as hosts:

        def start(command: list[str], **options: Any) -> HostProcess:
            options.setdefault("broker", redis_server.client_url())
            options.setdefault("log", Path(folder / f"host-{len(started)}.log"))
            host = HostProcess(command, **options)
            hosts.callback(host.close)
            started.append(host)
            return host

        started: list[HostProcess] = []
        try:
            yield start
        finally:
            for host in started:
                print(host.log())  # noqa: T201 (pytest shows it when the test failed)
