import base64
import errno
import os
import pickle
import stat

import pytest

from bufpool_workers import Pools, Settings
from bufpool_workers.errors import KeyFileError
from bufpool_workers.sealing import Keyring, generate_key, read_public, seal
from bufpool_workers.sealing.keys import check_private, check_public, key_id, read_private
from tests.sealing.lender import Lender
from tests.support.folders import open_folder


@pytest.fixture
def tmp_path():
    with open_folder() as folder:
        yield folder


@pytest.fixture
def lender():
    return Lender()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "worker.key"
    generate_key(path)
    return path


def private_text(path):
    return path.read_text().strip()


def test_a_generated_key_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        generate_key(tmp_path / "new.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600


def test_keygen_returns_the_public_half_and_nothing_else(tmp_path, lender):
    public = generate_key(tmp_path / "new.key")
    pair = read_private(tmp_path / "new.key", acquire=lender)
    assert public == "bps1-public-" + pair.public.hex()
    assert read_public(public).key_id == key_id(pair.public)


def test_keygen_never_overwrites(key_file):
    before = key_file.read_bytes()
    with pytest.raises(FileExistsError):
        generate_key(key_file)
    assert key_file.read_bytes() == before


def test_a_key_that_could_not_be_written_leaves_no_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        generate_key(tmp_path / "new.key")
    assert list(tmp_path.iterdir()) == []


def test_the_key_id_is_the_start_of_the_public_keys_sha256():
    # sha256 of 32 zero bytes
    assert key_id(bytes(32)) == "66687aadf862bd77"


def test_the_key_passes_through_lent_buffers_that_go_back(key_file, lender):
    read_private(key_file, acquire=lender)
    assert [len(buffer) for buffer in lender.lent] == [256, 32]
    assert all(buffer.released for buffer in lender.lent)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o001, 0o644])
def test_a_private_key_that_others_may_use_is_refused(key_file, lender, mode):
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o} lets others use it; run chmod 600"):
        read_private(key_file, acquire=lender)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_key_for_its_owner_is_read(key_file, lender, mode):
    key_file.chmod(mode)
    assert read_private(key_file, acquire=lender)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
class TestOwnership:
    @pytest.fixture
    def as_service(self):
        before = os.geteuid(), os.getegid()
        os.setegid(12345)
        os.seteuid(12345)
        yield
        os.seteuid(before[0])
        os.setegid(before[1])

    def give(self, key_file, *, user, group, mode):
        key_file.chmod(mode)
        os.chown(key_file, user, group)

    def test_root_may_hand_a_key_over_by_group(self, key_file, lender, request):
        self.give(key_file, user=0, group=12345, mode=0o440)
        request.getfixturevalue("as_service")
        assert read_private(key_file, acquire=lender)

    def test_a_key_of_another_user_is_refused(self, key_file, lender):
        os.chown(key_file, 54321, 0)
        with pytest.raises(KeyFileError, match=r"owned by another user \(54321\)"):
            read_private(key_file, acquire=lender)

    def test_roots_key_for_the_world_is_refused(self, key_file, lender, request):
        self.give(key_file, user=0, group=12345, mode=0o444)
        request.getfixturevalue("as_service")
        with pytest.raises(KeyFileError, match="mode 0444"):
            read_private(key_file, acquire=lender)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "found something else"),
        ("bps1-private-", "found something else"),
        ("bps1-private-" + "0" * 63, "found something else"),
        ("bps1-private-" + "0" * 65, "found something else"),
        ("bps1-private-" + "0" * 63 + "g", "not hexadecimal"),
        ("bps1-public-" + "0" * 64, "found a public key"),
        ("x" * 10_000, "found something else"),
    ],
)
def test_a_file_that_is_no_private_key_is_named_and_not_shown(key_file, content, why):
    key_file.write_text(content)
    pools = Pools(Settings())
    with pytest.raises(KeyFileError, match=f"{key_file}.*{why}") as caught:
        read_private(key_file, acquire=pools.secure.acquire)
    assert "000000" not in str(caught.value)
    stats = pools.secure.stats()  # while the error, and with it its traceback, is kept
    assert (stats.in_use, stats.escapes) == (0, 0)
    pools.close()


def test_trailing_white_space_in_a_key_file_is_accepted(key_file, lender):
    key_file.write_bytes(key_file.read_bytes().strip() + b" \r\n")
    assert read_private(key_file, acquire=lender)


def test_a_directory_or_a_pipe_is_no_key_file(tmp_path, lender):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileError, match="not a regular file"):
            read_private(path, acquire=lender)


def test_a_missing_key_file_is_named(tmp_path, lender):
    with pytest.raises(KeyFileError, match=r"missing\.key: No such file"):
        read_private(tmp_path / "missing.key", acquire=lender)


class TestCredentials:
    def test_a_name_is_looked_up_in_systemds_directory(self, key_file, lender, monkeypatch):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key_file.parent))
        assert read_private("credential:worker.key", acquire=lender)

    def test_without_the_directory_the_unit_setting_is_named(self, lender, monkeypatch):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        with pytest.raises(KeyFileError, match="use LoadCredential=worker:"):
            read_private("credential:worker", acquire=lender)

    @pytest.mark.parametrize("name", ["", "..", "../worker.key", "/etc/passwd"])
    def test_a_name_that_leaves_the_directory_is_refused(self, lender, monkeypatch, tmp_path, name):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        with pytest.raises(KeyFileError, match="the plain name of a file"):
            read_private(f"credential:{name}", acquire=lender)


