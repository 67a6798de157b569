"""The demo's tasks as functions: what they give, and that they give every buffer back."""

import hashlib
import os

import numpy as np
import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from tasks import arrays, credentials, files


@pytest.fixture(autouse=True, scope="module")
def _keys(tmp_path_factory, own_process):
    """Make this process a worker, and a caller whose key the worker knows."""
    folder = tmp_path_factory.mktemp("keys")
    worker, caller = str(folder / "worker.key"), str(folder / "own.key")
    testing.configure(
        bp.Settings(
            public_key=bp.generate_key(worker),
            private_keys=(worker,),
            result_public_keys=(bp.generate_key(caller),),
            result_private_keys=(caller,),
        )
    )


@pytest.fixture(autouse=True)
def every_buffer_comes_back():
    before = bp.stats().total
    yield
    after = bp.stats().total
    assert after.gets > before.gets
    assert after.in_use == before.in_use
    assert after.escapes == before.escapes
    assert after.reclaims == before.reclaims


@pytest.fixture(params=[0, 1, files.CHUNK, 2 * files.CHUNK + 7])
def content(request):
    return os.urandom(request.param)


def test_digest_is_that_of_the_whole_file(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert files.digest(str(path)) == hashlib.sha256(content).hexdigest()


def test_copy_has_the_same_bytes_under_its_name_only(tmp_path, content):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    assert files.copy(str(source), str(target)) == len(content)
    assert target.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_a_missing_file_is_an_error_that_loses_no_buffer(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.digest(str(tmp_path / "missing"))


@pytest.mark.parametrize("size", [1, 1000, arrays.PIXELS])
def test_scale_writes_scaled_floats_and_gives_their_mean(tmp_path, size):
    source, target = tmp_path / "source", tmp_path / "target"
    pixels = os.urandom(size)
    source.write_bytes(pixels)
    mean = arrays.scale(str(source), str(target), 0.5)
    found = np.fromfile(target, dtype=np.float32)
    assert found.tolist() == [byte / 2 for byte in pixels]  # exact in binary
    assert mean == pytest.approx(sum(pixels) / 2 / size)


def test_scale_refuses_a_file_larger_than_its_buffer(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(bytes(arrays.PIXELS + 1))
    with pytest.raises(ValueError, match=f"source: more than {arrays.PIXELS} bytes"):
        arrays.scale(str(source), str(tmp_path / "target"), 0.5)


@pytest.mark.parametrize(("typed", "right"), [(b"correct horse", True), (b"correct hors", False)])
def test_check_password_tells_right_from_wrong(tmp_path, typed, right):
    salt = os.urandom(16)
    expected = hashlib.scrypt(b"correct horse", salt=salt, **credentials.SCRYPT)
    path = tmp_path / "password"
    path.write_bytes(typed)
    assert credentials.check_password(str(path), salt.hex(), expected.hex()) is right


def test_minted_tokens_are_32_bytes_and_all_different():
    tokens = set()
    for _ in range(100):
        result = credentials.mint_token.apply()
        with bp.unseal_result(result, task=credentials.mint_token.name) as token:
            tokens.add(bytes(token))
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}
