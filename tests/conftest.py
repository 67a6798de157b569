"""Fixtures for every test: a real Redis, and real workers on it."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.celery_worker import CeleryWorker, StartWorker
from support.redis_server import RedisServer, find_redis


def pytest_report_header() -> str:
    """Say which Redis the tests run on."""
    try:
        path, origin = find_redis()
    except FileNotFoundError as missing:
        return f"redis: {missing}"  # the tests that need one fail with the same words
    return f"redis: {path} (from {origin})"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Serve one real Redis for the whole session; ask it for a new database in each test."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make a self-signed certificate for 127.0.0.1, which is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    return {"certfile": str(cert), "keyfile": str(key)}


@pytest.fixture
def start_worker(
    redis_server: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[StartWorker]:
    """Start `celery worker` processes: `start_worker("module:app", arguments=[...])`.

    Each is ready when it is returned, on a new database unless `broker` is given, with modules of
    the test's own folder importable. With `ready=False` it may as well have given up. All end with
    the test; the log of each is shown when the test fails.
    """
    with ExitStack() as workers:

        def start(app: str, *, ready: bool = True, **options: Any) -> CeleryWorker:
            options.setdefault("broker", redis_server.celery_url())
            options.setdefault("folder", request.path.parent)
            options.setdefault("log", tmp_path / f"worker-{len(logs)}.log")
            worker = CeleryWorker(app, **options)
            workers.callback(worker.close)
            logs.append(worker)
            return worker.wait_ready() if ready else worker

        logs: list[CeleryWorker] = []
        try:
            yield start
        finally:
            for worker in logs:
                print(worker.log())  # noqa: T201 (pytest shows it when the test failed)
