"""Numbers as people read them."""

from typing import Final

from bufpool_workers.counters.catalog import label_bytes

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_UNIT: Final = 1024

PROTECTION: Final = {
    "memfd": "hidden from every other process, root included; never swapped",
    "mlock": "never swapped; root can read it",
    "plain": "may be swapped; root can read it",
}
"""What each level of secure memory means."""


def format_count(number: int) -> str:
    """Write 1234567 as "1,234,567"."""
    return f"{number:,}"


def format_bytes(nbytes: int) -> str:
    """Write a size in the largest unit that it reaches, to one digit after the point: "5.3 MiB"."""
    if nbytes < _UNIT:
        return f"{nbytes} B"
    size, names = float(nbytes), iter(("KiB", "MiB", "GiB", "TiB"))
    name = ""
    while size >= _UNIT and (following := next(names, None)):
        size, name = size / _UNIT, following
    return f"{size:.1f} {name}".replace(".0 ", " ")


def format_label(label: str) -> str:
    """Write the label of a size as that size: "256kb" is "256 KiB"."""
    nbytes = label_bytes(label)
    return label if nbytes is None else format_bytes(nbytes)


def format_percentage(percentage: float | None) -> str:
    """Write a percentage to one digit; all but 100 stays below it, and what isn't known is none."""
    if percentage is None:
        return "none yet"
    shown = f"{percentage:.1f} %"
    return "99.9 %" if shown == "100.0 %" and percentage < 100 else shown.replace(".0 %", " %")  # noqa: PLR2004 - percent


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
