"""`@sealed_result` in process: eager and direct calls, stacking, refusals, and its tokens."""

import base64
import functools
import gc
import struct
import time
import warnings

import pytest
from celery import Celery, chain, group
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import bufpool_workers as bp
from bufpool_workers.errors import (
    DamagedToken,
    KeyFileError,
    NotSealed,
    OpenFailed,
    SealError,
    UnknownKey,
)
from bufpool_workers.runtime import current_runtime
from bufpool_workers.sealing import ResultToken, read_public
from bufpool_workers.sealing.hpke import AES_256_GCM, KeyPair
from bufpool_workers.sealing.result_token import ResultHeader
from bufpool_workers.sealing.token import MAX_SECRET_BYTES

SECRET = "correct horse battery staple"  # noqa: S105 - of nobody


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The worker's key pair, and two of callers: name to (path, public text)."""
    folder = tmp_path_factory.mktemp("keys")
    names = ("worker", "web", "cron", "stranger")
    return {name: (str(folder / name), bp.generate_key(folder / name)) for name in names}


@pytest.fixture(scope="module")
def app(keys):
    app = Celery("bank", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(
        bufpool_public_key=keys["worker"][1],
        bufpool_private_keys=[keys["worker"][0]],
        bufpool_result_public_keys=[keys["web"][1], keys["cron"][1]],
        bufpool_result_private_keys=[keys["cron"][0], keys["web"][0]],
    )
    bp.setup(app)
    app.set_current()
    return app


@pytest.fixture(scope="module")
def mint(app):
    @app.task(name="bank.mint")
    @bp.sealed_result
    def mint(value=SECRET):
        return value

    return mint


@pytest.fixture(autouse=True)
def _no_buffer_is_left():
    yield
    gc.collect()
    assert bp.stats().total.in_use == 0


@pytest.fixture
def settings(app, monkeypatch):
    """Settings that differ for one test, as if the process had begun with them."""
    runtime = current_runtime()

    def differ(**changed):
        keys = {f"bufpool_{name}": value for name, value in changed.items()}
        read = bp.Settings.from_conf({**app.conf, **keys})
        monkeypatch.setattr(runtime, "_settings", read)
        monkeypatch.setattr(runtime.keys, "_private", None)

    return differ


def opened(result, task, **options):
    with bp.unseal_result(result, task=task, **options) as secret:
        return bytes(secret)


def key_id(keys, name):
    return read_public(keys[name][1]).key_id


class TestCalls:
    def test_a_direct_call_returns_the_plain_value(self, mint):
        assert mint() == SECRET
        assert mint({"any": "thing"}) == {"any": "thing"}

    @pytest.mark.parametrize("value", ["pässword", b"\x00\xff", "", b""])
    def test_a_started_task_returns_a_token_of_it(self, mint, value):
        result = mint.apply([value])
        assert result.get().startswith("bpr1.")
        assert opened(result, mint) == (value.encode() if isinstance(value, str) else value)

    def test_the_token_opens_with_the_id_of_its_task(self, mint):
        result = mint.apply()
        assert opened(result.get(), "bank.mint", task_id=result.id) == SECRET.encode()
        with pytest.raises(TypeError, match="a token needs task_id"):
            bp.unseal_result(result.get(), task=mint)

    def test_it_opens_into_secure_memory(self, mint):
        with bp.unseal_result(mint.apply(), task=mint) as secret:
            assert (secret.kind, len(secret)) == ("secure", len(SECRET))

    def test_a_buffer_of_the_bodys_own_is_sealed_and_given_back(self, app):
        @app.task
        @bp.sealed_result
        def own():
            key = bp.secure_buffer(5)
            key[:] = b"mykey"
            return key

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert opened(own.apply(), own) == b"mykey"

    def test_a_body_that_calls_itself_gets_the_plain_value(self, app):
        @app.task
        @bp.sealed_result
        def deep(levels):
            return f"{deep(levels - 1)}+" if levels else "end"

        assert opened(deep.apply([2]), deep) == b"end++"

    def test_a_subclass_that_calls_the_sealed_run_is_sealed(self, app):
        class Base(app.Task):
            name = "bank.base"

            @bp.sealed_result
            def run(self):
                return SECRET

        class Derived(Base):
            name = "bank.derived"

            def run(self):
                return super().run()

        app.register_task(Derived())
        task = app.tasks["bank.derived"]
        assert opened(task.apply(), task) == SECRET.encode()

    def test_a_bound_task_that_retries(self, app):
        @app.task(bind=True, max_retries=1)
        @bp.sealed_result
        def retried(self):
            if not self.request.retries:
                raise self.retry(countdown=0)
            return SECRET

        assert opened(retried.apply(), retried) == SECRET.encode()

    def test_an_ignored_result_needs_no_key_and_is_dropped(self, app, settings):
        @app.task(ignore_result=True)
        @bp.sealed_result
        def silent():
            return {"not": "sealable"}

        settings(result_public_keys=(), private_keys=())
        assert silent.apply().get() is None

    def test_a_call_may_ignore_the_result(self, mint):
        assert mint.apply(ignore_result=True).get() is None

    def test_eager_canvases(self, app, mint):
        @app.task
        def passed(token):
            header = ResultToken.parse(token).header
            return opened(token, header.task, task_id=header.task_id).decode()

        assert chain(mint.s(), passed.s()).apply().get() == SECRET
        assert all(opened(r, mint) for r in group(mint.s(), mint.s()).apply().results)


class TestStacking:
    PIECES = (
        bp.sealed_result,
        bp.pooled_buffer(8, kind="secure"),
        bp.sealed("pin"),
    )

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    @pytest.mark.parametrize("returns", ["buf", "pin"])
    def test_any_order_lends_while_it_seals(self, app, order, returns):
        def body(pin, *, buf):
            buf[:] = b"12345678"
            return buf if returns == "buf" else pin

        function = body
        for number in reversed(order):
            function = self.PIECES[number](function)
        task = app.task(name=f"bank.stacked.{order}.{returns}")(function)
        token = bp.seal(b"0000", task=task, argument="pin")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = task.apply([token])
            assert opened(result, task) == (b"12345678" if returns == "buf" else b"0000")

    def test_the_function_below_stays_as_it_was(self, app):
        @bp.pooled_buffer(4)
        def plain(*, buf):
            buf[:] = b"abcd"
            return bytes(buf)

        task = app.task(name="bank.above")(bp.sealed_result(plain))
        other = app.task(name="bank.other")(plain)
        assert opened(task.apply(), task) == b"abcd"
        assert other.apply().get() == b"abcd"

    def test_callers_see_the_same_signature(self, app):
        @app.task
        @bp.sealed_result
        @bp.pooled_buffer(4)
        def work(a, *, buf): ...

        with pytest.raises(TypeError, match="required"):
            work.apply_async()

    def test_another_decorator_between_may_not_return_a_buffer(self, app):
        def others(function):
            @functools.wraps(function)
            def call(*args, **kwargs):
                return function(*args, **kwargs)

            return call

        @app.task
        @bp.sealed_result
        @others
        @bp.pooled_buffer(4)
        def between(*, buf, whole=True):
            return buf if whole else bytes(buf)

        assert len(opened(between.apply(kwargs={"whole": False}), between)) == 4
        with pytest.raises(TypeError, match="given back before it could be sealed: put sealed_res"):
            between.apply().get()

    def test_misuse(self, app):
        @bp.pooled_buffer(4)
        @bp.sealed_result
        def sealed_already(*, buf): ...

        @app.task
        def above(): ...

        def generator():
            yield

        with pytest.raises(TypeError, match="has it already"):
            bp.sealed_result(sealed_already)
        with pytest.raises(TypeError, match=r"sealed_result stands below @app\.task"):
            bp.sealed_result(above)
        with pytest.raises(TypeError, match="is a generator function"):
            bp.sealed_result(generator)


class TestRefusals:
    @pytest.mark.parametrize("value", [None, 5, ["secret"], {"a": SECRET}, bytearray(b"secret")])
    def test_another_type_fails_the_task(self, mint, value):
        with pytest.raises(TypeError, match=r"result of bank\.mint: bytes, str or a Buffer") as e:
            mint.apply([value]).get()
        assert "secret" not in str(e.value)

    @pytest.mark.parametrize("value", ["x" * MAX_SECRET_BYTES, b"x" * MAX_SECRET_BYTES])
    def test_the_largest_value(self, mint, value):
        assert len(opened(mint.apply([value]), mint)) == MAX_SECRET_BYTES
        with pytest.raises(ValueError, match="at most 1048576 bytes"):
            mint.apply([value + value[:1]]).get()

    @pytest.mark.parametrize(
        ("changed", "error", "why"),
        [
            ({"result_public_keys": ()}, KeyFileError, "set bufpool_result_public_keys"),
            ({"result_public_keys": ("./no.pub",)}, KeyFileError, r"no\.pub: No such file"),
            ({"private_keys": ()}, KeyFileError, "set bufpool_private_keys"),
        ],
    )
    def test_without_a_key_the_body_does_not_run(self, app, settings, changed, error, why):
        ran = []

        @app.task(autoretry_for=(Exception,), max_retries=3, name=f"bank.refused.{why}")
        @bp.sealed_result
        def refused():
            ran.append(True)
            return b""

        settings(**changed)
        with pytest.raises(error, match=why):
            refused.apply().get()
        assert ran == []


class TestReplies:
    def test_the_first_key_is_meant_unless_the_caller_names_another(self, mint, keys):
        assert ResultToken.parse(mint.apply().get()).header.key_id == key_id(keys, "web")
        result = mint.apply(headers=bp.reply_to(keys["cron"][1]))
        assert ResultToken.parse(result.get()).header.key_id == key_id(keys, "cron")
        assert opened(result, mint) == SECRET.encode()

    def test_the_header_holds_the_keys_id_alone(self, keys):
        assert bp.reply_to(keys["web"][1]) == {"bufpool_reply_to": key_id(keys, "web")}

    @pytest.mark.parametrize("wanted", ["stranger", "text", None])
    def test_a_key_that_is_not_listed_is_refused(self, mint, keys, wanted):
        headers = {
            "stranger": bp.reply_to(keys["stranger"][1]),
            "text": {"bufpool_reply_to": keys["stranger"][1]},
            None: {"bufpool_reply_to": ["x"]},
        }[wanted]
        with pytest.raises(UnknownKey, match="bufpool_result_public_keys does not list") as caught:
            mint.apply(headers=headers).get()
        assert "bps1-public-" not in str(caught.value)

    def test_the_worker_signs_with_the_key_that_callers_know(self, mint, keys, settings, tmp_path):
        new = tmp_path / "new.key"
        bp.generate_key(new)
        settings(private_keys=(str(new), keys["worker"][0]))
        assert opened(mint.apply(), mint) == SECRET.encode()


class TestOpening:
    def test_what_is_no_sealed_result(self, mint):
        for value in (None, 5, "plain", SECRET.encode()):
            with pytest.raises(NotSealed, match=r"result of bank\.mint: expected a token") as e:
                bp.unseal_result(value, task=mint, task_id="1")
            assert "plain" not in str(e.value).replace("a plain", "")

    def test_of_another_run_or_another_task(self, mint):
        token, other = mint.apply().get(), mint.apply()
        for task, task_id in (("bank.mint", other.id), ("bank.other", "1")):
            with pytest.raises(OpenFailed, match="of another task or another run"):
                bp.unseal_result(token, task=task, task_id=task_id)

    def test_from_a_worker_with_another_key(self, mint, keys):
        result = mint.apply()
        with pytest.raises(UnknownKey, match="sealed by a worker with key"):
            bp.unseal_result(result, task=mint, public_key=keys["stranger"][1])

    def test_a_forged_sender_does_not_open(self, mint, keys):
        forger = X25519PrivateKey.generate()
        web = read_public(keys["web"][1])
        header = ResultHeader(web.key_id, key_id(keys, "worker"), "bank.mint", "1", 1)
        pair = KeyPair(forger, forger.public_key().public_bytes_raw())
        for sender in (pair, None):
            sealed = AES_256_GCM.seal(b"x", recipient=web.key, info=header.info(), sender=sender)
            with pytest.raises(OpenFailed, match="by another worker, or was altered"):
                bp.unseal_result(ResultToken(header, sealed).text(), task=mint, task_id="1")

    def test_to_a_key_that_is_not_held(self, mint, settings, keys):
        result = mint.apply()
        settings(result_private_keys=(keys["stranger"][0],))
        with pytest.raises(UnknownKey, match="keys held here"):
            bp.unseal_result(result, task=mint)
        settings(result_private_keys=())
        with pytest.raises(UnknownKey, match="set bufpool_result_private_keys"):
            bp.unseal_result(result, task=mint)
        settings(public_key=None)
        with pytest.raises(KeyFileError, match="no public key to check the sender with"):
            bp.unseal_result(result, task=mint)

    def test_what_the_task_raised_is_raised(self, app):
        @app.task
        @bp.sealed_result
        def fails():
            raise LookupError("no such user")

        with pytest.raises(LookupError, match="no such user"):
            bp.unseal_result(fails.apply(), task=fails)

    def test_a_sealed_argument_refuses_it_by_name(self, app, mint):
        @app.task(name="bank.login")
        @bp.sealed("password")
        def login(password): ...

        token = mint.apply().get()
        why = r"password.*got a sealed result \(bpr1\): open it with unseal_result"
        with pytest.raises(NotSealed, match=why):
            login.delay(token)
        with pytest.raises(NotSealed, match=why):
            login.apply([token]).get()

    def test_every_altered_character_is_noticed(self, mint):
        result = mint.apply()
        token = result.get()
        for at in range(len(token)):
            altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            with pytest.raises(SealError):
                bp.unseal_result(altered, task=mint, task_id=result.id)


class TestTokens:
    HEADER = ResultHeader("0" * 16, "1" * 16, "bank.mint", "an-id", 1_700_000_000)

    def test_the_layout_is_the_documented_one(self):
        token = ResultToken(self.HEADER, bytes(range(50)))
        prefix, key, body = token.text().split(".")
        raw = base64.urlsafe_b64decode(body + "==="[: -len(body) % 4])
        assert (prefix, key) == ("bpr1", "0" * 16)
        expected = struct.pack(">BQ8sH", 1, 1_700_000_000, bytes.fromhex("1" * 16), 9)
        expected += b"bank.mint" + struct.pack(">H", 5) + b"an-id"
        assert raw == expected + bytes(range(50))
        assert self.HEADER.info() == b"bpr1" + bytes(8) + expected

    @given(
        st.builds(
            ResultToken,
            st.builds(
                ResultHeader,
                st.text("0123456789abcdef", min_size=16, max_size=16),
                st.text("0123456789abcdef", min_size=16, max_size=16),
                st.text(st.characters(codec="utf-8")),
                st.text(st.characters(codec="utf-8")),
                st.integers(0, 1 << 30),
            ),
            st.binary(min_size=48),
        )
    )
    def test_parsing_undoes_writing(self, token):
        assert ResultToken.parse(token.text()) == token

    @given(st.text() | st.from_regex(r"bpr1\.[0-9a-f]{16}\.[A-Za-z0-9_-]*", fullmatch=True))
    def test_any_text_is_parsed_or_refused(self, text):
        try:
            token = ResultToken.parse(text)
        except SealError:
            return
        assert token.text() == text

    def damaged(self, body, why):
        text = f"bpr1.{'0' * 16}.{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}"
        with pytest.raises(DamagedToken, match=why):
            ResultToken.parse(text)

    def test_result_token_that_no_worker_would_make_is_refused(self):
        body = self.HEADER.pack() + bytes(48)
        for flags in (0, 2, 3, 255):
            self.damaged(bytes([flags]) + body[1:], "flags that are not known")
        late = self.HEADER._replace(created_at=int(time.time()) + 2 * 24 * 3600)
        self.damaged(late.pack() + bytes(48), "made in the future")
        self.damaged(body[:-1], "cut or altered")
        self.damaged(body[:17] + b"\xff\xff" + body[19:], "cut or altered")
        self.damaged(body[:19] + b"\xff" + body[20:], "cut or altered")
        with pytest.raises(DamagedToken, match="version that is not known"):
            ResultToken.parse("bpr2.x")
        with pytest.raises(DamagedToken, match="larger than that of any secret"):
            ResultToken.parse("bpr1." + "0" * 16 + "." + "A" * 2_000_000)
