"""A producer for the tests' RQ workers, which knows jobs by name alone."""

from contextlib import contextmanager

from redis import Redis
from rq import Queue

from tests.support.host_client import JobNotes
from tests.support.waiting import wait_until


@contextmanager
def connected(host):
    """Connect to the broker of a host."""
    with Redis.from_url(host.broker) as redis:
        yield RQClient(redis)


class RQClient(JobNotes):
    """A producer without the adapter, which names functions: nothing checks what it stores."""

    def __init__(self, redis):
        self.redis, self.queue = redis, Queue(connection=redis)

    def send(self, name, *args, **options):
        return self.queue.enqueue(f"rq_jobs.{name}", args=args, **options)

    def ended(self, job):
        wait_until(lambda: job.get_status() in {"finished", "failed"}, what=f"the end of {job.id}")
        return job

    def run(self, name, *args, **options):
        return self.ended(self.send(name, *args, **options)).return_value()


def jobs(client, *, horses):
    """Run jobs that take buffers, fail with one, and keep some; with horses, kill one too."""
    sent = [client.send("work", number) for number in range(4)]
    failed = [client.send("fail") for _ in range(2)]
    kept = [client.send("keep") for _ in range(2)]
    assert [client.ended(job).return_value() for job in sent] == list(range(4))
    assert {client.ended(job).get_status() for job in failed} == {"failed"}
    assert {client.ended(job).get_status() for job in kept} == {"finished"}
    if horses:
        assert client.ended(client.send("die")).get_status() == "failed"
