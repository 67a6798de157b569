"""A metrics directory that fails a running worker costs no task, and no number once it is back."""

import shutil

import pytest

from tests.faults.storage_faults import STORAGE_FAULTS, mounted
from tests.support.scrape import private_directory, scrape, total
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("directory", "fault"),
    [fault.parameters(place) for place, fault in STORAGE_FAULTS],
    indirect=["directory"],
)
def test_nothing_is_lost_or_left_behind_after(fault, node):
    before = node.footprint_in_use()
    fault.hit(node)
    node.work()
    node.wait_exact()
    node.wait_settled(before)


def test_private_directory_made_again_is_left_alone_by_another_worker(start_worker, tmp_path):
    env = {"TEST_TRUTH": str(tmp_path / "truth")}
    settings = {"bufpool_metrics_port": 0}
    worker = start_worker("fault_app:app", env=env, settings=settings)
    directory = private_directory(worker)
    shutil.rmtree(directory)
    worker.run("fault_app.work", 3)
    wait_until(directory.exists, what="the directory, made anew after a task")
    assert directory.stat().st_mode & 0o777 == 0o700
    start_worker("fault_app:app", env=env, settings=settings)  # removes those of the dead
    assert total(scrape(worker), "bufpool_gets_total", pool="regular") == 3


def test_a_directory_without_room_for_one_process_ends_the_start(start_worker, tmp_path):
    directory = tmp_path / "small"
    directory.mkdir()
    env = {"TEST_TRUTH": str(tmp_path / "truth"), "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    # room for much, but not for the file of a process with the default size classes
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", directory):
        worker = start_worker("fault_app:app", env=env, ready=False)
        assert worker.wait() != 0
    assert f"metrics directory {str(directory)!r}: it is full; " in worker.log()
    assert worker.members() == []
