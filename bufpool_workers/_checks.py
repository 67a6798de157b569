"""The checks of single settings: each takes a value and returns it as it is kept, or raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from bufpool_workers.pool_stats import KINDS
from bufpool_workers.units import GiB, format_size, parse_size


def meant(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes only

    near = get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def size(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        size = parse_size(value)
        if not least <= size <= most:
            raise ValueError(f"outside {format_size(least)} to {format_size(most)}")
        return size

    return check


def number(least: float, most: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"a number from {least:g} to {most:g} is needed")
        if not least <= value <= most:
            raise ValueError(f"outside {least:g} to {most:g}")
        return float(value)

    return check


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("True or False is needed")
    return value


def choice(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return str(value)

    return check


def text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("non-empty text is needed")
    return value


def optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else check(value)


def port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("None or a port from 0 to 65535 is needed (0 takes a free one)")
    if not 0 <= value <= 65535:  # noqa: PLR2004 - the range of ports
        raise ValueError("outside 0 to 65535")
    return value


def hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError('a list of host names is needed, such as ["metrics.example.com"]')
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", name):
            raise ValueError(f"{name!r} is not a host's name alone, without port and brackets")
    return tuple(value)


def tls(value: object) -> Mapping[str, Any]:
    paths = ("certfile", "keyfile", "client_cafile", "client_capath")
    known: dict[str, type] = {**dict.fromkeys(paths, str), "client_auth_required": bool}
    if not isinstance(value, Mapping) or not all(
        key in known and isinstance(value[key], known[key]) for key in value
    ):
        raise TypeError(f"a mapping with some of {', '.join(known)} is needed")
    if value and not {"certfile", "keyfile"} <= set(value):
        raise ValueError("certfile and keyfile are both needed")
    has_authority = not value.keys().isdisjoint({"client_cafile", "client_capath"})
    if has_authority != value.get("client_auth_required", False):
        raise ValueError(
            "client_cafile or client_capath lets in known clients only together with "
            "client_auth_required=True, and neither goes without the other"
        )
    return MappingProxyType(dict(value))


def namespace(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", value):
        raise ValueError("a Prometheus name is needed: letters, digits and _, no digit first")
    return value


def paths(value: object) -> tuple[str, ...]:
    paths = (value,) if isinstance(value, str) else value
    if not isinstance(paths, list | tuple) or not all(isinstance(p, str) and p for p in paths):
        raise TypeError("a file path or a list of file paths is needed")
    if any("\n" in path or path.startswith("-----BEGIN") for path in paths):
        raise ValueError("file paths are needed, never the text of a key")
    return tuple(paths)


def redis_url(value: object) -> str:
    schemes = ("redis://", "rediss://", "unix://")
    if not isinstance(value, str) or not value.startswith(schemes):
        raise ValueError(f"the URL of a Redis is needed: {', '.join(schemes)}...")
    return value


def keys(value: object) -> tuple[str, ...]:
    keys = (value,) if isinstance(value, str) else value
    if not isinstance(keys, list | tuple) or not all(isinstance(key, str) and key for key in keys):
        raise TypeError("public keys are needed: the text or the file path of one, or a list")
    return tuple(keys)


def classes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 32:  # noqa: PLR2004
        raise TypeError("a list of 1 to 32 sizes is needed")
    sizes = tuple(map(size(64, GiB), value))
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError("sizes must increase, without repetition")
    return sizes


def by_kind(check: Callable[[object], Any], what: str) -> Callable[[object], dict[str, Any]]:
    kinds = ", ".join(KINDS)

    def by_kind(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError(f"a mapping from {kinds} to {what} is needed")
        for kind in value:
            if kind not in KINDS:
                near = meant(str(kind), KINDS) or f", only {kinds}"
                raise ValueError(f"there is no kind {kind!r}{near}")
        return {kind: check(value[kind]) for kind in value}

    return by_kind


def levels(value: object) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise TypeError('a mapping from size class to count is needed, such as {"1MiB": 4}')
    levels: dict[int, int] = {}
    for size, count in value.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 100_000:  # noqa: PLR2004
            raise ValueError(f"the count for {size} must be an int from 0 to 100000")
        levels[parse_size(size)] = count
    return dict(sorted(levels.items()))
