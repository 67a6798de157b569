"""`python -m tests.docs.picture`: takes the README's picture of the status page."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.docs.sections import METRICS_PORT, read_commands
from tests.support.browser import chromium
from tests.support.celery_worker import CeleryWorker
from tests.support.pages import blocks_under
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

PICTURE = Path(__file__).with_name("status.png")
_SIZE = 1240, 860


def main() -> None:
    """Run the example's worker and tasks, and take the picture."""
    (app,), (console,) = blocks_under("Quick start"), blocks_under("Quick start", "console")
    port = free_port()
    with tempfile.TemporaryDirectory() as name, RedisServer() as server:
        folder = Path(name)
        app._replace(text=app.text.replace(METRICS_PORT, str(port))).write(folder)
        worker = CeleryWorker(
            "shop",
            broker=server.celery_url(),
            folder=folder,
            log=folder / "log",
            name="shop",
            arguments=["--concurrency=2"],
        )
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with worker, chromium(folder / "profile") as browser:
            for command in read_commands(console)[1:3]:
                environment = os.environ | worker.env | {"PATH": path}
                words = ["/bin/sh", "-ec", command.line]
                subprocess.run(words, cwd=folder, env=environment, check=True)
            browser.set_window_size(*_SIZE)
            browser.get(f"http://127.0.0.1:{port}/")
            browser.save_screenshot(str(PICTURE))


if __name__ == "__main__":
    main()
