"""The test-suite that the page on Celery shows, run as its reader's own."""

import os
import subprocess
import sys

from tests.support.pages import blocks_under


def test_suite_of_the_page_passes(tmp_path):
    for block in blocks_under("Test sealed tasks", "python"):
        block.write(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=tmp_path,
        # pytest-celery, which the project's own tests use, hides the fixtures of celery.contrib
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
