"""The places of one catalog's numbers among the keys of files, looked up once for each shape."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple, Self
from weakref import WeakKeyDictionary

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.catalog import Catalog, MetricSpec
from bufpool_workers.counters.columns import Shape
from bufpool_workers.counters.format import parse_key
from bufpool_workers.counters.whole import whole_numbers
from bufpool_workers.pool_stats import PoolStats, by_pool

LIVING: Final = ("gets", "puts", *(spec.field for spec in names.POOL_GAUGES))
"""The numbers of which the sum over living processes is wanted too."""

Where = tuple[str, str]
"""The pool, and the size or the other label that tells a number from those of its name."""
Place = tuple[Where, str]
"""Pool and size, and the field of PoolStats."""


class SizePlaces(NamedTuple):
    """The places of the numbers of pools and sizes among others: by name, of each size.

    `slots` says of which each is, None for one of each in their order: several are of one where
    releases have other help texts.
    """

    names: tuple[str, ...]
    width: int
    pick: Callable[[Sequence[float]], Sequence[float]]
    slots: Sequence[int] | None

    @classmethod
    def of(cls, found: Iterable[tuple[int, Place]], sizes: Sequence[Where]) -> Self:
        """Return those of `found` that are of these sizes."""
        of_size = {where: slot for slot, where in enumerate(sizes)}
        members: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, (where, name) in found:
            if where in of_size:
                members[name].append((of_size[where], at))
        slots: list[int] = []
        places: list[int] = []
        for number, several in enumerate(members.values()):
            for slot, at in sorted(several):
                slots.append(number * len(sizes) + slot)
                places.append(at)
        is_one_of_each = slots == list(range(len(members) * len(sizes)))
        # of one place it would return no tuple
        pick = itemgetter(*places) if len(places) > 1 else lambda row: [row[at] for at in places]
        return cls(tuple(members), len(sizes), pick, None if is_one_of_each else slots)

    def numbers(self, values: Sequence[float]) -> dict[str, list[int]]:
        """Return by name the number of each size."""
        found = whole_numbers(self.pick(values))
        if self.slots is not None:
            several, found = found, [0] * (len(self.names) * self.width)
            for slot, number in zip(self.slots, several, strict=True):
                found[slot] += number
        starts = range(0, len(found), self.width) if found else ()
        return {
            name: found[start : start + self.width]
            for name, start in zip(self.names, starts, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Index:
    """The places of the numbers among the keys of all processes.

    `others` has by family what is not the pools', by its labels. `living` has for files of each
    shape where those of LIVING lie.
    """

    keys: Sequence[bytes]
    sizes: tuple[Where, ...]
    pools: SizePlaces
    others: dict[str, list[tuple[Where, int]]]
    living: WeakKeyDictionary[Shape, SizePlaces] = field(default_factory=WeakKeyDictionary)


class Places:
    """The places of a catalog's numbers; those of a shape are kept as long as the shape is."""

    def __init__(self, catalog: Catalog) -> None:
        specs = names.COUNTERS + names.POOL_GAUGES
        self._fields = {catalog.name(spec): spec.field for spec in specs}
        self._keys = [catalog.key(spec) for spec in names.PROCESS_GAUGES]
        self._start = f'["{catalog.namespace}_'.encode()
        self._catalog = catalog
        self._of_pools: WeakKeyDictionary[Shape, list[Place | None]] = WeakKeyDictionary()
        self._of_process: WeakKeyDictionary[Shape, list[int] | None] = WeakKeyDictionary()
        self._indexes: dict[str, Index] = {}

    def of_process(self, shape: Shape) -> list[int] | None:
        """Return where each of PROCESS_GAUGES lies; None unless all are there."""
        if shape not in self._of_process:
            at = {key: place for place, key in enumerate(shape.keys)}
            is_ours = all(key in at for key in self._keys)
            self._of_process[shape] = [at[key] for key in self._keys] if is_ours else None
        return self._of_process[shape]

    def of_pools(self, shape: Shape) -> list[Place | None]:
        """Return for each key which number of a pool it is; None for another one."""
        places = self._of_pools.get(shape)
        if places is None:
            places = self._of_pools[shape] = list(map(self._place, shape.keys))
        return places

    def of_living(self, index: Index, shape: Shape) -> SizePlaces:
        """Return where the numbers of LIVING lie in a row of a file, for the sizes of an index."""
        found = index.living.get(shape)
        if found is None:
            places = enumerate(self.of_pools(shape))
            ours = ((at, place) for at, place in places if place and place[1] in LIVING)
            found = index.living[shape] = SizePlaces.of(ours, index.sizes)
        return found

    def others(self, spec: MetricSpec, kind: str, keys: Sequence[bytes]) -> list[tuple[Where, int]]:
        """Return where the numbers of a metric lie that is not the pools', by their labels."""
        return self.index(kind, keys).others.get(self._catalog.name(spec), [])

    def index(self, kind: str, keys: Sequence[bytes]) -> Index:
        """Return where ours lie among the keys that files of a kind have together."""
        index = self._indexes.get(kind)
        if index is None or index.keys != keys:
            index = self._indexes[kind] = self._make_index(keys)
        return index

    def _make_index(self, keys: Sequence[bytes]) -> Index:
        found: list[tuple[int, Place]] = []
        others: dict[str, list[tuple[Where, int]]] = defaultdict(list)
        for at, key in enumerate(keys):
            if place := self._place(key):
                found.append((at, place))
            elif key.startswith(self._start):
                family, _, labels, _ = parse_key(key)
                named = dict(labels)
                pool = named.pop("pool", "")
                others[family].append(((pool, "".join(named.values())), at))
        pools = by_pool({where: PoolStats() for _, (where, _) in found})
        sizes = tuple((pool, size) for pool, stats in pools.items() for size in stats.sizes)
        return Index(keys, sizes, SizePlaces.of(found, sizes), others)

    def _place(self, key: bytes) -> Place | None:
        if not key.startswith(self._start):
            return None  # one of very many
        family, _, labels, _ = parse_key(key)
        name = self._fields.get(family)
        if name is None:
            return None
        named = dict(labels)
        return (named.get("pool", ""), named.get("size", "")), name
