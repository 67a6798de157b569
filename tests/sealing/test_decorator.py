"""`@sealed` in process: eager and direct calls, misuse, and what may be published."""

import functools
import gc
import inspect
import json
import pickle
import weakref

import pytest
from celery import Celery, Task, chain, chord, group, signals
from pydantic import BaseModel

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.errors import NotSealed, OpenFailed, ReplayStoreError
from bufpool_workers.runtime import current_runtime
from bufpool_workers.sealing import seal as seal_elsewhere
from tests.support.forked import run_forked

SECRET = b"correct horse battery staple"
PLAIN = SECRET.decode()


class User(BaseModel):
    name: str


@pytest.fixture(scope="module")
def key_path(tmp_path_factory):
    return tmp_path_factory.mktemp("keys") / "worker.key"


@pytest.fixture(scope="module")
def key_settings(key_path):
    """Of all apps of this module, since they share a process."""
    public_key = bp.generate_key(key_path)
    return {"bufpool_public_key": public_key, "bufpool_private_keys": [str(key_path)]}


@pytest.fixture(scope="module")
def app(key_settings):
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(key_settings, task_store_eager_result=False)
    bp.setup(app)
    app.set_current()
    return app


@pytest.fixture
def eager(app):
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


@pytest.fixture
def published():
    names = []

    def note(sender, **_):
        names.append(sender)

    # not weak: before Celery 5.7 an app would go on with the receivers of before a dead one
    signals.before_task_publish.connect(note, weak=False)
    yield names
    signals.before_task_publish.disconnect(note)


@pytest.fixture(scope="module")
def login(app):
    @app.task(name="shop.login")
    @bp.sealed("password")
    def login(user, password, note=None):
        return [user, bytes(password).decode(), type(password).__name__, password.kind, note]

    return login


@pytest.fixture(scope="module")
def transfer(app):
    @app.task(name="shop.transfer", bind=True)
    @bp.pooled_buffer(100)
    @bp.sealed("pin")
    @bp.sealed("iban", "code")
    def transfer(self, iban, pin, *, code=None, buf):
        code = code and bytes(code)
        return [self.name, bytes(iban), bytes(pin), code, buf.kind]

    return transfer


@pytest.fixture(scope="module")
def token(login):
    return bp.seal(SECRET, task=login, argument="password", expires=300)


EXPECTED = ["ada", PLAIN, "Buffer", "secure", None]


