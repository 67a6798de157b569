"""The command of a job system other than Celery, as a process of a test."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.scrape import Samples, read_samples

FOLDER: Final = Path(__file__).parents[1] / "adapters"


class HostProcess(LocalProcess):
    """A command of the environment's `bin`, in the folder of the tests' modules.

    They find `settings` as JSON in TEST_WORKER_SETTINGS, and each as a variable (BUFPOOL_WARM), and
    the URL of their Redis in TEST_BROKER_URL. The scrape is on `port`.
    """

    def __init__(  # noqa: PLR0913 (all but the first by keyword)
        self,
        command: Sequence[str],
        *,
        broker: str,
        log: Path,
        port: int | None = None,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path = FOLDER,
    ) -> None:
        self.broker = broker
        self.port = free_port() if port is None else port
        self.settings = {"metrics_port": self.port, **(settings or {})}
        program, *arguments = command
        self.env = {
            "TEST_BROKER_URL": broker,
            "TEST_WORKER_SETTINGS": json.dumps(self.settings),
            "PYTHONPATH": str(folder),
            **{
                f"BUFPOOL_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
                for name, value in self.settings.items()
            },
            **(env or {}),
        }
        super().__init__(
            [sys.executable, str(Path(sys.executable).parent / program), *arguments],
            log=log,
            cwd=folder,
            env=self.env,
        )

    def scrape(self) -> Samples:
        """Every sample of the node, as soon as its endpoint answers."""

        def answer() -> Samples | None:
            try:
                return read_samples(f"http://127.0.0.1:{self.port}/metrics")
            except OSError:
                return None

        samples: Samples = self.wait_until(answer, what="an answer of the endpoint")
        return samples
