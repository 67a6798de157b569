"""A worker with a neighbour in it, and what has to hold whoever that is."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

import bufpool_workers as bp
from tests.neighbours.collector import Collector
from tests.support.celery_worker import CeleryWorker, StartWorker
from tests.support.memory_scan import copies, copies_in_redis
from tests.support.redis_server import RedisServer
from tests.support.scrape import scrape, total


class Home:
    """Starts workers that can open what it seals, and checks that all is well in them."""

    def __init__(self, start_worker: StartWorker, *, broker: str, client: Any, key: Any) -> None:
        self.broker = broker
        self.password = secrets.token_hex(16)
        self.plain = secrets.token_hex(16)
        self.key = key
        self._public = bp.generate_key(key)
        self._start_worker = start_worker
        self._client = client

    def start(self, app: str, *, arguments: tuple[str, ...] = (), **options: Any) -> CeleryWorker:
        settings = {
            "bufpool_private_keys": [str(self.key)],
            "bufpool_metrics_port": 0,
            **options.pop("settings", {}),
        }
        env = {"TEST_PLAIN": self.plain, **options.pop("env", {})}
        return self._start_worker(
            app,
            broker=self.broker,
            arguments=["--concurrency=2", *arguments],
            settings=settings,
            env=env,
            **options,
        )

    def env(self, worker: CeleryWorker, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the environment for another program of the worker's app."""
        return worker.env | {"TEST_WORKER_SETTINGS": json.dumps(dict(settings))}

    def seal(self, task: str, *, argument: str = "password", secret: str | None = None) -> str:
        return bp.seal(
            secret or self.password, task=task, argument=argument, public_key=self._public
        )

    def check(self, worker: CeleryWorker) -> None:
        """Sealed tasks open, plain secrets are refused, and every number is in the scrape."""
        before = scrape(worker)

        def counted(name: str, **labels: str) -> float:
            return total(after, name, **labels) - total(before, name, **labels)

        self._call_each_task(worker)
        after = scrape(worker)
        assert counted("shop_logins_total", user="ada") == 4
        assert counted("shop_logins_total", user="eve") == 2
        assert counted("shop_password_bytes_count") == 6
        # one for each body of a login, and the one that was kept
        assert counted("bufpool_gets_total", pool="regular") == 7
        # one for each token, also the one that does not open
        assert counted("bufpool_gets_total", pool="secure") == 8
        assert counted("bufpool_reclaims_total") == 1
        assert counted("bufpool_escapes_total") == 0
        assert total(after, "bufpool_in_use") == 0
        self.check_nothing_secret(worker.log().encode())
        assert copies_in_redis(self._client, self.password.encode()) == 0
        assert copies_in_redis(self._client, self.plain.encode()) == 0

    def _call_each_task(self, worker: CeleryWorker) -> None:
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        login, second = "home_tasks.login", "home_tasks.login_at_second_try"
        for _ in range(2):
            assert worker.run(login, "ada", self.seal(login)) == digest
            assert worker.run(login, user="ada", password=self.seal(login)) == digest
        assert worker.run(second, self.seal(second), "eve") == digest
        with pytest.raises(RuntimeError, match="on purpose"):
            worker.run("home_tasks.fail", self.seal("home_tasks.fail"))
        with pytest.raises(bp.OpenFailed):
            worker.run(login, "ada", self.seal(second))
        with pytest.raises(bp.NotSealed):
            worker.run(login, "ada", "no secret and no token")
        worker.run("home_tasks.keep_buffer")
        assert worker.run("home_tasks.publish_plain") == []

    def check_nothing_secret(self, shipped: bytes) -> None:
        """Neither the password nor the plain text nor the key is in what somebody ships or logs."""
        key = self.key.read_text().strip().rpartition("_")[2]
        for secret in (self.password, self.plain, key):
            assert copies(shipped, secret.encode()) == 0
            for numbers in (
                str(list(secret.encode())),
                str(list(secret.encode())).replace(" ", ""),
            ):
                assert numbers.encode() not in shipped


@pytest.fixture
def home(start_worker: StartWorker, redis_server: RedisServer, tmp_path) -> Iterator[Home]:
    url = redis_server.client_url()
    broker = f"redis+socket://{redis_server.socket}?virtual_host={url.rpartition('=')[2]}"
    with redis.Redis.from_url(url) as client:
        yield Home(start_worker, broker=broker, client=client, key=tmp_path / "worker.key")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Stand in for a vendor's collector."""
    with Collector() as server:
        yield server
