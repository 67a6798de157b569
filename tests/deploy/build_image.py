"""Builds what deploy/Dockerfile builds, without Docker: `make check-deploy` runs it.

Takes a minute and a package index, so its name keeps it from the other tests.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.dockerfile import CHECKOUT, DEPLOY, read_stages, runs
from tests.support.celery_worker import connected, wait_for_pong

pytestmark = pytest.mark.timeout(600)


def copy_context(target: Path) -> None:
    """Copy what the .dockerignore lets into the build."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    left_out = [line.removeprefix("**/") for line in lines if not line.startswith(("#", "!"))]
    assert left_out.pop(0) == "*"

    def ignore(folder, names):
        paths = {name: Path(folder, name).relative_to(CHECKOUT) for name in names}
        return {
            name
            for name, path in paths.items()
            if any(fnmatch(name, pattern) or fnmatch(str(path), pattern) for pattern in left_out)
        }

    for name in (line[1:] for line in lines if line.startswith("!")):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, target / name, ignore=ignore)
        else:
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copy(CHECKOUT / name, target / name)


def run(command: str, *, cwd: Path, paths: dict[str, Path]) -> None:
    for inside, outside in paths.items():
        command = command.replace(inside, str(outside))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        ["/bin/sh", "-ec", command], cwd=cwd, env={**os.environ, "PATH": path}, check=True
    )


def test_the_stages_make_a_worker_from_nothing_but_the_context(tmp_path, start_container):
    build, final = read_stages()
    context, workdir = tmp_path / "src", tmp_path / "app"
    context.mkdir()
    copy_context(context)
    paths = {"/wheels": tmp_path / "wheels", "/opt/bufpool": tmp_path / "opt"}
    install_compiler, make_wheels = runs(build)
    assert install_compiler.startswith("apt-get ")  # that of this system does
    run(make_wheels, cwd=context, paths=paths)
    install, make_user = runs(final)
    run(install, cwd=tmp_path, paths=paths)
    assert make_user.startswith("useradd ")
    (copied,) = [rest for word, rest in final if word == "COPY"]
    source, target = copied.split()
    shutil.copytree(context / source, workdir / target)

    worker, broker = start_container(prefix=tmp_path / "opt", workdir=workdir)
    wait_for_pong(worker, broker, f"celery@{socket.gethostname()}")
    with connected(broker) as client:
        path = workdir / target / "app.py"
        found = client.send_task("tasks.files.digest", [str(path)]).get(timeout=30)
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()
