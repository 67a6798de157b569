"""The `bufpool_*` settings, read once into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field, fields
from types import MappingProxyType
from typing import Any

from bufpool_workers import _checks, _environ
from bufpool_workers._record import record_class
from bufpool_workers.errors import SettingsError
from bufpool_workers.pool_stats import KINDS
from bufpool_workers.units import GiB, KiB, MiB, format_size

PREFIX = "bufpool_"
PACKAGE = "bufpool_workers"
"""No setting: under this name a Celery app's configuration says that it was set up."""

_PAGE = 4 * KiB

WarmLevels = Mapping[str, Mapping[int, int]]


def _meant_key(key: str, known: Iterable[str]) -> str:
    """Return the setting that a key was meant for, spelled as the key is."""
    prefix = PREFIX if key.lower().startswith(PREFIX) else ""
    return _checks.meant(key.lower(), [prefix + name for name in known])


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


@record_class(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings with their defaults; sizes are in bytes, times in seconds.

    The field `x` is the Celery setting `bufpool_x`, and BUFPOOL_X in the environment.
    `Settings.read` is the one place where they are checked.
    """

    size_classes: tuple[int, ...] = _setting(SIZE_CLASSES, _checks.classes)
    """The sizes that pools keep, in bytes. A larger request is mapped for one use."""
    warm: WarmLevels = _setting(WARM, _checks.by_kind(_checks.levels, "{size: count}"))
    """The number of buffers mapped and touched before the first task, by kind and size."""
    max_bytes: Mapping[str, int] = _setting(
        MAX_BYTES, _checks.by_kind(_checks.size(0, 1 << 44), "a size")
    )
    """The most that a pool holds in a process, idle and in use, in bytes, by kind."""
    max_buffer_bytes: int = _setting(GiB, _checks.size(64, 1 << 44))
    """The largest single buffer, in bytes; a larger request raises LimitExceeded."""
    at_limit: str = _setting("lend", _checks.choice("lend", "raise"), text=True)
    """What a request beyond `max_bytes` gets: "lend" maps memory for it, "raise" refuses it."""
    trim_after_seconds: float = _setting(60.0, _checks.number(0, 86400))
    """Seconds after which idle memory above the warm counts goes back to the system."""
    warm_seconds: float = _setting(2.0, _checks.number(0, 3.5))
    """The longest that a warm-up may take, in seconds."""
    secure_level: str = _setting("any", _checks.choice("memfd", "mlock", "any"), text=True)
    """The least level of secure memory to start with: "memfd", "mlock" or "any"."""
    debug: bool = _setting(default=False, check=_checks.flag)
    """True to remember where each buffer was acquired."""
    task_metrics: bool = _setting(default=False, check=_checks.flag)
    """True to count for each task what its runs are lent and leave behind."""
    tune_malloc: bool = _setting(default=False, check=_checks.flag)
    """True to let malloc keep large free blocks in warmed processes (mallopt(3))."""
    metrics_port: int | None = _setting(None, _checks.optional(_checks.port))
    """The TCP port of the metrics; 0 for a free one, None for no endpoint."""
    metrics_host: str = _setting("127.0.0.1", _checks.text, text=True)
    """The address that the endpoint listens on."""
    metrics_hosts: tuple[str, ...] = _setting((), _checks.hosts)
    """More host names that requests to a loopback address may name."""
    metrics_dir: str | None = _setting(None, _checks.optional(_checks.text), text=True)
    """The directory that processes count in; None for a private one."""
    metrics_namespace: str = _setting("bufpool", _checks.namespace, text=True)
    """The first part of all metric names."""
    metrics_tls: Mapping[str, Any] = _setting(MappingProxyType({}), _checks.tls)
    """The TLS arguments of prometheus_client's `start_http_server`."""
    compact_foreign: bool = _setting(default=False, check=_checks.flag)
    """True to merge the files that prometheus_client leaves of dead processes, too."""
    public_key: str | None = _setting(None, _checks.optional(_checks.text), shown=False, text=True)
    """The public key that arguments are sealed to, or the path of a file with it."""
    private_keys: tuple[str, ...] = _setting((), _checks.paths, shown=False)
    """Paths, or `credential:NAME`, of the private keys that open sealed arguments."""
    result_public_keys: tuple[str, ...] = _setting((), _checks.keys, shown=False)
    """The public keys that workers seal results to; the first is the default."""
    result_private_keys: tuple[str, ...] = _setting((), _checks.paths, shown=False)
    """Paths of the private keys that open sealed results."""
    single_use_url: str | None = _setting(None, _checks.optional(_checks.redis_url), shown=False)
    """A Redis that remembers used single-use tokens; None for one that the app has."""

    def in_force(self) -> dict[str, Any]:
        """Return all settings by their full names, ready for JSON, and nothing of a key.

        Sizes are text, as they are given; of keys there is only how many there are.
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
        for name in ("private_keys", "result_public_keys", "result_private_keys"):
            shown[name] = len(getattr(self, name))
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
        whole = _with_defaults(values)
        errors.extend(_conflicts(whole, keys=keys, wrong=keys.keys() - values.keys()))
        if errors:
            raise SettingsError("\n  ".join(errors))
        return cls(**whole)

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
        BUFPOOL_METRICS_PORT=9464. A variable whose name is nearly a setting's is logged; others
        are left alone. `environ` is `os.environ` by default. Raises SettingsError as `read` does.
        """
        texts = {setting.name: setting.metadata["text"] for setting in fields(cls)}
        try:
            found = _environ.read(os.environ if environ is None else environ, texts)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return cls.read(found)


def _with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, and those defaults that are made to fit them."""
    limit = given.get("max_buffer_bytes", GiB)
    most = MappingProxyType({**MAX_BYTES, **given.get("max_bytes", {})})
    fitting = tuple(size for size in SIZE_CLASSES if size <= limit) or (limit,)
    classes = given.get("size_classes", fitting)
    levels = {kind: _fitted(WARM[kind], classes, most[kind]) for kind in KINDS}
    warm = _freeze(levels | given.get("warm", {}))
    return {**given, "size_classes": classes, "max_bytes": most, "warm": warm}


def _conflicts(
    whole: Mapping[str, Any], *, keys: Mapping[str, str], wrong: Collection[str]
) -> Iterator[str]:
    """Yield a line for each setting that another one contradicts; defaults contradict none.

    `keys` maps the names of those that were given to how they were spelled. For those that are
    `wrong` by themselves the defaults stand, with which nothing is compared.
    """
    called = {f.name: keys.get(f.name, PREFIX + f.name) for f in fields(Settings)}
    classes, limit = whole["size_classes"], whole.get("max_buffer_bytes", GiB)
    if classes[-1] > limit:
        yield (
            f"{called['max_buffer_bytes']} = {limit}: below the largest of "
            f"{called['size_classes']}, {classes[-1]}"
        )
    for kind, levels in whole["warm"].items():
        warm = f"{called['warm']}[{kind!r}]"
        for size in levels:
            if size not in classes and "size_classes" not in wrong:
                yield f"{warm}: {format_size(size)} is not one of {called['size_classes']}"
        most = whole["max_bytes"][kind]
        if _pages(levels) > most and "max_bytes" not in wrong:
            yield (
                f"{warm}: {_pages(levels)} bytes, above {called['max_bytes']}[{kind!r}] = {most}"
            )


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
