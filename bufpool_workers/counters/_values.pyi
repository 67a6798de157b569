def read_values(
    data: bytes, start: int, image: bytes, places: bytes, *, timed: bool, counts: bool
) -> tuple[float, ...] | None:
    """Return the values at these places of the data; None where bytes between them are others.

    `image` is a file's content, `places` are native int32 offsets in it, in their order. `timed`:
    each value is followed by its time. `counts`: None too if one is negative or not finite.
    """
