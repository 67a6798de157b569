"""The test engine itself: pytest-celery's nodes, and workers started directly."""

import signal
import tarfile

import pytest

from tests.celery import engine_tasks
from tests.celery.engine_tasks import child, wait_for_release
from tests.support.build_context import DOCKERFILE, build_context
from tests.support.celery_worker import STOP_SECONDS
from tests.support.waiting import wait_until


@pytest.fixture
def default_worker_tasks():
    return {engine_tasks}


def test_task_runs_in_a_prefork_child(celery_setup):
    node = celery_setup.worker
    # what is asked before its worker listens, which it does after it is ready, gets no answer
    (answer,) = wait_until(lambda: celery_setup.app.control.ping(limit=1), what="a pong")
    assert answer == {node.hostname(): {"ok": "pong"}}
    pid, _start = child.delay().get(timeout=10)
    pids = {process["pid"] for process in node.get_running_processes_info(["pid"])}
    assert pid in pids
    stats = wait_until(celery_setup.app.control.inspect().stats, what="an answer")
    assert stats[node.hostname()]["pool"]["processes"]


@pytest.mark.worker("--concurrency=1", task_default_priority=3)
def test_mark_sets_arguments_and_settings(celery_setup):
    ask = celery_setup.app.control.inspect()
    (conf,) = wait_until(ask.conf, what="an answer").values()
    assert conf["task_default_priority"] == 3
    (stats,) = wait_until(ask.stats, what="an answer").values()
    assert stats["pool"]["max-concurrency"] == 1


def test_killed_worker_serves_again_after_a_restart(celery_setup):
    before = child.delay().get(timeout=10)
    celery_setup.worker.kill()
    assert celery_setup.worker.container.status == "exited"
    waiting = child.delay()
    celery_setup.worker.restart()
    assert waiting.get(timeout=10) != before


def test_warm_shutdown_finishes_the_running_task(celery_setup):
    running = wait_for_release.delay("gate")
    celery_setup.worker.assert_log_exists("holding gate")
    celery_setup.worker.kill(signal.SIGTERM, reload_container=False)
    celery_setup.worker.assert_log_exists("Warm shutdown")
    celery_setup.app.backend.client.rpush("gate", 1)
    assert running.get(timeout=10) == "released"
    assert celery_setup.worker.container._container.wait(timeout=STOP_SECONDS)["StatusCode"] == 0


def test_direct_worker_runs_restarts_and_stops(start_worker, redis_server):
    broker = redis_server.celery_url()
    first = start_worker("engine_tasks:app", broker=broker, arguments=["--concurrency=1"])
    pid, _start = first.run("engine_tasks.child")
    assert pid in first.members()
    first.close()
    assert first.members() == []
    second = start_worker("engine_tasks:app", broker=broker, arguments=["--pool=solo"])
    assert second.run("engine_tasks.child")[0] == second.pid
    assert second.inspect("ping") == {"ok": "pong"}
    assert second.stop(signal.SIGTERM) == 0


def test_direct_worker_that_gives_up_is_reported(start_worker):
    worker = start_worker("engine_tasks:nothing", ready=False)
    assert worker.wait() != 0
    with pytest.raises(ChildProcessError, match="nothing"):
        worker.wait_ready()


def test_image_of_a_node_is_built_from_sources_alone():
    with tarfile.open(fileobj=build_context()) as context:
        names = context.getnames()
    assert {DOCKERFILE, "pyproject.toml", "bufpool_workers/memory/_core.pyx"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc"))]