class TestOpening:
    def test_by_keyword(self, login, token):
        assert login("ada", password=token) == EXPECTED

    def test_by_position(self, login, token):
        assert login("ada", token, "hi") == [*EXPECTED[:-1], "hi"]

    @pytest.mark.usefixtures("eager")
    def test_in_eager_mode(self, login, token):
        assert login.delay("ada", password=token).get() == EXPECTED

    @pytest.mark.usefixtures("eager")
    def test_in_an_eager_chain_and_group(self, login, token):
        steps = chain(login.s("ada", token), group(login.s(token), login.s(password=token)))
        first, second = steps.apply().get()
        assert first[1] == second[1] == PLAIN

    def test_several_arguments_stacked_and_with_a_pooled_buffer(self, transfer):
        seal = functools.partial(bp.seal, task=transfer)
        result = transfer(
            seal(b"DE1", argument="iban"),
            pin=seal(b"1234", argument="pin"),
            code=seal(b"99", argument="code"),
        )
        assert result == ["shop.transfer", b"DE1", b"1234", b"99", "regular"]

    def test_an_argument_left_out_keeps_its_default(self, transfer):
        seal = functools.partial(bp.seal, task=transfer)
        iban, pin = seal(b"DE1", argument="iban"), seal(b"1234", argument="pin")
        assert transfer(iban, pin)[3] is None
        assert transfer(iban, pin, code=None)[3] is None

    def test_a_default_that_came_through_the_broker_is_one(self, app):
        @app.task(name="shop.ask")
        @bp.sealed("password")
        def ask(password="not given, ask"):  # noqa: S107 (no password)
            return password

        sent = json.loads(json.dumps({"password": "not given, ask"}))
        assert ask(**sent) == "not given, ask"
        with pytest.raises(NotSealed):
            ask(password="not given, as")  # noqa: S106

    def test_the_buffer_is_wiped_and_back_when_the_body_is_done(self, app):
        seen = []

        @app.task(name="shop.keep")
        @bp.sealed("password")
        def keep(password):
            seen.append(password)
            raise KeyError("body")

        before = bp.stats().secure.in_use
        with pytest.raises(KeyError):
            keep(bp.seal(SECRET, task=keep, argument="password"))
        assert seen[0].released
        assert bp.stats().secure.in_use == before

    def test_a_pydantic_task(self, app):
        @app.task(name="shop.pydantic", bind=True, pydantic=True)
        @bp.sealed("password")
        def check(self, user: User, password: bp.Buffer):
            return [self.name, user.name, bytes(password).decode()]

        token = bp.seal(SECRET, task=check, argument="password")
        result = check.apply(args=({"name": "ada"}, token)).get()
        assert result == ["shop.pydantic", "ada", PLAIN]

    def test_a_class_based_task(self, app):
        class Login(Task):
            name = "shop.class_login"

            @bp.sealed("password")
            def run(self, password):
                return self.name, bytes(password)

        task = app.register_task(Login())
        token = bp.seal(SECRET, task=task, argument="password")
        assert task(password=token) == ("shop.class_login", SECRET)

    def test_a_task_whose_run_a_monitoring_agent_has_replaced(self, app):
        """As New Relic's does, with a proxy (a stand-in for it here)."""

        class Proxy:
            def __init__(self, wrapped):
                self._wrapped = wrapped

            def __call__(self, *args, **kwargs):
                return self._wrapped(*args, **kwargs)

            def __getattr__(self, name):
                return getattr(self._wrapped, name)

        @app.task(name="shop.watched", bind=True)
        @bp.pooled_buffer(64)
        @bp.sealed("password")
        def watched(self, password, *, buf):
            return bytes(password), len(buf)

        watched.run = Proxy(watched.run)
        token = bp.seal(SECRET, task=watched, argument="password")
        assert watched.apply(args=(token,)).get() == (SECRET, 64)
        assert watched(password=token) == (SECRET, 64)

    def test_a_subclass_that_calls_the_sealed_run_of_its_base(self, app):
        class Base(Task):
            name = "shop.base"

            @bp.sealed("password")
            def run(self, user, password):
                return user, bytes(password)

        class Audited(Base):
            name = "shop.audited"

            def run(self, user, password):
                return super().run(user, password)

        task = app.register_task(Audited())
        token = bp.seal(SECRET, task=task, argument="password")
        assert task.apply(args=("ada", token)).get() == ("ada", SECRET)
        assert task("ada", password=token) == ("ada", SECRET)

    def test_a_subclass_that_seals_what_its_base_seals_is_told_to_seal_once(self, app):
        class Base(Task):
            name = "shop.sealed_base"

            @bp.sealed("password")
            def run(self, user, password):
                return user, bytes(password)

        class Audited(Base):
            name = "shop.sealed_twice"

            @bp.sealed("password")
            def run(self, user, password):
                return super().run(user, password)

        task = app.register_task(Audited())
        token = bp.seal(SECRET, task=task, argument="password")
        with pytest.raises(TypeError, match=r"Base\.run: .* leave `sealed` off one of the two"):
            task.apply(args=("ada", token)).get()

    def test_the_tasks_own_name_counts_whatever_it_is(self, app):
        @bp.sealed("password")
        def check(password):
            return bytes(password)

        one = app.task(name="shop.one")(check)
        other = app.task(name="shop.other")(check)
        token = bp.seal(SECRET, task="shop.one", argument="password")
        assert one(token) == SECRET
        with pytest.raises(OpenFailed, match=r"shop\.other, argument 'password'"):
            other(token)

    def test_the_signature_is_the_functions_own(self, login):
        assert list(inspect.signature(login.run).parameters) == ["user", "password", "note"]


