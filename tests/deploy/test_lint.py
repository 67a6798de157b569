"""What the linters of each field say of deploy/; `make check-deploy` installs them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import CHECKOUT, DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
CI_SCRIPTS = ("packages", "prometheus", "run", "wheels", "workflows")
YAML_RULES = (
    "{extends: default, rules: {document-start: disable, comments-indentation: disable,"
    " line-length: {max: 140}}}"
)


def find_tool(name: str) -> str:
    """Return the path of a linter; skip the test where there is none."""
    here = Path(sys.executable).parent
    places = (here, here.parent / name / "bin")  # some have an environment of their own
    found = (shutil.which(name, path=str(place)) for place in places)
    path = next(filter(None, found), None) or shutil.which(name)
    if not path:
        pytest.skip(f"no {name}: make check-deploy installs those of PyPI; or apt-get install it")
    return path


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("hadolint", ["--failure-threshold=info", DEPLOY / "Dockerfile"]),
        ("yamllint", ["--strict", "--config-data", YAML_RULES, DEPLOY]),
        (
            "check-jsonschema",
            ["--builtin-schema=vendor.compose-spec", DEPLOY / "compose.yaml"],
        ),
        *(
            ("kubernetes-validate", ["--strict", KUBERNETES / f"{name}.yaml"])
            for name in ("deployment", "namespace", "networkpolicy")
        ),
        ("shellcheck", [CHECKOUT / ".ci" / name for name in CI_SCRIPTS]),
    ],
)
def test_linters_find_nothing(tool, arguments):
    path = find_tool(tool)
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def checkov_findings(*arguments):
    run = subprocess.run(
        [
            *(find_tool("checkov"), *arguments, "--framework", "kubernetes", "dockerfile"),
            *("--output", "json", "--quiet", "--compact", "--skip-download"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    reports = json.loads(run.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    assert sum(report["summary"]["passed"] for report in reports) > 0, run.stderr
    assert sum(report["summary"]["parsing_errors"] for report in reports) == 0
    return {
        f"{check['check_id']} {check['check_name']}: {check['resource']}"
        for report in reports
        for check in report["results"]["failed_checks"]
    }


def test_checkov_finds_only_what_has_its_reason():
    found = checkov_findings("--directory", DEPLOY)
    explained = set(yaml.safe_load((KUBERNETES / "checkov.yaml").read_text())["skip-check"])
    assert {finding for finding in found if finding.split()[0] not in explained} == set()
    assert explained == {finding.split()[0] for finding in found}
