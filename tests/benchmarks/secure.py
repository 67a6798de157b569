"""Secure and random buffers: against regular ones, wiping by hand, libsodium and the kernel."""

import os

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from tests.benchmarks.prepared import Names, pools
from tests.benchmarks.report import Table
from tests.benchmarks.rivals import libsodium
from tests.benchmarks.timing import Case, measure

SIZES = (64, 4 * KiB, 64 * KiB, MiB, 16 * MiB)
ROUNDS = 25


def _taken(nbytes: int, kind: str) -> Case:
    return Case(
        f"{kind} {format_size(nbytes)}",
        f"pool.acquire({nbytes}).release()",
        lambda: pools(kind, (2 * KiB, 4 * KiB)),
    )


def promised() -> Table:
    """Measure what the extra work costs, for the sizes that secrets have."""
    table = Table("secure", "taken and given back: secure and random beside regular")
    for nbytes, kind, reach in (
        (64, "secure", 1.5),
        (4 * KiB, "secure", 2.3),
        (32, "random", 3),
    ):
        ours, rival = measure([_taken(nbytes, kind), _taken(nbytes, "regular")])
        table.add(ours, rival, reach=reach)
    return table


def _with(kind: str, nbytes: int) -> Case:
    sizes = (max(nbytes, 2 * KiB),)
    return Case(
        f"{kind}_buffer({format_size(nbytes)})",
        f"with buffer({nbytes}): pass",
        lambda: pools(kind, sizes),
    )


def _wiped(nbytes: int) -> Names:
    return {"zeros": bytes(nbytes)}


def secure() -> Table:
    table = Table("secure_sizes", "secure buffers against what else wipes")
    sodium = libsodium()
    for nbytes in SIZES:
        cases = [
            _with("secure", nbytes),
            Case(
                "bytearray, overwritten by hand",
                f"b = bytearray({nbytes}); b[:] = zeros",
                lambda nbytes=nbytes: _wiped(nbytes),
            ),
        ]
        if sodium is not None:
            names = {"malloc": sodium.sodium_malloc, "free": sodium.sodium_free}
            statement = f"free(malloc({nbytes}))"
            cases.append(Case("sodium_malloc, sodium_free", statement, lambda names=names: names))
        ours, *rivals = measure(cases, rounds=ROUNDS)
        for rival in rivals:
            reach = 0.01 if nbytes == 64 and "sodium" in rival.name else None
            table.add(ours, rival, at=nbytes, reach=reach)
    held = 2 * max(SIZES)
    level = bp.memory.reachable_level(held)
    table.notes.append(f"level of protection that {format_size(held)} get here: {level}")
    if sodium is None:
        table.notes.append("libsodium is not installed here: sodium_malloc was not measured")
    return table


def random() -> Table:
    table = Table("random_sizes", "random buffers against the kernel's random bytes")
    for nbytes in SIZES:
        urandom = Case("os.urandom", f"urandom({nbytes})", lambda: {"urandom": os.urandom})
        ours, rival = measure([_with("random", nbytes), urandom], rounds=ROUNDS)
        table.add(ours, rival, at=nbytes, reach=0.14 if nbytes == 4 * KiB else None)
    table.notes.append("a random buffer is filled when taken, and overwritten when given back")
    return table


def tables() -> list[Table]:
    return [promised(), secure(), random()]
