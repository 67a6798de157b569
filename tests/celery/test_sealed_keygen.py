"""`celery bufpool keygen`, as a person calls it: without an app."""

import os
import stat
import subprocess
import sys

import bufpool_workers as bp


def keygen(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "celery", "bufpool", "keygen", *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )


def test_it_writes_the_private_key_and_prints_the_public_one_alone(tmp_path):
    path = tmp_path / "worker.key"
    done = keygen("--out", path)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (public_key,) = done.stdout.splitlines()
    bound = {"task": "shop.login", "argument": "password"}
    token = bp.seal(b"secret", **bound, public_key=public_key)
    with bp.Keyring([path]).unseal(token, **bound) as buffer:
        assert bytes(buffer) == b"secret"
    assert path.read_text().strip() not in done.stdout + done.stderr


def test_it_leaves_a_file_that_exists_alone(tmp_path):
    path = tmp_path / "worker.key"
    path.write_text("precious")
    done = keygen("--out", path)
    assert done.returncode == 1
    assert f"{path} exists, and a key is never overwritten" in done.stderr
    assert done.stdout == ""
    assert path.read_text() == "precious"


def test_it_says_where_it_cant_write(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "worker.key"
    done = keygen("--out", path)
    assert done.returncode == 1
    assert f"{path}: Not a directory" in done.stderr


def test_it_prints_the_public_key_of_a_private_one(tmp_path):
    path = tmp_path / "worker.key"
    public_key = bp.generate_key(path)
    done = keygen("--public", path)
    assert (done.returncode, done.stdout) == (0, f"{public_key}\n"), done.stderr
    missing = keygen("--public", tmp_path / "missing")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"{tmp_path / 'missing'}: No such file" in missing.stderr


def test_it_does_one_of_both(tmp_path):
    for arguments in ([], ["--out", tmp_path / "new", "--public", tmp_path / "old"]):
        done = keygen(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "give one of --out and --public" in done.stderr
    assert list(tmp_path.iterdir()) == []
