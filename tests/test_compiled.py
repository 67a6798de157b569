"""Task modules that Cython has compiled."""

import asyncio
import importlib.util
import inspect
import os
import subprocess
import sys

import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import Job, current_runtime

SOURCE = '''
import bufpool_workers as bp

@bp.pooled_buffer(lambda path: len(path))
def work(path, times=1, *, deep=False, buf):
    """Do it."""
    return path, times, deep, len(buf)

@bp.pooled_buffer(100)
async def later(path, *, buf):
    return path, len(buf)

@bp.sealed("password")
def login(user, password):
    return user, bytes(password)

def generator(*, buf):
    yield buf
'''


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the module, and import it."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "compiled_tasks.pyx").write_text(SOURCE)
    subprocess.run(
        [sys.executable, "-m", "Cython.Build.Cythonize", "-i", "-3", "compiled_tasks.pyx"],
        cwd=folder,
        env=os.environ | {"CFLAGS": "-O0"},
        check=True,
        capture_output=True,
        timeout=110,
    )
    (path,) = folder.glob("*.so")
    spec = importlib.util.spec_from_file_location("compiled_tasks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compiled_functions_are_decorated_as_others(compiled):
    assert compiled.work("abc", deep=True) == ("abc", 1, True, 3)
    assert str(inspect.signature(compiled.work)) == "(path, times=1, *, deep=False)"
    assert (compiled.work.__name__, compiled.work.__doc__) == ("work", "Do it.")
    with pytest.raises(TypeError, match=r"work\(\) got an unexpected keyword argument 'buf'"):
        compiled.work("abc", buf=b"")


def test_compiled_coroutine_functions_are_awaited(compiled):
    assert asyncio.run(compiled.later("x")) == ("x", 100)


def test_compiled_generators_are_refused(compiled):
    with pytest.raises(TypeError, match="is a generator function"):
        bp.pooled_buffer(1)(compiled.generator)


def test_compiled_functions_have_their_arguments_opened(compiled, tmp_path):
    public_key = bp.generate_key(tmp_path / "key")
    bp.configure(public_key=public_key, private_keys=[str(tmp_path / "key")])
    runtime = current_runtime()
    job = Job("1", "shop.login", function=inspect.unwrap(compiled.login))
    runtime.begin_job(job)
    token = bp.seal("secret", task="shop.login", argument="password")
    assert compiled.login("ada", token) == ("ada", b"secret")
    runtime.end_job(job)
    testing.reset()
