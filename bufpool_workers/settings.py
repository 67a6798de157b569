"""The `bufpool_*` settings, read once into one frozen object."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from bufpool_workers import _environ
from bufpool_workers.errors import SettingsError
from bufpool_workers.pool_stats import KINDS
from bufpool_workers.units import GiB, KiB, MiB, format_size, parse_size

PREFIX = "bufpool_"
PACKAGE = "bufpool_workers"
"""No setting: under this name a Celery app's configuration says that it was set up."""

_PAGE = 4 * KiB

WarmLevels = Mapping[str, Mapping[int, int]]


def _meant(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes only

    near = get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _meant_key(key: str, known: Iterable[str]) -> str:
    """Return the setting that a key was meant for, spelled as the key is."""
    prefix = PREFIX if key.lower().startswith(PREFIX) else ""
    return _meant(key.lower(), [prefix + name for name in known])


def _size(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        size = parse_size(value)
        if not least <= size <= most:
            raise ValueError(f"outside {format_size(least)} to {format_size(most)}")
        return size

    return check


def _number(least: float, most: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"a number from {least:g} to {most:g} is needed")
        if not least <= value <= most:
            raise ValueError(f"outside {least:g} to {most:g}")
        return float(value)

    return check


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("True or False is needed")
    return value


def _choice(*choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return str(value)

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("non-empty text is needed")
    return value


def _optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else check(value)


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("None or a port from 0 to 65535 is needed (0 takes a free one)")
    if not 0 <= value <= 65535:  # noqa: PLR2004 - the range of ports
        raise ValueError("outside 0 to 65535")
    return value


def _hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError('a list of host names is needed, such as ["metrics.example.com"]')
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", name):
            raise ValueError(f"{name!r} is not a host's name alone, without port and brackets")
    return tuple(value)


def _tls(value: object) -> Mapping[str, Any]:
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


def _namespace(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", value):
        raise ValueError("a Prometheus name is needed: letters, digits and _, no digit first")
    return value


def _paths(value: object) -> tuple[str, ...]:
    paths = (value,) if isinstance(value, str) else value
    if not isinstance(paths, list | tuple) or not all(isinstance(p, str) and p for p in paths):
        raise TypeError("a file path or a list of file paths is needed")
    if any("\n" in path or path.startswith("-----BEGIN") for path in paths):
        raise ValueError("file paths are needed, never the text of a key")
    return tuple(paths)


def _redis_url(value: object) -> str:
    schemes = ("redis://", "rediss://", "unix://")
    if not isinstance(value, str) or not value.startswith(schemes):
        raise ValueError(f"the URL of a Redis is needed: {', '.join(schemes)}...")
    return value


def _keys(value: object) -> tuple[str, ...]:
    keys = (value,) if isinstance(value, str) else value
    if not isinstance(keys, list | tuple) or not all(isinstance(key, str) and key for key in keys):
        raise TypeError("public keys are needed: the text or the file path of one, or a list")
    return tuple(keys)


def _classes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 32:  # noqa: PLR2004
        raise TypeError("a list of 1 to 32 sizes is needed")
    sizes = tuple(map(_size(64, GiB), value))
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError("sizes must increase, without repetition")
    return sizes


def _by_kind(check: Callable[[object], Any], what: str) -> Callable[[object], dict[str, Any]]:
    kinds = ", ".join(KINDS)

    def by_kind(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError(f"a mapping from {kinds} to {what} is needed")
        for kind in value:
            if kind not in KINDS:
                meant = _meant(str(kind), KINDS) or f", only {kinds}"
                raise ValueError(f"there is no kind {kind!r}{meant}")
        return {kind: check(value[kind]) for kind in value}

    return by_kind


def _levels(value: object) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise TypeError('a mapping from size class to count is needed, such as {"1MiB": 4}')
    levels: dict[int, int] = {}
    for size, count in value.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 100_000:  # noqa: PLR2004
            raise ValueError(f"the count for {size} must be an int from 0 to 100000")
        levels[parse_size(size)] = count
    return dict(sorted(levels.items()))


def _freeze(levels: Mapping[str, Mapping[int, int]]) -> WarmLevels:
    return MappingProxyType({kind: MappingProxyType(dict(levels[kind])) for kind in KINDS})


SIZE_CLASSES = tuple(n * KiB for n in (2, 4, 8, 16, 32, 64, 256, 1024, 4096, 16384))
MAX_BYTES = MappingProxyType({"regular": 128 * MiB, "secure": 4 * MiB, "random": 4 * MiB})
_FEW = {2 * KiB: 16, 4 * KiB: 16}
WARM = _freeze(
    {
        "regular": {**dict.fromkeys(SIZE_CLASSES[:6], 8), 256 * KiB: 4, 1 * MiB: 2},
        "secure": _FEW,
        "random": _FEW,
    }
)


def _setting(
    default: Any, check: Callable[[object], Any], *, shown: bool = True, text: bool = False
) -> Any:
    """Make a field. `text`: a variable of the environment holds it as it is, not as JSON."""
    # a factory, since dataclasses take a read-only mapping for a mutable one
    return field(
        default_factory=lambda: default,
        repr=shown,
        metadata={"check": check, "shown": shown, "text": text},
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings with their defaults; sizes are in bytes, times in seconds.

    The field `x` is the Celery setting `bufpool_x`, and BUFPOOL_X in the environment.
    `Settings.read` is the one place where they are checked.
    """

    size_classes: tuple[int, ...] = _setting(SIZE_CLASSES, _classes)
    warm: WarmLevels = _setting(WARM, _by_kind(_levels, "{size: count}"))
    max_bytes: Mapping[str, int] = _setting(MAX_BYTES, _by_kind(_size(0, 1 << 44), "a size"))
    max_buffer_bytes: int = _setting(GiB, _size(64, 1 << 44))
    at_limit: str = _setting("lend", _choice("lend", "raise"), text=True)
    trim_after_seconds: float = _setting(60.0, _number(0, 86400))
    warm_seconds: float = _setting(2.0, _number(0, 3.5))
    secure_level: str = _setting("any", _choice("memfd", "mlock", "any"), text=True)
    debug: bool = _setting(default=False, check=_flag)
    tune_malloc: bool = _setting(default=False, check=_flag)
    metrics_port: int | None = _setting(None, _optional(_port))
    metrics_host: str = _setting("127.0.0.1", _text, text=True)
    metrics_hosts: tuple[str, ...] = _setting((), _hosts)
    metrics_dir: str | None = _setting(None, _optional(_text), text=True)
    metrics_namespace: str = _setting("bufpool", _namespace, text=True)
    metrics_tls: Mapping[str, Any] = _setting(MappingProxyType({}), _tls)
    compact_foreign: bool = _setting(default=False, check=_flag)
    public_key: str | None = _setting(None, _optional(_text), shown=False, text=True)
    private_keys: tuple[str, ...] = _setting((), _paths, shown=False)
    result_public_keys: tuple[str, ...] = _setting((), _keys, shown=False)
    result_private_keys: tuple[str, ...] = _setting((), _paths, shown=False)
    single_use_url: str | None = _setting(None, _optional(_redis_url), shown=False)

    def in_force(self) -> dict[str, Any]:
        """Return all settings by their full names, ready for JSON, and nothing of a key.

        Sizes are text, as they are given; of key files there is only whether there are some.
        """
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["shown"]}
        shown["size_classes"] = [format_size(size) for size in self.size_classes]
        shown["warm"] = {
            kind: {format_size(size): count for size, count in levels.items()}
            for kind, levels in self.warm.items()
        }
        shown["max_bytes"] = {kind: format_size(most) for kind, most in self.max_bytes.items()}
        shown["max_buffer_bytes"] = format_size(self.max_buffer_bytes)
        shown["metrics_hosts"] = list(self.metrics_hosts)
        shown["metrics_tls"] = bool(self.metrics_tls)
        shown["public_key"] = self.public_key is not None
        shown["private_keys"] = len(self.private_keys)
        return {PREFIX + name: value for name, value in shown.items()}

    @classmethod
    def read(cls, conf: Mapping[str, Any]) -> Settings:
        """Make settings from a mapping of names, with or without `bufpool_`, in either case.

        Raises SettingsError with a line for every wrong key, its value and what it may be.
        """
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        keys: dict[str, str] = {}
        errors: list[str] = []
        for key in conf:
            name = str(key).lower().removeprefix(PREFIX)
            if name not in known:
                errors.append(f"{key}: there is no such setting{_meant_key(str(key), known)}")
                continue
            if name in keys:
                errors.append(f"{key}: given as {keys[name]} too")
                continue
            keys[name], setting, value = key, known[name], conf[key]
            try:
                values[name] = setting.metadata["check"](value)
            except (TypeError, ValueError) as error:
                shown = f" = {value!r}" if setting.metadata["shown"] else ""
                errors.append(f"{key}{shown}: {error}")
        errors.extend(_complete(values, keys=keys))
        if errors:
            raise SettingsError("\n  ".join(errors))
        return cls(**values)

    @classmethod
    def from_conf(cls, conf: Any) -> Settings:
        """Make settings from an app's whole configuration, such as Celery's `app.conf`.

        Keys count in upper case too, and with the configuration's own `prefix`, if it has one
        (CELERY_BUFPOOL_WARM). Raises SettingsError as `read` does.
        """
        keys = list(conf)  # reads a configuration that is still pending: before, it has no prefix
        prefix = (getattr(conf, "prefix", None) or "").lower()
        names = {key: str(key).lower().removeprefix(prefix) for key in keys}
        return cls.read(
            {n: conf[key] for key, n in names.items() if n.startswith(PREFIX) and n != PACKAGE}
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Make settings from BUFPOOL_WARM and such, for hosts that have no configuration.

        A value that is not text is JSON: BUFPOOL_WARM='{"regular": {"1MiB": 4}}',
        BUFPOOL_METRICS_PORT=9464. A variable whose name is nearly a setting's is warned of, others
        are left alone. `environ` is `os.environ` if it is not given. Raises SettingsError as
        `read` does.
        """
        texts = {setting.name: setting.metadata["text"] for setting in fields(cls)}
        try:
            found = _environ.read(os.environ if environ is None else environ, texts)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return cls.read(found)


def _complete(values: dict[str, Any], *, keys: Mapping[str, str]) -> list[str]:
    """Fit the defaults to the settings that were given, and check those against each other.

    `keys` maps the names of those that were given to how they were spelled. One that is wrong by
    itself is in `keys` and not in `values`: nothing is checked against it.
    """
    right = {"size_classes", "max_bytes", "max_buffer_bytes"}
    right -= keys.keys() - values.keys()
    called = {**{f.name: PREFIX + f.name for f in fields(Settings)}, **keys}
    warm, classes_key = called["warm"], called["size_classes"]
    limit = values.get("max_buffer_bytes", GiB)
    most = values["max_bytes"] = MappingProxyType({**MAX_BYTES, **values.get("max_bytes", {})})
    classes = values.setdefault(
        "size_classes", tuple(size for size in SIZE_CLASSES if size <= limit) or (limit,)
    )
    levels = values.get("warm", {})
    values["warm"] = _freeze(
        {kind: _fitted(WARM[kind], classes, most[kind]) for kind in KINDS} | levels
    )
    errors = []
    if classes[-1] > limit and right >= {"size_classes", "max_buffer_bytes"}:
        errors.append(
            f"{called['max_buffer_bytes']} = {limit}: below the largest of {classes_key}, "
            f"{classes[-1]}"
        )
    if "size_classes" in right:
        errors.extend(
            f"{warm}[{kind!r}]: {format_size(size)} is not one of {classes_key}"
            for kind in levels
            for size in levels[kind]
            if size not in classes
        )
    if "max_bytes" in right:
        errors.extend(
            f"{warm}[{kind!r}]: {_pages(levels[kind])} bytes, above "
            f"{called['max_bytes']}[{kind!r}] = {most[kind]}"
            for kind in levels
            if _pages(levels[kind]) > most[kind]
        )
    return errors


def _pages(levels: Mapping[int, int]) -> int:
    """Return the bytes that warming to those levels takes: whole pages for each class."""
    return sum(-(-size * count // _PAGE) * _PAGE for size, count in levels.items())


def _fitted(levels: Mapping[int, int], classes: tuple[int, ...], most: int) -> dict[int, int]:
    """Return the part of the default warm levels that size classes and cap have room for."""
    fitted: dict[int, int] = {}
    for size, count in sorted(levels.items()):
        room = (most - _pages(fitted)) // _PAGE * _PAGE
        if size in classes and room >= size:
            fitted[size] = min(count, room // size)
    return fitted
