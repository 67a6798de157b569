"""Makes .venv and installs the project into it, with an extra; says each step and when it begins.

`python .ci/setup.py EXTRA` is what `make demo` and all other targets begin with. It installs no
system package unless APT=1 asks for it, and says in one line what is missing.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PACKAGE = "bufpool_workers"
LEAST = (3, 11)
_BEGAN = time.monotonic()


class SetupError(Exception):
    """What keeps this machine from it, and what to do, in one line."""


def say(step):
    """Print a step and the seconds since the beginning."""
    print("[%5.1f s] %s" % (time.monotonic() - _BEGAN, step), flush=True)


def requirements(extra):
    """Return the requirements of the project and of an extra, those of its extras among them."""
    import tomllib  # noqa: PLC0415 - the version is checked first

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    if extra not in extras:
        raise SetupError("no extra %s in pyproject.toml" % extra)
    wanted = list(project["dependencies"])
    queue = [extra]
    while queue:
        for requirement in extras[queue.pop()]:
            if requirement.startswith(project["name"] + "["):
                queue += requirement[len(project["name"]) + 1 : -1].split(",")
            elif requirement not in wanted:
                wanted.append(requirement)
    return wanted


def built_wheel():
    """Return the wheel in dist/ whose native modules work here and are these sources', or None."""
    for wheel in sorted(CHECKOUT.glob("dist/bufpool_workers-*.whl"), reverse=True):
        if libc_is_new_enough(wheel.name) and has_same_core(wheel):
            return wheel
    return None


def libc_is_new_enough(name):
    """Return whether glibc here is at least the one that a manylinux wheel asks for."""
    asked = re.search(r"manylinux_2_(\d+)", name)
    if not asked:
        return True
    libc = platform.libc_ver()[1] or "0.0"
    return int(libc.split(".")[1]) >= int(asked[1])


def has_same_core(wheel):
    """Return whether a wheel was built for this Python and machine, from the sources of here."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        built = {name: archive.read(name) for name in names if name.endswith((".pyx", ".pxd"))}
    paths = [*(CHECKOUT / PACKAGE).rglob("*.pyx"), *(CHECKOUT / PACKAGE).rglob("*.pxd")]
    sources = {str(path.relative_to(CHECKOUT)): path.read_bytes() for path in paths}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return built == sources and any(name.endswith(suffix) for name in names)


def has_module(name):
    """Return whether this Python has a module, without an import of it."""
    code = "import importlib.util as u, sys; sys.exit(u.find_spec(%r) is None)" % name
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def missing_packages(*, compiled):
    """Return what has to be installed first: its name for people, and Debian's packages."""
    missing = []
    if compiled and not shutil.which(os.environ.get("CC", "cc")):
        missing.append(("a C compiler", "gcc libc6-dev"))
    if compiled and not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append(("this Python's headers", "python3-dev"))
    if not VENV.exists() and not has_module("ensurepip") and not has_module("pip"):
        missing.append(("venv (or pip)", "python3-venv"))
    return missing


def install_packages(missing):
    """Install what is missing by apt where APT=1 asks for it; SetupError otherwise."""
    packages = " ".join(names for _, names in missing)
    if os.environ.get("APT") == "1":
        done = subprocess.run([str(CHECKOUT / ".ci/packages"), *packages.split()], check=False)
        if done.returncode == 0:
            return
    raise SetupError(
        "missing: %s; on Debian or Ubuntu: sudo apt-get install %s"
        % (", ".join(what for what, _ in missing), packages)
    )


def make_environment():
    """Make .venv, by virtualenv from PyPI where this Python has no venv of its own."""
    if has_module("ensurepip"):
        say("making .venv")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        return
    say("making .venv with virtualenv from PyPI, since this Python has no ensurepip")
    with tempfile.TemporaryDirectory() as folder:
        run_pip([sys.executable, "-m", "pip"], "--target", folder, "virtualenv")
        environment = {**os.environ, "PYTHONPATH": folder}
        command = [sys.executable, "-m", "virtualenv", "--quiet", str(VENV)]
        subprocess.run(command, env=environment, check=True)


def run_pip(pip, *arguments, **environment):
    """Install with pip, which shows its own progress in a terminal."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    command = [*pip, "install", "--disable-pip-version-check", *quiet, *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise SetupError("pip could not install this; its own words stand above")


def set_up(extra):
    """Do all of it."""
    if sys.version_info < LEAST:
        raise SetupError(
            "Python %d.%d or later is needed, this is %d.%d; name one: "
            "make PYTHON=python3.12 ..." % (*LEAST, *sys.version_info[:2])
        )
    wanted = requirements(extra)
    wheel = built_wheel()
    say("Python %d.%d.%d at %s" % (*sys.version_info[:3], sys.executable))
    missing = missing_packages(compiled=wheel is None)
    if missing:
        install_packages(missing)
    if not (VENV / "bin" / "python").exists():
        make_environment()
    pip = [str(VENV / "bin" / "python"), "-m", "pip"]
    say("installing into .venv, from PyPI: %s" % ", ".join(wanted))
    run_pip(pip, *wanted)
    if wheel:
        say("installing bufpool_workers, compiled already in dist/%s" % wheel.name)
    else:
        say("compiling and installing bufpool_workers")
    prebuilt = {"BUFPOOL_WHEEL": str(wheel)} if wheel else {}
    run_pip(pip, "--no-deps", "--editable", ".", **prebuilt)
    say(".venv is ready")


if __name__ == "__main__":
    try:
        set_up(sys.argv[1])
    except SetupError as error:
        sys.exit("bufpool_workers: %s" % error)