class TestRefusals:
    @pytest.mark.parametrize("value", [PLAIN, SECRET, 7, None, ["x"]])
    def test_an_unsealed_value_does_not_reach_the_body(self, login, value):
        with pytest.raises(NotSealed, match=r"shop\.login, argument 'password'") as caught:
            login("ada", value)
        assert "horse" not in str(caught.value)

    def test_autoretry_does_not_retry_a_token_that_does_not_open(self, app, published):
        @app.task(name="shop.stubborn", autoretry_for=(Exception,), max_retries=None)
        @bp.sealed("password")
        def stubborn(password):
            raise AssertionError(password)

        other = bp.seal(SECRET, task="shop.other", argument="password")
        result = stubborn.apply(args=(other,))
        assert result.state == "FAILURE"
        assert type(result.result) is OpenFailed
        assert published == []

    def test_autoretry_retries_what_the_body_raises(self, app):
        calls = []

        @app.task(name="shop.flaky", autoretry_for=(KeyError,), retry_backoff=False, max_retries=3)
        @bp.sealed("password")
        def flaky(password):
            calls.append(bytes(password))
            if len(calls) < 3:
                raise KeyError
            return "done"

        result = flaky.apply(args=(bp.seal(SECRET, task=flaky, argument="password"),))
        assert result.get() == "done"
        assert calls == [SECRET] * 3

    def test_single_use_without_redis_stays_closed(self, login):
        token = seal_elsewhere(
            SECRET,
            task=login.name,
            argument="password",
            expires=60,
            single_use=True,
            public_key=login.app.conf.bufpool_public_key,
        )
        with pytest.raises(ReplayStoreError, match="need Redis as result backend or as broker"):
            login("ada", token)

    def test_secrets_opened_before_a_failing_token_are_given_back(self, transfer):
        seal = functools.partial(bp.seal, task=transfer)
        before = bp.stats().secure
        iban, pin = seal(b"DE1", argument="iban"), seal(b"1234", argument="pin")
        with pytest.raises(OpenFailed, match="argument 'code'"):
            transfer(iban, pin, code=pin)
        after = bp.stats().secure
        assert after.gets - before.gets == 3
        assert after.in_use == before.in_use

    def test_the_bare_function_does_not_open(self, login, token):
        with pytest.raises(TypeError, match="call the task itself"):
            login.run("ada", token)


class TestMisuse:
    def test_above_the_task(self, app):
        with pytest.raises(TypeError, match=r"sealed stands below @app\.task"):

            @bp.sealed("password")
            @app.task(name="shop.wrong")
            def wrong(password):
                return password

    @pytest.mark.parametrize("names", [(), (len,), (5,)])
    def test_without_names(self, names):
        with pytest.raises(TypeError, match="needs the names of parameters"):
            bp.sealed(*names)

    @pytest.mark.parametrize("name", ["pasword", "rest", "more", "only"])
    def test_on_what_cant_be_given_by_keyword(self, name):
        with pytest.raises(ValueError, match=f"check has no parameter '{name}'"):

            @bp.sealed(name)
            def check(only, /, *rest, **more):
                return only, rest, more

    def test_on_the_parameter_that_pooled_buffer_hides(self):
        with pytest.raises(ValueError, match="no parameter 'buf'"):

            @bp.sealed("buf")
            @bp.pooled_buffer(10)
            def check(*, buf):
                return buf

    def test_twice_for_one_parameter(self):
        with pytest.raises(ValueError, match="'password' is sealed already"):

            @bp.sealed("password")
            @bp.sealed("password")
            def check(password):
                return password

    def test_on_a_generator(self):
        with pytest.raises(TypeError, match="is a generator function"):

            @bp.sealed("password")
            def check(password):
                yield password

    def test_sealing_for_an_argument_that_is_not_sealed(self, login):
        with pytest.raises(ValueError, match="no sealed argument 'user', only password"):
            bp.seal(SECRET, task=login, argument="user")

    def test_sealing_for_a_task_without_sealed_arguments(self, app):
        @app.task(shared=False)
        def check(password):
            return password

        with pytest.raises(ValueError, match="no sealed argument 'password', nor any other"):
            bp.seal(SECRET, task=check, argument="password")


