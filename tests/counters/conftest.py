import pytest
from prometheus_client import values

from tests.support.counters import Workers, close_metric_files, values_of_process
from tests.support.folders import open_folder


@pytest.fixture
def tmp_path():
    with open_folder() as folder:
        yield folder


@pytest.fixture
def workers(tmp_path):
    workers = Workers(tmp_path)
    yield workers
    workers.end()


@pytest.fixture
def client(tmp_path, monkeypatch):
    """prometheus_client in multiprocess mode, as the process whose pid it is called with."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def become(pid):
        monkeypatch.setattr(values, "ValueClass", values_of_process(lambda: pid))

    yield become
    close_metric_files()
