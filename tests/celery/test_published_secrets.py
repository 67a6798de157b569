"""What reaches a real Redis of calls that carry a plain secret: no byte of it, however nested."""

import base64
import json
import os
from collections import deque
from types import MappingProxyType

import pytest
import redis
from celery import Celery, chain, chord, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bufpool_workers as bp
from tests.support.celery_worker import close_client

SECRET = "correct horse battery staple"  # noqa: S105 (no password)


class Shop:
    """An app on a real Redis, with tasks that are sealed in different ways."""

    def __init__(self, redis_server, public_key, **conf):
        url = redis_server.celery_url()
        database = url.partition("virtual_host=")[2]
        client_url = f"unix://{redis_server.socket}?db={database}"
        self.app = Celery("store", broker=url, backend=url, set_as_current=False)
        self.app.conf.update(bufpool_public_key=public_key, **conf)
        bp.setup(self.app)
        self.redis = redis.Redis.from_url(client_url)

        @self.app.task(name="store.login", shared=False)
        @bp.sealed("password")
        def login(user, password, note=None):
            return user, password, note

        # Celery's autoretry puts a function of its own around it, with another signature
        @self.app.task(name="store.vault", bind=True, autoretry_for=(KeyError,), shared=False)
        @bp.pooled_buffer(64)
        @bp.sealed("password")
        def vault(self, password, note=None, *, buf):
            return password, note, buf

        @self.app.task(name="store.report", shared=False)
        @bp.sealed("password")
        def report(request, error, trace, password=None):
            return request, error, trace, password

        @self.app.task(name="store.note", shared=False)
        def note(*args, **kwargs):
            return args, kwargs

        self.login, self.vault, self.report, self.note = login, vault, report, note
        self.tokens = {
            task.name: bp.seal(SECRET, task=task, argument="password")
            for task in (login, vault, report)
        }

    def published(self):
        """All that Redis holds, with the bodies of messages as their serializer wrote them."""
        found = []
        for key in self.redis.scan_iter():
            kind = self.redis.type(key)
            if kind == b"list":
                for raw in self.redis.lrange(key, 0, -1):
                    found += [raw, base64.b64decode(json.loads(raw)["body"])]
            elif kind == b"string":
                found.append(self.redis.get(key))
        return b"\n".join(found)


@pytest.fixture(scope="module")
def shops(redis_server, tmp_path_factory):
    """A shop for each message protocol and serializer: Celery keeps to those of its start."""
    public_key = bp.generate_key(tmp_path_factory.mktemp("keys") / "worker.key")
    shops = {
        (protocol, serializer): Shop(
            redis_server,
            public_key,
            task_protocol=protocol,
            task_serializer=serializer,
            accept_content=["json", "pickle"],
        )
        for protocol in (1, 2)
        for serializer in ("json", "pickle")
    }
    yield shops
    for shop in shops.values():
        # results that are collected later would reconnect to a server that is gone
        shop.app.backend.result_consumer.subscribed_to.clear()
        shop.redis.close()
        close_client(shop.app)


@pytest.fixture
def shop(shops):
    return shops[2, "json"]


class Canvases:
    """Draws canvases in which each sealed parameter gets a token, or the secret in its place."""

    def __init__(self, shop, draw, *, plain):
        self.shop, self.draw, self.plain = shop, draw, plain
        self.has_secret = False

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def value(self, task):
        if self.plain and (not self.has_secret or self.pick(True, False)):
            self.has_secret = True
            return SECRET
        return self.shop.tokens[task.name]

    def canvas(self, depth, given=0):
        """A signature that Celery gives `given` arguments before its own."""
        kinds = [self.call]
        if depth:
            kinds += [self.chain, self.group, self.chord, self.items, self.argument, self.linked]
        return self.pick(*kinds)(depth - 1, given)

    def call(self, _depth, given):
        task = self.pick(self.shop.login, self.shop.vault)
        value = self.value(task)
        before = 0 if task is self.shop.vault else 1
        immutable = not given or self.pick(True, False)
        args = ["ada"] * (before - (0 if immutable else given))
        how = self.pick("position", "name", "twice")
        kwargs = {"password": value} if how != "position" else {}
        if how != "name":
            args.append(value)
        if not immutable and given > before:
            args, kwargs = [], {"password": value}
        make = task.signature
        if self.pick(True, False):
            make = lambda *rest, **more: self.shop.app.signature(task.name, *rest, **more)  # noqa: E731
        return make(tuple(args), kwargs, immutable=immutable)

    def several(self, depth, given, later=None):
        count = self.pick(1, 2, 3)
        after = given if later is None else later
        return [self.canvas(depth, given if at == 0 else after) for at in range(count)]

    def chain(self, depth, given):
        return chain(*self.several(depth, given, later=1), app=self.shop.app)

    def group(self, depth, given):
        return group(self.several(depth, given), app=self.shop.app)

    def chord(self, depth, given):
        return chord(self.several(depth, given), self.canvas(depth, 1), app=self.shop.app)

    def items(self, _depth, _given):
        task = self.shop.login
        items = [("ada", self.value(task)) for _ in range(self.pick(1, 2))]
        make = self.pick("starmap", "chunks", "map")
        if make == "map":
            return self.shop.vault.map([self.value(self.shop.vault)])
        items = items if self.pick(True, False) else iter(items)
        return task.starmap(items) if make == "starmap" else task.chunks(items, 1)

    def argument(self, depth, _given):
        """A signature among a task's own arguments, in some container."""
        inner = self.canvas(depth)
        if self.pick(True, False):
            inner = json.loads(json.dumps(inner, default=list))
        wrapped = self.pick(
            lambda it: it,
            lambda it: [it],
            lambda it: (1, it),
            lambda it: {"then": [{"do": it}]},
            lambda it: iter([it]),
            lambda it: [[iter([(it,)])]],
        )(inner)
        note = self.shop.note
        return note.si(wrapped) if self.pick(True, False) else note.si(callback=wrapped)

    def linked(self, depth, given):
        canvas = self.call(depth, given)
        if self.pick(True, False):
            canvas.link(self.canvas(depth, 1))
            return canvas
        if self.pick(True, False):
            errback = self.shop.report.s(self.value(self.shop.report))
        else:  # it gets the failed task's id alone
            errback = self.shop.vault.s(password=self.value(self.shop.vault))
        canvas.link_error(errback)
        return canvas


