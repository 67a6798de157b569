"""Reads systemd units as systemd does, as far as running their command line needs it."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.checkout import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "systemd"
_COMMON = "bufpool-.service.d"


class Unit:
    """The [Service] section of a unit of this folder, its drop-ins read after it."""

    def __init__(self, name: str, *, instance: str = "") -> None:
        self.name = name
        self._specifiers = {"%%": "%", "%i": instance, "%H": socket.gethostname()}
        self.settings: dict[str, list[str]] = {}
        for path in (FOLDER / name, *sorted((FOLDER / _COMMON).glob("*.conf"))):
            for key, value in _service_lines(path):
                self.settings.setdefault(key, []).append(self._expand(value))

    def _expand(self, value: str) -> str:
        for specifier, meaning in self._specifiers.items():
            value = value.replace(specifier, meaning)
        return value

    def last(self, key: str) -> str:
        """The value of a setting that has one."""
        return self.settings[key][-1]

    def environment(self) -> dict[str, str]:
        """Return what Environment= sets."""
        pairs = " ".join(self.settings["Environment"]).split()
        return dict(pair.split("=", 1) for pair in pairs)

    def command(self, environment: dict[str, str]) -> list[str]:
        """The command line, with the variables of `environment` filled in."""
        line = self.last("ExecStart")
        for name, value in environment.items():
            line = line.replace(f"${{{name}}}", value)
        return line.split()

    def system_calls(self) -> set[str]:
        """The system calls that are let pass: later lists add, those after a tilde take away."""
        allowed: set[str] = set()
        for value in self.settings["SystemCallFilter"]:
            names = set(_members(value.removeprefix("~").split()))
            allowed = allowed - names if value.startswith("~") else allowed | names
        return allowed


def _service_lines(path: Path) -> Iterator[tuple[str, str]]:
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield key, value


def _members(names: list[str]) -> Iterator[str]:
    for name in names:
        if not name.startswith("@"):
            yield name
            continue
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", name],  # noqa: S607 - of PATH
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        yield from _members(
            [line.strip() for line in listed if line[:4] == "    " and "#" not in line]
        )
