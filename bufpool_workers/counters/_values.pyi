from array import array
from collections.abc import Callable

def read_values(
    data: bytes, start: int, image: bytes, places: bytes, *, timed: bool, counts: bool
) -> array[float] | None:
    """Return the values at these places of the data; None where bytes between them are others.

    `image` is a file's content, `places` are native int32 offsets in it, in their order. `timed`:
    each value is followed by its time. `counts`: None too if one is negative or not finite.
    """

def add_rows(rows: list[array[float]], otherwise: Callable[[list[float]], float]) -> list[float]:
    """Return the sum of each column of rows of float64, which are arrays of one length.

    Sums of whole numbers are exact. Any other one is what `otherwise` makes of its column.
    """