def publish(shop, draw, *, plain):
    """Publish a canvas in some way; return the refusal, if there was one."""
    shop.redis.flushdb()
    canvas = Canvases(shop, draw, plain=plain).canvas(3)
    try:
        canvas.apply_async()
    except bp.SealError as error:
        return error
    except (TypeError, ValueError, AttributeError):
        return None  # Celery itself refuses it, sealed or not
    return None


relaxed = settings(max_examples=500, suppress_health_check=list(HealthCheck))
if fuzz_examples := os.environ.get("BUFPOOL_FUZZ_EXAMPLES"):
    relaxed = settings(relaxed, max_examples=int(fuzz_examples))
any_shop = st.tuples(st.sampled_from([1, 2]), st.sampled_from(["json", "pickle"]))


@relaxed
@given(which=any_shop, data=st.data())
def test_no_canvas_takes_a_plain_secret_to_redis(shops, which, data):
    refusal = publish(shops[which], data.draw, plain=True)
    assert SECRET.encode() not in shops[which].published()
    assert SECRET not in str(refusal)


@relaxed
@given(which=any_shop, data=st.data())
def test_no_canvas_of_tokens_is_refused(shops, which, data):
    assert publish(shops[which], data.draw, plain=False) is None


def test_autoretry_over_a_bound_task_counts_its_own_arguments(shop):
    shop.redis.flushdb()
    for refused in (lambda: shop.vault.delay(SECRET), lambda: shop.vault.delay(password=SECRET)):
        with pytest.raises(bp.NotSealed, match=r"store\.vault, argument 'password'"):
            refused()
    token = shop.tokens["store.vault"]
    shop.vault.delay(token)
    shop.vault.delay(token, note=SECRET.upper())
    assert SECRET.encode() not in shop.published()
    assert token.encode() in shop.published()


def test_the_task_of_a_subclass_is_as_sealed_as_its_base(shop):
    class Login(shop.app.Task):
        name = "store.class_login"

        @bp.sealed("password")
        def run(self, password):
            return password

    class Audited(Login):
        name = "store.audited_login"

        def run(self, user, password):
            return super().run(password)

    task = shop.app.register_task(Audited())
    for args in ((SECRET, SECRET), ("ada", SECRET)):
        with pytest.raises(bp.NotSealed, match=r"store\.audited_login, argument 'password'"):
            task.delay(*args)
    task.delay("ada", bp.seal(SECRET, task=task, argument="password"))


@pytest.mark.parametrize(
    "data",
    [
        {"task": "store.login"},
        {"task": "store.note", "args": ["ada", SECRET]},
        {"task": 5, "args": ["ada", SECRET]},
        {"task": "no such", "kwargs": {"password": SECRET}},
        {"task": "store.login", "priority": SECRET},
    ],
)
def test_data_that_is_no_call_of_a_sealed_task_is_left_alone(shop, data):
    shop.note.delay(data, [data], now=data)


CONTAINERS = [
    deque,
    tuple,
    list,
    iter,
    lambda items: dict(enumerate(items)),
    lambda items: MappingProxyType(dict(enumerate(items))),
    lambda items: (item for item in items),
    lambda items: map(dict, items),
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_of_any_kind_are_looked_into(shop, container):
    call = {"task": "store.login", "args": ("ada", SECRET)}
    with pytest.raises(bp.NotSealed, match=r"store\.login, argument 'password'"):
        shop.note.delay(container([call]))


def test_iterators_arrive_as_lists(shop):
    shop.redis.flushdb()
    shop.note.delay(iter([1, (n for n in (2, 3))]), rest=[iter("ab")])
    assert b'[[1, [2, 3]]], {"rest": [["a", "b"]]}' in shop.published()


def test_an_iterator_without_an_end_is_refused(shop):
    def forever():
        while True:
            yield 0

    with pytest.raises(bp.NotSealed, match=r"store\.note: .* more than 1000000 items; give a list"):
        shop.note.delay(forever())


def test_data_in_circles_or_too_deep_is_no_endless_walk(shops):
    shop = shops[2, "pickle"]
    circle = [{"task": "store.login", "args": ("ada", shop.tokens["store.login"])}]
    circle.append(circle)
    shop.note.delay(circle)
    circle[0]["args"] = ("ada", SECRET)
    with pytest.raises(bp.NotSealed, match=r"store\.login, argument 'password'"):
        shop.note.delay(circle)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(bp.NotSealed, match=r"store\.note: .* too deep"):
        shop.note.delay(deep)
