"""The store of used tokens, on a real Redis, and without one."""

import socket
from functools import partial

import pytest
import redis
from celery import Celery
from celery.backends.redis import RedisBackend

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.celery.single_use import note_use
from bufpool_workers.sealing import Token, single_use
from tests.support.redis_server import RedisServer

WHERE = "shop.login, argument 'password'"


def claim(token, *, app, task_id):
    single_use.claim(token, where=WHERE, store=partial(note_use, app), holder=task_id)


def close(app):
    if isinstance(app.backend, RedisBackend):
        app.backend.client.connection_pool.disconnect()
    app.pool.force_close_all()
    app.close()


@pytest.fixture
def token(tmp_path):
    text = bp.seal(
        b"x",
        task="shop.login",
        argument="password",
        expires=1000,
        single_use=True,
        public_key=bp.generate_key(tmp_path / "key"),
    )
    return Token.parse(text, where=WHERE)


@pytest.fixture(params=["backend", "broker"])
def app(request, redis_server):
    url = redis_server.celery_url()
    if request.param == "backend":
        app = Celery("shop", broker="memory://", backend=url, set_as_current=False)
    else:
        app = Celery("shop", broker=url, set_as_current=False)
    yield app
    close(app)


@pytest.fixture(params=["backend", "broker"])
def confined(request):
    """An app whose Redis user may touch keys of its own prefix only."""
    with RedisServer(host="127.0.0.1") as server:
        url = server.celery_url()
        with redis.Redis.from_url(url) as client:
            client.acl_setuser(
                "proj",
                enabled=True,
                passwords=["+word"],
                keys=["proj:*"],
                channels=["*"],
                categories=["+@all"],
            )
        url = url.replace("redis://", "redis://proj:word@")
        options = {"global_keyprefix": "proj:"}
        if request.param == "backend":
            app = Celery("shop", broker="memory://", backend=url, set_as_current=False)
            app.conf.result_backend_transport_options = options
        else:
            app = Celery("shop", broker=url, set_as_current=False)
            app.conf.broker_transport_options = options
        yield app
        close(app)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound but not listening: every connection is refused


def test_the_first_task_and_its_retries_may_claim(app, token):
    claim(token, app=app, task_id="one")
    claim(token, app=app, task_id="one")


def test_another_task_may_not(app, token):
    claim(token, app=app, task_id="one")
    with pytest.raises(bp.TokenReplayed, match=f"{WHERE}: this single-use token was used before"):
        claim(token, app=app, task_id="two")


def test_a_use_is_known_until_the_token_expires_and_a_while_after(redis_server, token):
    url = redis_server.celery_url()
    app = Celery("shop", broker="memory://", backend=url, set_as_current=False)
    claim(token, app=app, task_id="one")
    (key,) = app.backend.client.keys()
    assert key == f"bufpool:used:{token.use_id}".encode()
    assert 1290 <= app.backend.client.ttl(key) <= 1301
    close(app)


@pytest.mark.parametrize("part", ["broker", "backend"])
def test_without_redis_it_stays_closed(token, free_port, part):
    urls = {"broker": "memory://", part: f"redis://127.0.0.1:{free_port}"}
    app = Celery("shop", **urls, set_as_current=False)
    with pytest.raises(bp.ReplayStoreError, match=f"{WHERE}: a single-use token stays closed"):
        claim(token, app=app, task_id="one")


def test_an_app_without_redis_is_told_what_to_do(token):
    app = Celery("shop", broker="memory://", set_as_current=False)
    with pytest.raises(bp.ReplayStoreError, match="need Redis as result backend or as broker"):
        claim(token, app=app, task_id="one")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_brokers_that_fail_over_are_tried_in_turn(token, free_port, place):
    urls = [f"redis://127.0.0.1:{free_port}"] * 2
    with RedisServer(host="127.0.0.1") as server:
        urls.insert(place, server.celery_url())
        app = Celery("shop", broker=";".join(urls), set_as_current=False)
        claim(token, app=app, task_id="one")
        with pytest.raises(bp.TokenReplayed):
            claim(token, app=app, task_id="two")
        app.close()


@pytest.fixture
def login(tmp_path):
    """Make an app's task that opens single-use tokens, and a producer's call for it."""
    path = tmp_path / "own.key"
    public_key = bp.generate_key(path)

    def login(broker, **settings):
        testing.reset()
        app = Celery("shop", broker=broker, set_as_current=False)
        app.conf.update(bufpool_public_key=public_key, bufpool_private_keys=[str(path)], **settings)
        bp.setup(app)

        @app.task(name="shop.login", shared=False)
        @bp.sealed("password")
        def login(password):
            return bytes(password).decode()

        return login

    yield login
    testing.reset()


def sealed_once(task):
    return bp.seal(b"x", task=task, argument="password", expires=1000, single_use=True)


def test_a_redis_for_single_use_alone(redis_server, login):
    url = redis_server.celery_url()  # in Celery's words
    url = url.replace("redis+socket://", "unix://").replace("virtual_host", "db")
    task = login("memory://", bufpool_single_use_url=url)
    token = sealed_once(task)
    assert task.apply([token]).get() == "x"
    with pytest.raises(bp.TokenReplayed):
        task.apply([token]).get()
    with redis.Redis.from_url(url) as client:
        assert len(client.keys("bufpool:used:*")) == 1


def test_a_redis_for_single_use_that_is_down_keeps_tokens_closed(login, free_port):
    task = login("memory://", bufpool_single_use_url=f"redis://:zebra@127.0.0.1:{free_port}")
    with pytest.raises(bp.ReplayStoreError, match="a single-use token stays closed") as caught:
        task.apply([sealed_once(task)]).get()
    assert "zebra" not in str(caught.value)


def test_an_app_without_any_redis_does_not_seal_for_single_use(login):
    task = login("amqp://nobody")
    for named in (task, "shop.login"):
        with pytest.raises(bp.ReplayStoreError, match=r"'shop' has no Redis.*single_use_url"):
            sealed_once(named)
    assert bp.seal(b"x", task=task, argument="password", expires=1000)
    sealed_once(login("redis://nobody"))
    sealed_once(login("amqp://nobody", result_backend="redis://nobody"))
    sealed_once(login("amqp://nobody", bufpool_single_use_url="redis://nobody"))


@pytest.mark.parametrize("url", ["localhost", 5, "amqp://nobody:zebra"])
def test_invalid_redis_url_is_refused_without_quoting_it(url):
    with pytest.raises(bp.SettingsError, match="the URL of a Redis is needed") as caught:
        bp.Settings.read({"bufpool_single_use_url": url})
    assert "zebra" not in str(caught.value)


def test_a_user_of_one_prefix_may_claim_and_claim_again(confined, token):
    claim(token, app=confined, task_id="one")
    claim(token, app=confined, task_id="one")
    with pytest.raises(bp.TokenReplayed):
        claim(token, app=confined, task_id="two")
