"""A real Prometheus for the tests that need one; they alone are skipped where there is none."""

import json
import os
import shutil
import sys
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from .ports import free_port
from .processes import LocalProcess
from .waiting import wait_until


def find_program(name: str) -> str:
    """Find `prometheus` or `promtool`: as $PROMETHEUS_BIN, beside it, on PATH, in the environment.

    Skips the test where there is none.
    """
    folders = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    if given := os.environ.get("PROMETHEUS_BIN"):
        if not (server := shutil.which(given)):
            raise FileNotFoundError(f"PROMETHEUS_BIN={given}: no such program")
        if name == "prometheus":
            return server
        folders.insert(0, str(Path(server).parent))
    if path := shutil.which(name, path=os.pathsep.join(folders)):
        return path
    pytest.skip(f"no {name}: apt-get install prometheus (Debian 13: {name}), or set PROMETHEUS_BIN")


class Prometheus(LocalProcess):
    """Prometheus on a free loopback port, scraping `targets` five times a second."""

    def __init__(self, targets: Sequence[str], *, folder: Path, rules: Sequence[Path] = ()) -> None:
        config = folder / "prometheus.json"  # JSON is YAML
        scrape = {"job_name": "bufpool", "static_configs": [{"targets": list(targets)}]}
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                    "scrape_configs": [scrape],
                    "rule_files": [str(rule) for rule in rules],
                }
            )
        )
        port = free_port()
        super().__init__(
            [
                find_program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log=folder / "prometheus.log",
        )
        self._url = f"http://127.0.0.1:{port}"
        try:
            self.wait_until(self._is_ready, what="Prometheus is ready")
        except BaseException:
            self.close()
            raise

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=30) as answer:  # noqa: S310 - its own
                return bool(answer.status == HTTPStatus.OK)
        except OSError:  # it doesn't listen yet, or isn't ready: status 503
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Run a query now; raises urllib.error.HTTPError for one that Prometheus refuses."""
        url = f"{self._url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - its own
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The only value of a query's result; None for none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else None

    def wait_for(self, expression: str, expected: float) -> None:
        """Wait until a query gives this value."""
        wait_until(
            lambda: self.value(expression) == expected,
            what=f"{expression} = {expected}, is {self.value(expression)}",
            timeout_seconds=60,
        )
