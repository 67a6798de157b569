"""Sizes, labels, percentages and ages: how they are read, and how people see them."""

import re
from typing import Final

KiB: Final = 1024
"""A kibibyte in bytes (IEC 80000-13)."""
MiB: Final = 1024 * KiB
"""A mebibyte in bytes (IEC 80000-13)."""
GiB: Final = 1024 * MiB
"""A gibibyte in bytes (IEC 80000-13)."""

_UNITS: Final = {"GiB": GiB, "MiB": MiB, "KiB": KiB, "B": 1}
_BYTES: Final = {name.upper(): unit for name, unit in _UNITS.items()} | {"": 1}
_SIZE: Final = re.compile(r"\s*(\d{1,18})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_LABEL: Final = re.compile(r"(\d{1,18})([kmg]?)b", re.ASCII)

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def parse_size(size: object) -> int:
    """Return a size in bytes from an int or from text such as "64KiB".

    Units are B, KiB, MiB and GiB (IEC 80000-13, powers of 1024); "KB" and the like are refused,
    since they mean two things. Raises TypeError for other types, ValueError for other text.
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None or match[2].upper() not in _BYTES:
            raise ValueError(
                f'{size!r} is not a size: a whole number with B, KiB, MiB or GiB, such as "64KiB"'
            )
        return int(match[1]) * _BYTES[match[2].upper()]
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f'a size is an int or text such as "64KiB", not {type(size).__name__}')
    return size


def format_size(nbytes: int) -> str:
    """Write a size as `parse_size` reads it: 65536 is "64KiB"."""
    name, unit = _largest_unit(nbytes)
    return f"{nbytes // unit}{name}"


def size_label(nbytes: int) -> str:
    """Write the name of a size class in statistics and metrics: 65536 is "64kb"."""
    name, unit = _largest_unit(nbytes)
    return f"{nbytes // unit}{name.lower().replace('i', '')}"


def label_bytes(label: str) -> int | None:
    """Return the bytes of a size class by its label; None for other text, such as "larger"."""
    match = _LABEL.fullmatch(label)
    return int(match[1]) << 10 * " kmg".index(match[2] or " ") if match else None


def _largest_unit(nbytes: int) -> tuple[str, int]:
    """Return the largest unit of which `nbytes` is a multiple."""
    fitting = (pair for pair in _UNITS.items() if nbytes >= pair[1] and nbytes % pair[1] == 0)
    return next(fitting, ("B", 1))


def format_count(number: int) -> str:
    """Write 1234567 as "1,234,567"."""
    return f"{number:,}"


def format_bytes(nbytes: int) -> str:
    """Write a size in the largest unit that it reaches, to one digit after the point: "5.3 MiB"."""
    if nbytes < KiB:
        return f"{nbytes} B"
    size, names = float(nbytes), iter(("KiB", "MiB", "GiB", "TiB"))
    name = ""
    while size >= KiB and (following := next(names, None)):
        size, name = size / KiB, following
    return f"{size:.1f} {name}".replace(".0 ", " ")


def format_label(label: str) -> str:
    """Write the label of a size as that size: "256kb" is "256 KiB"."""
    nbytes = label_bytes(label)
    return label if nbytes is None else format_bytes(nbytes)


def format_percentage(percentage: float | None) -> str:
    """Write a percentage to one digit; only 100 is shown as 100, and None as "none yet"."""
    if percentage is None:
        return "none yet"
    shown = f"{percentage:.1f} %"
    return "99.9 %" if shown == "100.0 %" and percentage < 100 else shown.replace(".0 %", " %")  # noqa: PLR2004 - percent


def format_rate(per_second: float) -> str:
    """Write how often something happens: "12.5 / s"."""
    return f"{per_second:,.1f} / s".replace(".0 ", " ")


def format_age(seconds: float) -> str:
    """Write a duration in its two largest units: "3 h 5 min"."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
