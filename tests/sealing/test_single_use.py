"""The store of used tokens, on a real Redis, and without one."""

import socket
from functools import partial

import pytest
import redis
from celery import Celery

import bufpool_workers as bp
from bufpool_workers.celery.single_use import note_use
from bufpool_workers.sealing import Token, single_use
from tests.support.redis_server import RedisServer

WHERE = "shop.login, argument 'password'"


def claim(token, *, app, task_id):
    single_use.claim(token, where=WHERE, store=partial(note_use, app), holder=task_id)


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
    app.close()


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
        app.close()


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
    app.close()


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


def test_a_user_of_one_prefix_may_claim_and_claim_again(confined, token):
    claim(token, app=confined, task_id="one")
    claim(token, app=confined, task_id="one")
    with pytest.raises(bp.TokenReplayed):
        claim(token, app=confined, task_id="two")
