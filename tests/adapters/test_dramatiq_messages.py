"""What Dramatiq's producers are told: nothing is enqueued with a plain secret in it."""

import dramatiq
import pytest
from dramatiq import Worker, group, pipeline
from dramatiq.brokers.stub import StubBroker
from dramatiq.encoder import JSONEncoder, PickleEncoder
from dramatiq.message import set_encoder
from dramatiq.middleware import GroupCallbacks, MiddlewareError
from dramatiq.rate_limits.backends import StubBackend

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.dramatiq import BufpoolMiddleware, serve_metrics
from bufpool_workers.sealing import generate_key

SECRET = "hunter2"  # noqa: S105 - what must show nowhere


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return generate_key(tmp_path_factory.mktemp("keys") / "private.key")


@pytest.fixture
def broker(key):
    testing.reset()
    broker = StubBroker()
    broker.add_middleware(GroupCallbacks(StubBackend()))
    broker.add_middleware(BufpoolMiddleware({"public_key": key}))
    before = dramatiq.broker.global_broker
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(before)
    broker.close()
    testing.reset()


@pytest.fixture
def actors(broker):
    @dramatiq.actor
    @bp.sealed("password")
    def login(user, password=None):
        pass

    @dramatiq.actor
    def other(*args, **kwargs):
        pass

    return login, other


@pytest.fixture
def token(key):
    return bp.seal(SECRET, task="login", argument="password", public_key=key)


def completed(login, other, value):
    together = group([other.message(1), other.message(2)])
    together.add_completion_callback(login.message("ada", value))
    return together.run()


WAYS = {
    "send": lambda login, other, value: login.send("ada", value),
    "by keyword": lambda login, other, value: login.send("ada", password=value),
    "with options": lambda login, other, value: login.send_with_options(
        kwargs={"password": value}, delay=100
    ),
    "by name": lambda login, other, value: login.broker.enqueue(
        dramatiq.Message("default", "login", ("ada", value), {}, {})
    ),
    "pipeline": lambda login, other, value: (
        other.message() | other.message() | login.message("ada", value)
    ).run(),
    "group": lambda login, other, value: group(
        [other.message(), pipeline([other.message(), login.message("ada", value)])]
    ).run(),
    "group's callback": completed,
    "argument": lambda login, other, value: other.send(
        [{"then": login.message("ada", value).asdict()}]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_plain_secret_is_refused_before_it_is_enqueued(broker, actors, way):
    with pytest.raises(MiddlewareError, match="login, argument 'password'") as refused:
        WAYS[way](*actors, SECRET)
    assert isinstance(refused.value, bp.NotSealed)
    assert SECRET not in str(refused.value)
    queued = b"".join(b"".join(queue.queue) for queue in broker.queues.values())
    assert SECRET.encode() not in queued


@pytest.mark.parametrize("way", WAYS)
def test_token_is_enqueued(broker, actors, token, way):
    WAYS[way](*actors, token)
    assert sum(queue.qsize() for queue in broker.queues.values()) >= 1


def test_damaged_token_is_refused(actors, token):
    login, _ = actors
    with pytest.raises(MiddlewareError) as refused:
        login.send("ada", token[:40])
    assert isinstance(refused.value, bp.DamagedToken)


def test_users_own_data_with_such_a_key_is_left_alone(actors):
    _, other = actors
    other.send({"actor_name": "login", "password": "mine"})
    other.send({"actor_name": "unknown", "args": ["ada", SECRET]})


def test_message_in_a_pickled_argument_is_checked_and_iterators_are_kept(broker, actors, token):
    login, other = actors
    set_encoder(PickleEncoder())
    try:
        with pytest.raises(bp.NotSealed):
            other.send(login.message("ada", SECRET))
        message = other.send(iter([login.message("ada", token), other.message(iter([1, 2]))]))
        assert [each.args for each in message.args[0]] == [("ada", token), ([1, 2],)]
    finally:
        set_encoder(JSONEncoder())


def test_actor_where_its_name_is_wanted_is_named(actors, key):
    login, _ = actors
    with pytest.raises(TypeError, match="got Actor: pass 'login'"):
        bp.seal(SECRET, task=login, argument="password", public_key=key)


def test_actor_that_is_called_opens_its_argument(broker, tmp_path):
    testing.reset()
    public = generate_key(tmp_path / "key")
    broker.middleware.pop()
    broker.add_middleware(BufpoolMiddleware({"private_keys": [str(tmp_path / "key")]}))

    @dramatiq.actor
    @bp.sealed("password")
    def shown(password):
        return bytes(password)

    token = bp.seal(SECRET, task="shown", argument="password", public_key=public)
    assert shown(token) == SECRET.encode()


def test_stub_broker_runs_jobs(broker):
    kept = []

    @dramatiq.actor
    def keep():
        kept.append(bp.secure_buffer(100))

    worker = Worker(broker, worker_timeout=100)
    worker.start()
    with pytest.warns(ResourceWarning, match="keep"):
        keep.send()
        broker.join(keep.queue_name)
        worker.join()
    secure = bp.stats().secure
    worker.stop()
    assert (secure.in_use, secure.reclaims) == (0, 1)


def test_two_brokers_with_other_settings_are_refused(broker):
    StubBroker(middleware=[BufpoolMiddleware({"max_buffer_bytes": "2GiB"})])
    with pytest.raises(bp.SettingsError, match=r"differ in .*bufpool_max_buffer_bytes"):
        bp.buffer(1)


def test_bad_settings_are_told_where_they_are_given():
    with pytest.raises(bp.SettingsError, match="wram: there is no such setting"):
        BufpoolMiddleware({"wram": {}})
    with pytest.raises(TypeError, match=r"not a broker: broker.add_middleware"):
        BufpoolMiddleware(StubBroker())
    with pytest.raises(TypeError, match="settings are a mapping of names, not str"):
        BufpoolMiddleware("warm")


def test_endpoint_is_the_commands_own():
    with pytest.raises(RuntimeError, match="the command `dramatiq` runs this"):
        serve_metrics()