class TestPublishing:
    """A refused call makes no message at all."""

    def refused(self, publish, published, match=r"shop\.login, argument 'password': expected"):
        with pytest.raises(NotSealed, match=match) as caught:
            publish()
        assert published == []
        assert "horse" not in str(caught.value)

    def test_sealed_calls_pass(self, login, token, published):
        login.delay("ada", token)
        login.apply_async(("ada",), {"password": token}, countdown=60)
        chain(login.s("ada", token), login.s(token)).delay()
        group(login.s("ada", token), login.s("bob", password=token)).delay()
        assert published == ["shop.login"] * 5

    @pytest.mark.parametrize("value", [PLAIN, SECRET, 5, None, "bps1.", "bps1.0.AAAA"])
    def test_delay(self, login, published, value):
        with pytest.raises(bp.SealError, match=r"shop\.login, argument 'password'"):
            login.delay("ada", value)
        assert published == []

    def test_apply_async_with_an_eta(self, login, published):
        self.refused(
            lambda: login.apply_async(("ada",), {"password": PLAIN}, countdown=60), published
        )

    def test_send_task_by_name(self, app, login, published):
        self.refused(lambda: app.send_task(login.name, ("ada", PLAIN)), published)

    def test_a_bound_task_counts_its_arguments_without_self(self, transfer, published):
        iban = bp.seal(b"DE1", task=transfer, argument="iban")
        self.refused(
            lambda: transfer.delay(iban, PLAIN), published, "shop.transfer, argument 'pin'"
        )

    def test_a_keyword_only_argument(self, transfer, published):
        seal = functools.partial(bp.seal, task=transfer)
        self.refused(
            lambda: transfer.delay(
                seal(b"DE1", argument="iban"), seal(b"1", argument="pin"), code=PLAIN
            ),
            published,
            "shop.transfer, argument 'code'",
        )

    def test_later_in_a_chain(self, login, token, published):
        steps = login.s("ada", token) | login.s(PLAIN)
        self.refused(steps.delay, published)

    def test_later_in_a_chain_without_the_result(self, login, token, published):
        steps = login.s("ada", token) | login.si("bob", PLAIN)
        self.refused(steps.delay, published)

    def test_in_a_group_at_the_end_of_a_chain(self, login, token, published):
        steps = login.s("ada", token) | group(login.s(token), login.s(password=PLAIN))
        self.refused(steps.delay, published)

    def test_in_a_chord_inside_a_chain(self, login, token, published):
        steps = login.s("ada", token) | chord([login.s(token)], login.s(PLAIN))
        self.refused(steps.delay, published)

    def test_in_a_chain_inside_a_link(self, login, token, published):
        link = login.s(token) | login.s(PLAIN)
        self.refused(lambda: login.apply_async(("ada", token), link=link), published)

    def test_in_a_callback_of_a_callback(self, login, token, published):
        callback = login.s(token)
        callback.link(login.s(PLAIN))
        self.refused(lambda: login.apply_async(("ada", token), link=callback), published)

    @pytest.mark.parametrize("immutable", [False, True])
    def test_in_an_error_callback(self, login, token, published, immutable):
        callback = login.si("ada", PLAIN) if immutable else login.s(password=PLAIN)
        self.refused(lambda: login.apply_async(("ada", token), link_error=callback), published)

    def test_an_error_callback_by_position_passes_sealed(self, login, token, published):
        login.apply_async(("ada", token), link_error=login.s(token))
        assert published == ["shop.login"]

    def test_as_the_body_of_a_chord_without_its_own_store(self, app, login, published):
        self.refused(
            lambda: app.tasks["celery.chord_unlock"].apply_async(
                ("group-id", dict(login.s(PLAIN))), {"result": []}
            ),
            published,
        )

    def test_map_and_starmap(self, login, token, published):
        login.starmap([("ada", token), ("bob", token)]).delay()
        assert published == ["celery.starmap"]
        published.clear()
        self.refused(lambda: login.starmap([("ada", token), ("bob", PLAIN)]).delay(), published)
        self.refused(lambda: login.chunks([("bob", PLAIN)], 1).delay(), published)

    def test_a_task_without_sealed_arguments_is_not_touched(self, app, published):
        @app.task(name="shop.plain")
        def plain(password):
            return password

        plain.delay(PLAIN)
        app.send_task("shop.elsewhere", (PLAIN,))
        assert published == ["shop.plain", "shop.elsewhere"]

    def test_both_message_protocols(self, app, login, published):
        app.conf.task_protocol = 1
        try:
            self.refused(lambda: login.delay("ada", PLAIN), published)
        finally:
            app.conf.task_protocol = 2

    @pytest.mark.parametrize("early", ["", "amqp", "finalize"])
    def test_whatever_was_done_with_the_app_before(self, key_settings, published, early):
        late = Celery("late", broker="memory://", set_as_current=False)
        late.conf.update(key_settings)
        if early == "finalize":
            late.finalize()
        elif early:
            assert late.amqp
        bp.setup(late)

        @late.task(name="late.login", shared=False)
        @bp.sealed("password")
        def login(password):
            return password

        for publish in (lambda: late.send_task("late.login", (PLAIN,)), lambda: login.delay(PLAIN)):
            self.refused(publish, published, r"late\.login, argument 'password'")

    def test_an_app_that_must_not_finalize_itself_still_publishes(self, key_settings, published):
        app = Celery("strict", broker="memory://", set_as_current=False, autofinalize=False)
        app.conf.update(key_settings)
        bp.setup(app)
        app.send_task("elsewhere", (PLAIN,))
        assert published == ["elsewhere"]

    def test_a_copy_of_the_app_refuses_too(self, app, login, published):
        copy = pickle.loads(pickle.dumps(app))  # noqa: S301 - what a spawned child is given
        self.refused(lambda: copy.send_task(login.name, ("ada", PLAIN)), published)


