"""Numbers of files as whole ones: a damaged file may say anything."""

from collections.abc import Iterable, Sequence
from typing import Final

_LARGEST: Final = 2**53  # beyond it floats can't count


def whole(value: float) -> int:
    """Return a value as an int; 0 for one that can't have been counted."""
    return int(value) if abs(value) <= _LARGEST else 0


def whole_numbers(values: Sequence[float]) -> list[int]:
    """Return each value as `whole` does."""
    return list(map(int if _are_whole(values) else whole, values))


def whole_sum(values: Iterable[float]) -> int:
    """Return the sum of values as `whole` returns them."""
    return sum(map(whole, values))


def _are_whole(values: Sequence[float]) -> bool:
    # not a look at each: files that are not damaged have no other ones
    return not values or (min(values) >= 0 and sum(values) <= _LARGEST)
