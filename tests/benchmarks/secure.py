"""Secure and random buffers beside regular ones, the kernel and libsodium, in one run.

Prints nanoseconds per call and ratios, each from the best of many short rounds that take turns, so
that what else the machine does falls on all of them alike.
"""

import ctypes
import ctypes.util
import os
import timeit

import bufpool_workers as bp

ROUNDS = 60
SECONDS_PER_ROUND = 0.004


def best_of(statements, names):
    """Give the least nanoseconds per call of each statement."""
    timers = {name: timeit.Timer(text, globals=names) for name, text in statements.items()}
    calls = {}
    for name, timer in timers.items():
        timer.timeit(100)
        calls[name] = max(int(SECONDS_PER_ROUND * 100 / timer.timeit(100)), 1)
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(calls[name]) / calls[name] * 1e9)
    return best


def find_sodium():
    """Load libsodium, if the system has it."""
    path = ctypes.util.find_library("sodium")
    if path is None:
        return None
    sodium = ctypes.CDLL(path)
    sodium.sodium_malloc.argtypes, sodium.sodium_malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    sodium.sodium_free.argtypes, sodium.sodium_free.restype = [ctypes.c_void_p], None
    if sodium.sodium_init() < 0:
        raise OSError("libsodium could not be set up")
    return sodium


def main():
    pools = bp.current_pools()
    pools.warm()
    sodium = find_sodium()
    names = {
        "regular": pools.regular.acquire,
        "secure": pools.secure.acquire,
        "random": pools.random.acquire,
        "urandom": os.urandom,
    }
    statements = {
        "regular 64 B": "regular(64).release()",
        "secure 64 B": "secure(64).release()",
        "regular 4 KiB": "regular(4096).release()",
        "secure 4 KiB": "secure(4096).release()",
        "regular 32 B": "regular(32).release()",
        "random 32 B": "random(32).release()",
        "random 4 KiB": "random(4096).release()",
        "os.urandom 32 B": "urandom(32)",
        "os.urandom 4 KiB": "urandom(4096)",
    }
    if sodium is not None:
        names |= {"malloc": sodium.sodium_malloc, "free": sodium.sodium_free}
        statements["sodium_malloc, sodium_free 64 B"] = "free(malloc(64))"
    best = best_of(statements, names)
    for name, nanoseconds in best.items():
        print(f"{name:32} {nanoseconds:9.0f} ns")
    print(f"level of secure memory: {pools.stats().secure_level}")
    for one, other, bound in (
        ("secure 64 B", "regular 64 B", "at most 1.5"),
        ("secure 4 KiB", "regular 4 KiB", "at most 3"),
        ("random 32 B", "regular 32 B", "at most 3"),
        ("random 4 KiB", "os.urandom 4 KiB", "at most 0.14"),
        ("sodium_malloc, sodium_free 64 B", "secure 64 B", "at least 100"),
    ):
        if one not in best:
            print(f"{one}: libsodium is not here")
            continue
        print(f"{one} / {other}: {best[one] / best[other]:.2f} ({bound})")


if __name__ == "__main__":
    main()
