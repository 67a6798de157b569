"""Mistakes with the objects of job systems: two hosts that differ, wrong order, wrong object."""

from itertools import permutations

import dramatiq
import pytest
from celery import Celery
from dramatiq.brokers.stub import StubBroker
from huey import MemoryHuey
from rq import Queue
from taskiq import InMemoryBroker

import bufpool_workers as bp
from bufpool_workers import futures, huey, testing
from bufpool_workers.dramatiq import BufpoolMiddleware
from tests.adapters import futures_work as work


@pytest.fixture(autouse=True)
def own_process():
    testing.reset()
    yield
    testing.reset()


def use_celery(at_limit):
    app = Celery("shop", set_as_current=False)
    app.conf.bufpool_at_limit = at_limit
    bp.setup(app)
    return app  # which is held by nobody else


HOSTS = {
    "celery": use_celery,
    "dramatiq": lambda at_limit: BufpoolMiddleware({"at_limit": at_limit}),
    "huey": lambda at_limit: huey.setup(MemoryHuey("shop"), {"bufpool_at_limit": at_limit}),
    "futures": lambda at_limit: futures.start_process({"at_limit": at_limit}),
    "configure": lambda at_limit: bp.configure(at_limit=at_limit),
}


@pytest.mark.parametrize(("one", "other"), list(permutations(HOSTS, 2)))
def test_two_hosts_of_a_process_have_the_same_settings(one, other):
    held = [HOSTS[one]("raise"), HOSTS[other]("raise")]
    assert bp.stats().total.gets == 0
    testing.reset()
    held.append(HOSTS[one]("raise"))
    with pytest.raises(bp.SettingsError, match="are in one process and differ in bufpool_at_limit"):  # noqa: PT012 - some read them at once
        held.append(HOSTS[other]("lend"))
        bp.stats()


MAKERS = {
    "dramatiq": lambda made: dramatiq.actor(made, broker=StubBroker(middleware=[])),
    "huey": lambda made: MemoryHuey("shop").task()(made),
    "taskiq": lambda made: InMemoryBroker().task(made),
    # shared, it would be registered with every app of this process
    "celery": lambda made: Celery("shop", set_as_current=False).task(made, shared=False),
}


@pytest.mark.parametrize(
    "decorate", [bp.sealed("password"), bp.sealed_result, bp.pooled_buffer(8), bp.as_job]
)
@pytest.mark.parametrize("name", MAKERS)
def test_decorator_above_that_of_the_job_system_is_refused(name, decorate):
    def function(password, *, buf=None): ...

    made = MAKERS[name](function)
    with pytest.raises(TypeError, match=r"stands below .*, not above it"):
        decorate(made)


@pytest.mark.parametrize("thing", [MemoryHuey("shop"), StubBroker(), Queue("shop", connection=1)])
def test_what_only_has_a_name_is_no_task(thing):
    with testing.keys_in_memory(), pytest.raises(TypeError, match="task must be a task or its"):
        bp.seal("secret", task=thing, argument="password")


def test_task_of_taskiq_where_its_name_is_wanted_is_named():
    task = InMemoryBroker().task(bp.as_job(work.login))
    with (
        testing.keys_in_memory(),
        pytest.raises(TypeError, match=r"pass 'tests.adapters.futures_work.login'"),
    ):
        bp.seal("secret", task=task, argument="password")