class TestPublic:
    def test_a_file_and_its_text_are_the_same_key(self, tmp_path):
        text = generate_key(tmp_path / "worker.key")
        (tmp_path / "worker.pub").write_text(text + "\n")
        expected = read_public(text)
        assert read_public(f" {text}\n").key_id == expected.key_id
        assert read_public(tmp_path / "worker.pub").key_id == expected.key_id
        assert read_public(str(tmp_path / "worker.pub")).key_id == expected.key_id

    def test_a_rotated_file_is_seen_at_once(self, tmp_path):
        path = tmp_path / "worker.pub"
        path.write_text(generate_key(tmp_path / "old.key"))
        before = read_public(path).key_id
        path.write_text(generate_key(tmp_path / "new.key"))
        assert read_public(path).key_id != before

    def test_a_private_key_in_its_place_is_refused_and_not_shown(self, key_file):
        text = private_text(key_file)
        for source in (text, key_file):
            with pytest.raises(KeyFileError, match="private key; producers get") as caught:
                read_public(source)
            assert text[20:40] not in str(caught.value)

    def test_a_bare_hexadecimal_key_is_refused_and_not_shown(self, key_file):
        digits = private_text(key_file).removeprefix("bps1-private-")
        with pytest.raises(KeyFileError, match="the text bps1-public-") as caught:
            read_public(digits)
        assert digits[:10] not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(KeyFileError, match=r"none\.pub: No such file"):
            read_public(tmp_path / "none.pub")

    def test_a_file_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "x.pub").write_bytes(b"\xff" * 300)
        with pytest.raises(KeyFileError, match="expected bps1-public-"):
            read_public(tmp_path / "x.pub")


class TestKeyring:
    def test_it_holds_several_keys_in_order(self, tmp_path, lender):
        publics = [generate_key(tmp_path / name) for name in ("a.key", "b.key")]
        keyring = Keyring([tmp_path / "a.key", tmp_path / "b.key"], acquire=lender)
        assert keyring.key_ids == tuple(read_public(text).key_id for text in publics)

    def test_its_repr_shows_ids_and_no_key(self, key_file, lender):
        keyring = Keyring([key_file], acquire=lender)
        assert repr(keyring) == f"<Keyring {keyring.key_ids[0]}>"

    def test_it_is_not_pickled(self, key_file, lender):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(Keyring([key_file], acquire=lender))

    def test_the_text_of_a_private_key_is_no_path(self, key_file, lender):
        text = private_text(key_file)
        with pytest.raises(KeyFileError, match="give the path of its file") as caught:
            Keyring([text], acquire=lender)
        assert text[20:40] not in str(caught.value)


KEY = bytes(range(200, 232))
PASTED = [
    KEY.hex(),
    KEY.hex().upper(),
    KEY.hex(":"),
    KEY.hex(" ", 4),
    f"0x{KEY.hex()}",
    base64.b64encode(KEY).decode(),
    base64.urlsafe_b64encode(KEY).decode().rstrip("="),
    f"base64:{base64.b64encode(KEY).decode()}",
    f"/{base64.b64encode(KEY).decode()[1:]}",
    f" {KEY.hex()} ",
    f"credential:{KEY.hex()}",
    f"credential:{base64.b64encode(KEY).decode()}",
    repr(KEY.hex()),
    repr(base64.b64encode(KEY).decode()),
    f"{KEY.hex()}\0",
    KEY.hex() * 200,
]


@pytest.mark.parametrize("pasted", PASTED)
def test_text_that_may_be_a_key_is_not_quoted(pasted):
    for use in (check_private, read_public, lambda path: Keyring([path])):
        with pytest.raises(KeyFileError) as caught:
            use(pasted)
        assert not any(part in str(caught.value) for part in (pasted.strip(), pasted[12:-8]))
    settings = Settings(private_keys=(pasted,), public_key=pasted)
    assert pasted[12:-8] not in repr(settings)


def test_a_file_of_another_kind_of_key_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "worker.key"
    public = generate_key(path)
    check_private(path)
    path.write_text(public)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="expected a private key, found a public key"):
        check_private(path)
    path.write_text("something")
    with pytest.raises(KeyFileError, match="expected a private key, found something else"):
        check_private(path)


def test_a_private_key_as_public_one_is_refused_and_a_missing_file_is_not(tmp_path):
    path = tmp_path / "worker.key"
    public = generate_key(path)
    check_public(public)
    check_public(str(tmp_path / "gone.pub"))
    for wrong in (str(path), path.read_text()):
        with pytest.raises(KeyFileError, match="this is a private key"):
            check_public(wrong)


@pytest.mark.parametrize("point", [bytes(32), bytes([1]) + bytes(31)])
def test_a_public_key_of_low_order_is_refused(point):
    with pytest.raises(KeyFileError, match="of low order") as caught:
        seal(b"x", task="t", argument="a", public_key=f"bps1-public-{point.hex()}")
    assert caught.value.__context__ is None
