"""The build of the native core: says what is missing where it can't be compiled.

There is no Python twin of the core to fall back on: secure memory must not silently be less. With
BUFPOOL_WHEEL, the path of a wheel of the same sources, the modules are taken from there.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

WHEEL = "BUFPOOL_WHEEL"
_HELP = (
    "on Debian or Ubuntu: apt-get install gcc libc6-dev python3-dev; on Fedora: dnf install gcc "
    "python3-devel; on macOS: xcode-select --install"
)


def _unsupported() -> str | None:
    """Return why the core can't work on this system or Python; None where it can."""
    if sys.platform == "win32":
        return "Windows has no prefork workers; use Linux or macOS"
    if sys.implementation.name != "cpython":
        return f"{sys.implementation.name} is not supported; use CPython"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # the core relies on it: a change of state inside one C call is atomic
        return "a free-threaded build of Python is not supported; use one with the GIL"
    return None


def _fortify(flags: str) -> list[str]:
    """Return what checks the lengths of copies, unless the builder's own flags decide about it.

    Sanitizers check more, and bring functions of their own.
    """
    if "_FORTIFY_SOURCE" in flags or "-fsanitize" in flags:
        return []
    return ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]


class BuildCore(build_ext):
    """Compiles the core, or stops with a sentence that says which packages to install."""

    def run(self) -> None:
        """Refuse a system that the core can't work on, before anything is compiled."""
        if unsupported := _unsupported():
            raise SystemExit(f"bufpool_workers: {unsupported}")
        if WHEEL not in os.environ and not Path(sysconfig.get_path("include"), "Python.h").exists():
            raise SystemExit(f"bufpool_workers: no Python.h, the headers of this Python; {_HELP}")
        super().run()

    def build_extension(self, ext: Any) -> None:
        """Compile one module, hardened as far as the platform's linker and the build allow."""
        if wheel := os.environ.get(WHEEL):
            self._take_from(wheel, ext.name)
            return
        if sys.platform == "linux":
            # no symbol is bound late, so that no register with a part of a secret lies on the stack
            ext.extra_link_args += ["-Wl,-z,relro,-z,now"]
            ext.extra_compile_args += [
                "-Werror=incompatible-pointer-types",  # an error by itself from GCC 14 on
                "-fstack-protector-strong",
                f"-ffile-prefix-map={Path.cwd()}=.",
                *_fortify(" ".join(os.environ.get(name, "") for name in ("CFLAGS", "CPPFLAGS"))),
            ]
        try:
            super().build_extension(ext)
        except (CompileError, LinkError, OSError) as error:
            raise SystemExit(
                f"bufpool_workers: no C compiler that works ({error}); {_HELP}"
            ) from error

    def _take_from(self, wheel: str, name: str) -> None:
        target = Path(self.get_ext_fullpath(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        inside = f"{name.rpartition('.')[0].replace('.', '/')}/{target.name}"
        with zipfile.ZipFile(wheel) as archive:
            target.write_bytes(archive.read(inside))