class TestPublicKeySetting:
    def make(self, **conf):
        app = Celery("other", broker="memory://", set_as_current=False, namespace="SHOP")
        app.config_from_object(conf)

        @app.task(name="other.login", shared=False)
        @bp.sealed("password")
        def login(password):
            return password

        return login

    def test_the_tasks_own_app_decides_with_its_namespace(self, tmp_path, app):
        public_key = bp.generate_key(tmp_path / "other.key")
        login = self.make(SHOP_BUFPOOL_PUBLIC_KEY=public_key)
        token = bp.seal(SECRET, task=login, argument="password")
        keyring = bp.Keyring([tmp_path / "other.key"])
        with keyring.unseal(token, task="other.login", argument="password") as opened:
            assert bytes(opened) == SECRET
        assert public_key != app.conf.bufpool_public_key

    def test_without_one_it_says_what_to_do(self):
        with pytest.raises(bp.KeyFileError, match="no public key: set bufpool_public_key, or"):
            bp.seal(SECRET, task=self.make(), argument="password")


class TestKeyring:
    @pytest.mark.usefixtures("app")
    def test_it_is_loaded_once_in_a_process(self):
        runtime = current_runtime()
        before = runtime.keys.private
        assert runtime.keys.private is before
        assert run_forked(lambda: check_is_another(before)) == 0
        assert runtime.keys.private is before


def check_is_another(keyring):
    assert current_runtime().keys.private is not keyring
    assert current_runtime().keys.private.key_ids == keyring.key_ids


class TestTwoApps:
    """A process has one configuration."""

    def make(self, name, **conf):
        app = Celery(name, broker="memory://", set_as_current=False)
        app.conf.update(conf)
        bp.setup(app)
        return app

    def test_the_same_settings_are_fine(self):
        testing.reset()
        kept = [self.make("one", bufpool_warm_seconds=1), self.make("two", bufpool_warm_seconds=1)]
        bp.buffer(10).release()
        assert len(kept) == 2

    def test_other_settings_raise_at_the_next_use_and_name_both(self):
        testing.reset()
        first = self.make("one", bufpool_warm_seconds=1)
        with bp.buffer(10):
            second = self.make("two", BUFPOOL_WARM_SECONDS=2, bufpool_debug=True)
            for use in (lambda: bp.buffer(10), bp.stats, lambda: current_runtime().keys.private):
                with pytest.raises(bp.SettingsError, match=r"'one' and .*'two' .* differ in") as e:
                    use()
                assert "bufpool_warm_seconds" in str(e.value)
                assert "bufpool_debug" in str(e.value)
        del first, second

    def test_an_app_that_is_gone_is_not_compared(self):
        testing.reset()
        kept = self.make("one", bufpool_warm_seconds=1)
        gone = self.make("two", bufpool_warm_seconds=2)
        reference = weakref.ref(gone)
        del gone
        gc.collect()
        assert reference() is None
        bp.buffer(10).release()
        assert kept.main == "one"

    def test_pools_made_before_the_first_app_follow_its_settings(self):
        testing.reset()
        before = bp.current_pools()
        with bp.buffer(10) as kept:
            app = self.make("one", bufpool_warm_seconds=1)
            assert bp.current_pools() is not before
            assert bp.current_pools().settings.warm_seconds == 1
            assert not kept.released
        assert app.main == "one"
