"""Pools for tests: small, and of any kind."""

from bufpool_workers.memory import BufferPool

KINDS = ("regular", "secure", "random")
SIZES = (2048, 4096, 65536)
KiB = 1024


def make_pool(kind="regular", **changes):
    options = {"size_classes": SIZES, "max_bytes": 1 << 20, "max_buffer_bytes": 1 << 22}
    return BufferPool(kind, **(options | changes))
