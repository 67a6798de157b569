"""What a look at a host or an app has found, for a log and for `celery bufpool doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it stands, what was seen, and what to do about it.

    `to_do` is empty when there is nothing to do; `paste` is a line for the app's settings.
    """

    level: Level
    check: str
    what: str
    to_do: str = ""
    paste: str = ""

    def __str__(self) -> str:
        """Write what was seen and what to do in one line, as the worker logs it."""
        return "; ".join(part for part in (self.what, self.to_do) if part)

    def as_dict(self) -> dict[str, Any]:
        """Give everything ready for JSON."""
        return asdict(self)


def ok(check: str, what: str) -> Finding:
    """Find that all is well."""
    return Finding("ok", check, what)
