"""The result of a check of a host or an app, for a log and for `celery bufpool doctor`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["ok", "note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "error")


class Finding(NamedTuple):
    """The result of one check: its severity, what was seen, and what to do about it.

    `hint` is empty when there is nothing to do; `snippet` is a line for the app's settings.
    """

    severity: Severity
    check: str
    message: str
    hint: str = ""
    snippet: str = ""

    def __str__(self) -> str:
        """Write the message and the hint in one line, as the worker logs them."""
        return "; ".join(part for part in (self.message, self.hint) if part)

    def as_dict(self) -> dict[str, str]:
        """Return everything ready for JSON, under the keys that `doctor --json` prints."""
        return {
            "level": self.severity,
            "check": self.check,
            "what": self.message,
            "to_do": self.hint,
            "paste": self.snippet,
        }


def unseen(check: str, what: str, where: object) -> Finding:
    """Return a finding that says what could not be looked at, since a file can't be read."""
    return Finding("note", check, f"{what} can't be seen from here: {where} can't be read")


def ok(check: str, message: str) -> Finding:
    """Return a finding with severity ok."""
    return Finding("ok", check, message)
