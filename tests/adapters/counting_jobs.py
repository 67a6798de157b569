"""A job of RQ that counts, in a process of its own."""

from prometheus_client import Counter, Histogram

DONE = Counter("job_done", "Jobs that were done.")
SECONDS = Histogram("job_seconds", "How long they took.", buckets=(1, 2))


def work(number: int) -> None:
    """Count."""
    DONE.inc()
    SECONDS.observe(number % 3)
