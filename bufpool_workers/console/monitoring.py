"""The rules and the dashboard of `deploy/`, rewritten for an app's own names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.resources import files

from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE
from bufpool_workers.pool_stats import LEVELS

_JOB = f'"{DEFAULT_NAMESPACE}"'
_DEMANDED = f"_secure_level{{job={_JOB}}} < "
RUNBOOK = "deploy/prometheus/README.md"
_DEPLOY = "bufpool_workers.console.deploy"


def rules(
    namespace: str = DEFAULT_NAMESPACE,
    *,
    job: str = "bufpool",
    secure_level: str = "any",
    runbook: str = RUNBOOK,
) -> str:
    """Return Prometheus' rules for a namespace, the job that scrapes it, and a demanded level.

    `runbook` is the address at which people find a copy of the runbook.
    """
    text = _read("prometheus", "rules.yml")
    head = (
        f"# For the namespace {namespace!r}, the job {job!r} and the secure level {secure_level!r}."
    )
    lines = [head, *text[text.index("groups:") :].splitlines()]
    named = "".join(_rename_outside_prose(lines, namespace))
    demanded = LEVELS.index(secure_level) if secure_level in LEVELS else 0
    return (
        named.replace(f"{_DEMANDED}1", f"{_DEMANDED}{demanded}")
        .replace(_JOB, f'"{job}"')
        .replace(f"runbook_url: {RUNBOOK}#", f"runbook_url: {runbook}#")
    )


def dashboard(namespace: str = DEFAULT_NAMESPACE) -> str:
    """Return Grafana's dashboard for a namespace."""
    return _rename(_read("grafana", "dashboard.json"), namespace)


def _rename_outside_prose(lines: Iterable[str], namespace: str) -> Iterator[str]:
    """Rename metrics, but not settings: they have the prefix too, in comments and annotations."""
    is_annotation = False
    for line in lines:
        text = line.lstrip()
        is_annotation = not text.startswith("- ") and (is_annotation or text == "annotations:")
        is_prose = is_annotation or text.startswith("#")
        yield (line if is_prose else _rename(line, namespace)) + "\n"


def _rename(text: str, namespace: str) -> str:
    return re.sub(rf"\b{DEFAULT_NAMESPACE}_(?=[a-z])", f"{namespace}_", text)


def _read(*path: str) -> str:
    return files(_DEPLOY).joinpath(*path).read_text(encoding="utf-8")
