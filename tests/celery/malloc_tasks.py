"""A task that tells whether malloc maps large blocks anew, or takes them from memory it kept."""

import resource

from celery import shared_task

BLOCK_BYTES = 8 * 1024 * 1024


@shared_task
def page_faults(pairs):
    """The page faults of so many pairs of large blocks, held together and dropped."""
    fill_and_drop_a_pair()  # whatever grows, grows now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(pairs):
        fill_and_drop_a_pair()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def fill_and_drop_a_pair():
    first, second = bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES)
    first[::4096] = second[::4096] = b"x" * (BLOCK_BYTES // 4096)
