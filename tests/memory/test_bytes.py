"""Bytes are wiped, looked through and compared alike by each of the ways that a processor has."""

import ctypes
import shutil
import subprocess
import textwrap

import pytest

from tests.support.checkout import CHECKOUT

SOURCE = CHECKOUT / "bufpool_workers/memory/_bytes.pxd"
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = [
    pytest.mark.skipif(not SOURCE.exists(), reason="the sources are not here"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler: apt-get install gcc"),
]

EXPORTS = """
void wipe(void *p, size_t n) { bufpool_wipe(p, n); }
void ensure_zero(void *p, size_t n) { bufpool_ensure_zero(p, n); }
int is_zero(void *p, size_t n) { return bufpool_is_zero(p, n); }
int equal(void *p, void *q, size_t n) { return bufpool_equal(p, q, n); }
"""
LENGTHS = [*range(300), 511, 512, 513, 2032, 2048, 4095, 4112, 4160, 32768, 32896, 32897, 65600]
ROOM = 66_000


@pytest.fixture(scope="module", params=["", "-DBUFPOOL_PORTABLE"], ids=["fastest", "portable"])
def compiled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    verbatim = SOURCE.read_text(encoding="utf-8").split('"""')[3]
    (folder / "bytes.c").write_text("#define _GNU_SOURCE\n" + textwrap.dedent(verbatim) + EXPORTS)
    library = folder / "bytes.so"
    options = ["-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *request.param.split()]
    subprocess.run([COMPILER, *options, "-o", library, folder / "bytes.c"], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture
def memory():
    return (ctypes.c_char * ROOM)()


def at(memory, offset):
    return ctypes.byref(memory, offset)


@pytest.mark.parametrize("name", ["wipe", "ensure_zero"])
def test_all_of_it_is_zero_afterwards_and_nothing_else(compiled, memory, name):
    for offset in (64, 65, 80, 127):
        for n in LENGTHS:
            ctypes.memset(memory, 0xA5, ROOM)
            getattr(compiled, name)(at(memory, offset), ctypes.c_size_t(n))
            expected = b"\xa5" * offset + bytes(n) + b"\xa5" * (ROOM - offset - n)
            assert memory.raw == expected, (offset, n)


def test_every_byte_is_looked_at_and_none_beside_them(compiled, memory):
    for offset in (64, 65, 80, 127):
        for n in LENGTHS:
            ctypes.memset(memory, 0xFF, ROOM)
            ctypes.memset(at(memory, offset), 0, n)
            assert compiled.is_zero(at(memory, offset), ctypes.c_size_t(n)), (offset, n)
            for i in {*range(min(n, 300)), *range(max(n - 300, 0), n), n // 2} - {n}:
                memory[offset + i] = b"\x80"
                assert not compiled.is_zero(at(memory, offset), ctypes.c_size_t(n)), (offset, n, i)
                memory[offset + i] = b"\0"


def test_one_differing_byte_makes_unequal(compiled, memory):
    other = (ctypes.c_char * ROOM)()
    for offset in (0, 1, 7):
        for n in (*range(70), 4096):
            assert compiled.equal(at(memory, offset), at(other, 3), ctypes.c_size_t(n))
            for i in range(n):
                other[3 + i] = b"\x01"
                assert not compiled.equal(at(memory, offset), at(other, 3), ctypes.c_size_t(n))
                other[3 + i] = b"\0"
