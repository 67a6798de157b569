"""The commands of deploy/README.md that make secrets: who may read what they leave behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bufpool_workers.sealing import Keyring
from tests.deploy.dockerfile import DEPLOY
from tests.support.pages import blocks_under

SERVICES = re.compile(r"^(docker|kubectl|systemctl|systemd-sysusers)\b")


def run_recipe(heading: str, folder: Path, *, root: str = "") -> None:
    """Run its commands in `folder`, with `root` in place of /, but those that start a service.

    What belongs to whom is left to the recipe: only root could give it away.
    """
    (sudo := folder / "sudo").write_text('#!/bin/sh\n[ "$1" = chown ] || exec "$@"\n')
    sudo.chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    (block,) = blocks_under(heading, "console")
    for line in block.text.splitlines():
        command = line[2:]
        if SERVICES.match(command):
            continue
        command = command.replace("/opt/bufpool/venv/bin/", "").replace("/etc/", f"{root}/etc/")
        subprocess.run(
            ["/bin/sh", "-ec", f"umask 022; {command}"],
            cwd=folder,
            env=os.environ | {"PATH": path},
            check=True,
        )


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_composes_secrets_are_made_where_it_looks_for_them(tmp_path):
    run_recipe("Compose", tmp_path)
    secrets = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["secrets"]
    defaults = [re.search(r":-\./(.*)}", secret["file"])[1] for secret in secrets.values()]
    modes = {name: mode(tmp_path / "deploy" / name) for name in defaults}
    assert modes == {"secrets/redis.password": 0o640, "secrets/worker.key": 0o600}
    assert re.fullmatch("[0-9a-f]{64}\n", (tmp_path / "deploy" / defaults[0]).read_text())
    assert Keyring([tmp_path / "deploy" / "secrets" / "worker.key"])


def test_the_broker_s_password_is_never_readable_by_others(tmp_path):
    run_recipe("systemd", tmp_path, root=str(tmp_path))
    made = {path.name: mode(path) for path in (tmp_path / "etc" / "bufpool").iterdir()}
    assert made == {"worker.key": 0o600, "worker.env": 0o600}
    environment = (tmp_path / "etc" / "bufpool" / "worker.env").read_text()
    assert environment.startswith("BUFPOOL_BROKER_URL=redis://")
    (block,) = blocks_under("systemd", "console")
    commands = [line for line in block.text.splitlines() if "worker.env" in line]
    assert commands[0].startswith("# install -m 0600 /dev/null ")  # before there is a password


@pytest.mark.parametrize("name", ["bufpool-key", "bufpool-broker"])
def test_kubernetes_secrets_have_the_files_that_the_pod_reads(name):
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "secrets"]
    assert {"secret": {"name": name}} in volume["projected"]["sources"]
    (block,) = blocks_under("Kubernetes", "console")
    file = re.search(rf"create secret generic {name} --from-file=(\S+)", block.text)[1]
    values = [variable["value"] for variable in pod["containers"][0]["env"]]
    assert f"/etc/bufpool/{file}" in values
