"""The build stops with a sentence where it can't compile; what it compiles is hardened."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.checkout import CHECKOUT

needs_sources = pytest.mark.skipif(
    not (CHECKOUT / "LICENSE").exists(), reason="the sources are not here"
)
# `make` has built in an environment of pip's; another one for each test only takes its time
WHEEL = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", "out", "."]


@needs_sources
def test_build_without_a_compiler_names_the_packages(tmp_path):
    sources(tmp_path)
    done = subprocess.run(
        [sys.executable, *WHEEL],
        cwd=tmp_path,
        env=os.environ | {"CC": str(tmp_path / "no-compiler")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode != 0
    assert "bufpool_workers: no C compiler that works" in done.stdout + done.stderr
    assert "apt-get install gcc libc6-dev python3-dev" in done.stdout + done.stderr


@needs_sources
def test_each_part_of_a_native_module_makes_it_compile_again():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    for module in project["tool"]["setuptools"]["ext-modules"]:
        (source,) = module["sources"]
        assert set(module.get("depends", ())) >= parts_of(source), source


def parts_of(source):
    """Return the files that a native module includes, and the declarations of ours that it uses."""
    text = (CHECKOUT / source).read_text()
    folder = Path(source).parent
    included = {str(folder / name) for name in re.findall(r'^include "(.+)"', text, re.MULTILINE)}
    ours = r"^from bufpool_workers\.memory(?:\.(\w+) cimport| cimport ([\w, ]+)$)"
    found = re.findall(ours, text, re.MULTILINE)
    names = {name.strip() for one, several in found for name in (one or several).split(",")}
    declared = {f"bufpool_workers/memory/{name}.pxd" for name in names}
    own = Path(source).with_suffix(".pxd")
    return included | declared | ({str(own)} if (CHECKOUT / own).exists() else set())


@pytest.mark.parametrize(
    ("patched", "name", "value", "said"),
    [
        (sys, "platform", "win32", "Windows has no prefork workers; use Linux or macOS"),
        (sys, "implementation", SimpleNamespace(name="pypy"), "pypy is not supported; use CPython"),
        (
            sysconfig,
            "get_config_var",
            {"Py_GIL_DISABLED": 1}.get,
            "a free-threaded build of Python is not supported; use one with the GIL",
        ),
    ],
    ids=["windows", "pypy", "free-threaded"],
)
def test_build_refuses_unsupported_platform(monkeypatch, patched, name, value, said):
    setuptools = pytest.importorskip("setuptools", reason="no setuptools: pip install setuptools")
    from bufpool_workers.memory._build import BuildCore  # noqa: PLC0415 - it needs setuptools

    build = BuildCore(setuptools.Distribution())
    with monkeypatch.context() as patch:
        patch.setattr(patched, name, value)
        with pytest.raises(SystemExit) as ended:
            build.run()
    assert str(ended.value) == f"bufpool_workers: {said}"


def sources(folder):
    """Copy what a build needs, without what was built here."""
    skipped = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in ("bufpool_workers", "deploy"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)


def read(option, module):
    command = ["readelf", option, "--wide", module]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@needs_sources
@pytest.mark.skipif(sys.platform != "linux", reason="other linkers have other flags")
@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf: apt-get install binutils")
@pytest.mark.long
@pytest.mark.timeout(600)
def test_native_modules_of_a_wheel_are_hardened(tmp_path):
    """With flags of the builder's own, which take the place of those that Python was built with."""
    folder = tmp_path / "where it is built"
    folder.mkdir()
    sources(folder)
    # what hardens asks for optimization, at any level
    config = folder / "pyproject.toml"
    config.write_text(config.read_text("utf-8").replace('"-O3"', '"-O1"'), "utf-8")
    subprocess.run(
        [sys.executable, *WHEEL],
        cwd=folder,
        env=os.environ | {"CFLAGS": "-g", "LDFLAGS": "-Wl,-z,lazy"},
        check=True,
        timeout=500,
    )
    (wheel,) = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(folder / "out", names)
    assert [Path(name).name.partition(".")[0] for name in sorted(names)] == [
        "_values",
        "_core",
        "_keystream",
        "_mapping",
        "_scan",
    ]
    for name in names:
        module = folder / "out" / name
        assert "BIND_NOW" in read("--dynamic", module), name
        assert "GNU_RELRO" in read("--segments", module), name
        symbols = read("--dyn-syms", module)
        assert "__stack_chk_fail" in symbols, name
        if GLIBC and "/memory/" in name:  # fortified: a checked twin of a function that it calls
            assert "__explicit_bzero_chk" in symbols, name
        content = module.read_bytes()
        assert os.fsencode(folder) not in content, name
        assert not re.search(rb"/[\w./ -]+/bufpool_workers/(?:counters|memory|sealing)", content), (
            name
        )


GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(sys.platform != "linux", reason="other compilers have other flags")
@pytest.mark.parametrize(
    ("variable", "flags", "level"),
    [
        ("CFLAGS", "", ["-D_FORTIFY_SOURCE=2"]),
        ("CFLAGS", "-O2 -g", ["-D_FORTIFY_SOURCE=2"]),
        ("CFLAGS", "-O2 -D_FORTIFY_SOURCE=3", []),
        ("CFLAGS", "-O2 -U_FORTIFY_SOURCE", []),
        ("CPPFLAGS", "-D_FORTIFY_SOURCE=3", []),
        ("CFLAGS", "-O1 -fsanitize=address", []),
    ],
)
def test_fortify_level_of_the_builder_is_left_alone(monkeypatch, variable, flags, level):
    setuptools = pytest.importorskip("setuptools", reason="no setuptools: pip install setuptools")
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    from bufpool_workers.memory._build import BuildCore  # noqa: PLC0415 - it needs setuptools

    for name in ("CFLAGS", "CPPFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, flags)
    monkeypatch.setattr(build_ext, "build_extension", lambda *_: None)
    ext = setuptools.Extension("one", ["one.c"])
    BuildCore(setuptools.Distribution()).build_extension(ext)
    found = [flag for flag in ext.extra_compile_args if flag.startswith("-D_FORTIFY_SOURCE")]
    assert found == level


def test_every_native_module_is_optimized_whatever_the_builders_flags():
    """Without -O the compiler fortifies nothing."""
    config = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = config["tool"]["setuptools"]["ext-modules"]
    assert [module["name"] for module in modules if "-O3" in module["extra-compile-args"]] == [
        module["name"] for module in modules
    ]
