"""Fixtures for every test: a real Redis, and real workers on it."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bufpool_workers import testing
from tests.support.celery_worker import CeleryWorker, StartWorker
from tests.support.failures import pytest_configure  # noqa: F401 - a hook of pytest
from tests.support.redis_server import RedisServer, find_redis

LOOPBACK: Final = IPv4Address("127.0.0.1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell without job control starts what runs in its background so, and all that is started
    # from there inherits it: no process of a test would end on Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

# of its own accord, Hypothesis asserts that an example takes less than 200 ms
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
if examples := os.environ.get("BUFPOOL_FUZZ_EXAMPLES"):
    hypothesis.settings.register_profile("fuzz", max_examples=int(examples))
    hypothesis.settings.load_profile("fuzz")


# the modules that take longest: these begin first, so that the short ones fill the gaps at the end
LONGEST: Final = (
    "celery/test_trackers.py",
    "celery/test_metrics.py",
    "leaks/test_leaks.py",
    "memory/test_interrupts.py",
    "celery/test_demo.py",
    "sealing/test_results.py",
    "celery/test_cli_status.py",
    "docs/test_sections.py",
    "celery/test_sealed_exposure.py",
    "faults/test_process_death.py",
    "celery/test_sealed.py",
    "counters/test_compaction.py",
    "docs/test_readme.py",
    "celery/test_replaced.py",
    "celery/test_prometheus.py",
    "celery/test_start.py",
    "celery/test_engine.py",
    "celery/test_published_secrets.py",
    "test_loading.py",
    "adapters/test_programs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, for several processes; the rest stays as it is."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True, scope="module")
def own_process() -> None:
    """Begin each module as a process that no app has configured."""
    testing.reset()


def pytest_report_header() -> str:
    """Show which Redis the tests run on."""
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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return {"certfile": str(folder / "cert.pem"), "keyfile": str(folder / "key.pem")}


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
