"""A real headless Chromium for the tests that need one; they are skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
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
    # with a path given, selenium doesn't look for a driver elsewhere
    service = webdriver.ChromeService(_find("CHROMEDRIVER", "chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()
