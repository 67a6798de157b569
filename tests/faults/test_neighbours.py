"""Bad neighbours: other workers in one's directory, and tasks that misuse their process."""

import signal

import pytest
from celery.exceptions import WorkerLostError

from bufpool_workers import KiB, MiB
from tests.faults.node import Node
from tests.support.scrape import scrape, total, value

CAP = 8 * MiB


def test_two_workers_in_one_directory_add_up_whichever_is_killed(node, start_worker, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    other = Node(start_worker, redis=node.redis, folder=folder, directory=node.directory)

    def assert_exact():
        together = {pool: n + other.truth()[pool] for pool, n in node.truth().items()}
        assert node.totals() == other.totals() == together

    def processes():
        return value(node.scrape(), "bufpool_processes")

    node.work_in_each_process()
    other.work_in_each_process()
    assert_exact()
    assert processes() == 4
    other.hold()
    other.worker.send_signal(signal.SIGKILL)
    other.wait_for_end()
    assert processes() == 2
    node.work_in_each_process()
    assert node.totals()["regular"] == node.truth()["regular"] + other.truth()["regular"]
    other.start()
    other.work_in_each_process()
    assert_exact()
    assert processes() == 4


@pytest.mark.parametrize("ending", ["at once", "after its exit handlers"])
def test_fork_inside_a_task_counts_for_itself_and_leaves_its_parent_alone(node, ending):
    before = node.footprint_in_use()
    assert node.worker.run("neighbour_tasks.fork", ending) == 0
    node.work_in_each_process()
    assert node.totals() == node.truth()
    node.wait_settled(before)


def test_fork_that_leaves_as_if_it_were_the_child_of_the_pool_loses_no_number(node):
    before = node.footprint_in_use()
    # its last words go to main as those of the child, which main then takes for dead
    with pytest.raises(WorkerLostError):
        node.worker.run("neighbour_tasks.fork", "as a task does")
    node.work_in_each_process()
    node.wait_settled(before)
    assert node.totals() == node.truth()


def test_program_run_by_a_task_changes_nothing(node):
    before = node.footprint_in_use()
    assert node.worker.run("neighbour_tasks.run_program") == 0
    assert node.totals() == node.truth()
    node.wait_settled(before)


def test_process_that_has_closed_its_descriptors_is_not_taken_for_dead(node):
    before = node.footprint_in_use()
    living = value(node.scrape(), "bufpool_processes")
    node.start_task("neighbour_tasks.close_descriptors", str(node.gate))
    for _ in range(2):  # each scrape merges the files of the dead
        assert node.totals() == node.truth()
        assert value(node.scrape(), "bufpool_processes") == living
    noted = node.noted
    node.release()
    node.wait_noted(noted + 1)
    node.work()
    assert node.totals() == node.truth()
    node.wait_settled(before)  # without its pipes the process had to end


@pytest.mark.parametrize("at_limit", ["lend", "raise"])
def test_task_that_keeps_every_view_meets_the_cap_and_is_logged(start_worker, tmp_path, at_limit):
    worker = start_worker(
        "fault_app:app",
        arguments=["--concurrency=1"],
        env={"TEST_TRUTH": str(tmp_path / "truth")},
        settings={
            "bufpool_metrics_port": 0,
            "bufpool_max_bytes": {"regular": CAP},
            "bufpool_warm": {"regular": {"1MiB": 2}},
            "bufpool_at_limit": at_limit,
        },
    )
    kept = worker.run("neighbour_tasks.keep_views", 20, MiB)
    assert kept["held_bytes"] == CAP
    assert kept["kept"] == kept["escapes"] == kept["in_use"] == (20 if at_limit == "lend" else 8)
    assert kept["limit_hits"] == (12 if at_limit == "lend" else 1)
    assert (kept["refusal"] is None) == (at_limit == "lend")
    worker.run("neighbour_tasks.keep_views", 1, 4 * KiB)
    told = f"regular pool: buffers were asked for beyond its cap, {CAP} bytes"
    assert worker.log().count(told) == (1 if at_limit == "lend" else 0)
    samples = scrape(worker)
    assert total(samples, "bufpool_escapes_total", pool="regular", size="1mb") == kept["kept"]
    assert total(samples, "bufpool_held_bytes", pool="regular") == CAP
