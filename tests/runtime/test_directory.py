"""Where a process counts, and what is said when it can count nowhere."""

import pytest

from bufpool_workers.counters import private_directory
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime.directory import MetricsDirectory


def test_missing_place_for_a_private_directory_names_the_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(private_directory, "_SHM", tmp_path / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    directory = MetricsDirectory()
    with pytest.raises(MetricsError, match=r"No such file .*: set PROMETHEUS_MULTIPROC_DIR"):
        directory.join(private=True)
    assert directory.path is None
    assert not directory.is_private


def test_a_directory_that_was_there_is_made_again_and_a_mistaken_one_is_not(monkeypatch, tmp_path):
    for path in (tmp_path / "removed", tmp_path / "mistaken"):
        if path.name == "removed":
            path.mkdir()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(path))
        directory = MetricsDirectory()
        directory.join()
        if path.name == "removed":
            path.rmdir()
        directory.recreate()
        assert path.exists() == (path.name == "removed")
