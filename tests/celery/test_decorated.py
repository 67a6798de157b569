"""`pooled_buffer` on tasks of a real worker: every form of task keeps working."""

import hashlib
from pathlib import Path

import pytest
from celery import chain, chord, group

from tests.support.celery_worker import CeleryWorker


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def worker(redis_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("decorated") / "log"
    with CeleryWorker(
        "plugin_app:app",
        broker=redis_server.celery_url(),
        folder=Path(__file__).parent,
        log=log,
        arguments=["--concurrency=1"],
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_stays_in_use(worker):
    yield
    assert worker.run("decorated_tasks.in_use") == 0


def signature(worker, task, *args):
    return worker.client.signature(f"decorated_tasks.{task}", args)


def test_plain_task(worker):
    assert worker.run("decorated_tasks.plain", "ada") == digest("ada")


def test_bound_task_gets_itself(worker):
    assert worker.run("decorated_tasks.bound", "ada") == ["decorated_tasks.bound", digest("ada")]


def test_pydantic_task_gets_its_model(worker):
    found = worker.run("decorated_tasks.validated", {"text": "ab", "times": 3})
    assert found == {"digest": digest("ababab")}


def test_pydantic_task_refuses_a_bad_model(worker):
    pending = worker.send("decorated_tasks.validated", {"text": "ab", "times": "many"})
    pending.get(timeout=30, propagate=False)
    assert pending.state == "FAILURE"
    assert "Input should be a valid integer" in pending.traceback


def test_autoretry_takes_a_buffer_for_each_attempt(worker):
    assert worker.run("decorated_tasks.retried_by_celery", "a", 2) == [3, digest("a")]


def test_retry_takes_a_buffer_for_each_attempt(worker):
    assert worker.run("decorated_tasks.retried_by_itself", "b", 2) == [3, digest("b")]


def test_last_failed_attempt_raises_what_the_task_raised(worker):
    with pytest.raises(LookupError, match="attempt 3"):
        worker.run("decorated_tasks.retried_by_itself", "c", 5)


def test_stacked_decorators_give_one_buffer_each(worker):
    kinds, lengths, zeroed = worker.run("decorated_tasks.stacked")
    assert kinds == ["regular", "secure", "random"]
    assert lengths == [4096, 2048, 32]
    assert zeroed


def test_size_from_arguments_by_position_name_and_default(worker):
    assert worker.run("decorated_tasks.sized", 3) == [1536, 1536, 2048]
    assert worker.run("decorated_tasks.sized", 3, 1024) == [3072, 3072, 4096]
    assert worker.run("decorated_tasks.sized", blocks=5, block_size=1024) == [5120, 5120, 8192]


def test_eager_task_inside_another_has_a_buffer_of_its_own(worker):
    assert worker.run("decorated_tasks.runs_eager", "ada") == [digest("ada"), True, 1]


def test_chain_passes_results_on(worker):
    pending = chain(signature(worker, "plain", "ada"), signature(worker, "plain")).apply_async()
    assert worker.result(pending) == digest(digest("ada"))


def test_chord_gathers_results(worker):
    header = group(signature(worker, "plain", text) for text in "abc")
    pending = chord(header, signature(worker, "joined"), app=worker.client).apply_async()
    assert worker.result(pending) == digest("".join(map(digest, "abc")))


def test_caller_can_not_pass_the_buffer(worker):
    with pytest.raises(TypeError, match=r"plain\(\) got an unexpected keyword argument 'buf'"):
        worker.run("decorated_tasks.plain", "ada", buf="mine")


def test_wrong_arguments_are_refused_in_the_worker(worker):
    with pytest.raises(TypeError):
        worker.run("decorated_tasks.plain", "ada", "lovelace")


def test_wrong_arguments_are_refused_where_they_are_published():
    from tests.celery import decorated_tasks  # noqa: PLC0415 (here it has no worker)

    with pytest.raises(TypeError, match="buf"):
        decorated_tasks.plain.delay("ada", buf="mine")
    with pytest.raises(TypeError):
        decorated_tasks.plain.delay()
