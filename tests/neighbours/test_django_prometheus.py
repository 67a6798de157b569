"""django-prometheus: models and databases that count, made when Django is set up."""

import os
import subprocess
import sys

import pytest

from tests.neighbours.needs import needs
from tests.support.scrape import scrape, total

pytestmark = needs("django-prometheus")


@pytest.mark.parametrize("app", ["django_app:app", "django_early_app:app"])
def test_a_worker_of_a_django_project(home, tmp_path, request, app):
    env = {"DJANGO_SETTINGS_MODULE": "shop.settings", "TEST_DATABASE": str(tmp_path / "db")}
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
        cwd=request.path.parent,
        env=os.environ | env | {"PYTHONPATH": "."},
        check=True,
        timeout=60,
    )
    worker = home.start(app, env=env)
    assert sorted(worker.run("django_tasks.order", "ada") for _ in range(4)) == [1, 2, 3, 4]
    home.check(worker)
    found = scrape(worker)
    assert total(found, "django_model_inserts_total", model="order") == 4
    assert total(found, "django_db_execute_total", alias="default") >= 4
