"""The numbers of a pool, by size and together, and the rates that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from bufpool_workers.counters.catalog import label_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The numbers of one size of a pool, or of several together; the fields of the catalog.

    Counters are of all processes that ever counted, `in_use`, `idle` and `held_bytes` of those
    that live.
    """

    gets: int = 0
    puts: int = 0
    hits: int = 0
    misses: int = 0
    discards: int = 0
    bytes_allocated: int = 0
    bytes_reused: int = 0
    escapes: int = 0
    reclaims: int = 0
    limit_hits: int = 0
    unlocked: int = 0
    damages: int = 0
    in_use: int = 0
    idle: int = 0
    held_bytes: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Hits in 100 gets; None before the first get."""
        return 100 * self.hits / self.gets if self.gets else None

    @property
    def reuse_efficiency(self) -> float | None:
        """Bytes reused in 100 bytes served; None before the first."""
        served = self.bytes_allocated + self.bytes_reused
        return 100 * self.bytes_reused / served if served else None

    def __add__(self, other: Numbers) -> Numbers:
        """Add up field by field; rates follow from the sums."""
        return Numbers(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return any(getattr(self, name) for name in _FIELDS)

    def as_dict(self) -> dict[str, Any]:
        """Give all fields and both rates, ready for JSON."""
        rates = {"hit_rate": self.hit_rate, "reuse_efficiency": self.reuse_efficiency}
        return asdict(self) | rates

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` gave; what another version counts besides is left out."""
        return cls(**{name: int(given[name]) for name in _FIELDS if name in given})


_FIELDS: Final = tuple(f.name for f in fields(Numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNumbers:
    """The numbers of a pool by size, smallest first, and together."""

    sizes: Mapping[str, Numbers]
    total: Numbers

    @classmethod
    def of(cls, sizes: Mapping[str, Numbers]) -> Self:
        """Make them from those of the sizes."""
        ordered = {label: sizes[label] for label in sorted(sizes, key=_by_size)}
        return cls(sizes=ordered, total=add_up(ordered.values()))

    def as_dict(self) -> dict[str, Any]:
        """Give the numbers ready for JSON: `total`, and `sizes` by label."""
        sizes = {label: numbers.as_dict() for label, numbers in self.sizes.items()}
        return {"total": self.total.as_dict(), "sizes": sizes}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` gave."""
        sizes = given["sizes"].items()
        return cls.of({label: Numbers.from_dict(numbers) for label, numbers in sizes})


def add_up(numbers: Iterable[Numbers]) -> Numbers:
    """Give the sum of any number of them."""
    return sum(numbers, Numbers())


def _by_size(label: str) -> tuple[float, str]:
    nbytes = label_bytes(label)
    return float("inf") if nbytes is None else nbytes, label
