"""A real headless Chromium for the tests that need one; they are skipped where there is none."""

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-pipe",  # by a port, its driver would ask for `localhost`
)


def _find(variable: str, *names: str) -> str:
    for name in (os.environ.get(variable, ""), *names):
        if path := shutil.which(name):
            return path
    pytest.skip(f"no {names[0]}: apt-get install chromium chromium-driver, or set {variable}")


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Drive a Chromium with an empty profile; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = _find("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})

    class Service(webdriver.ChromeService):
        """Reached by its address: not every host has a `localhost`."""

        @property
        def service_url(self) -> str:
            return f"http://127.0.0.1:{self.port}"

        def is_connectable(self) -> bool:
            try:
                with urllib.request.urlopen(f"{self.service_url}/status", timeout=5) as answer:  # noqa: S310
                    return bool(json.load(answer)["value"]["ready"])
            except OSError:
                return False

    # with a path given, selenium doesn't look for a driver elsewhere
    service = Service(_find("CHROMEDRIVER", "chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
