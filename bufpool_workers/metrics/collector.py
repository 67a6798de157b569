"""The collector: one scrape of everything that the processes of a directory count."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.columns import Shapes
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.history import INTERVAL_SECONDS, Sample, read_history, record
from bufpool_workers.counters.node_file import NodeInfo, read_nodes
from bufpool_workers.counters.report import Report, refused_in
from bufpool_workers.counters.reporter import Reporter, Totals
from bufpool_workers.counters.series import Column, Snapshot
from bufpool_workers.counters.snapshot import read_directory, read_files
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.merging import to_metrics
from bufpool_workers.metrics.text import Format
from bufpool_workers.pool_stats import LEVELS, hit_rate

logger = logging.getLogger(__name__)

_MOST_FORMATS = 8  # a client asks for any version
_DERIVED = "gauge_sum"


@dataclass(frozen=True, slots=True)
class _Reading:
    began: int  # before or after which others asked
    snapshot: Snapshot
    columns: list[Column]
    nodes: tuple[NodeInfo, ...]
    totals: Totals
    texts: dict[str, bytes] = field(default_factory=dict)


class Collector(MultiProcessCollector):
    """prometheus_client's collector, but exact, whatever its processes die of.

    Compacts after it has read, if a process has died. Adds what is derived from our counters, and
    what living processes hold. Raises ValueError for a path that is no directory, as
    prometheus_client does. What can't be read of a file is left out, the file counted in
    `_skipped_files`, and named in the log once.

    Threads that ask at the same time share a reading, which began after each of them had asked.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None,
        path: str | None = None,
        *,
        catalog: Catalog | None = None,
        compact_foreign: bool = False,
    ) -> None:
        self._catalog = catalog or Catalog()
        self._compact_foreign = compact_foreign
        self._key = lru_cache(maxsize=1024)(self._catalog.key)
        self._keys = lru_cache(maxsize=16)(self._catalog.keys)
        self._named: set[str] = set()
        self._shapes = Shapes()
        self._reporter = Reporter(self._catalog)
        self._formats: dict[str, Format] = {}
        self._moments = count(1)
        self._lock = Lock()
        self._last: _Reading | None = None
        self._sample_at = 0.0
        self._is_history_lost = False
        super().__init__(registry, path)  # type: ignore[no-untyped-call]  # it ships no types

    @staticmethod
    def merge(files: Iterable[str | os.PathLike[str]], accumulate: bool = True) -> list[Metric]:  # noqa: FBT001, FBT002 - prometheus_client's signature
        """Merge the files given; `accumulate` makes histogram buckets cumulative."""
        snapshot = read_files([Path(file) for file in files])
        return to_metrics(snapshot.columns(), snapshot.newest_modes(), accumulate=accumulate)

    def collect(self) -> Iterator[Metric]:
        """Yield everything as it is at this moment."""
        yield from self._metrics(self._read())

    def text(self, encoder: Callable[..., bytes], content_type: str) -> bytes:
        """Write everything as it is at this moment, as the encoder of that type writes `collect`.

        It costs a fraction of that: counters become text without an object for each.
        """
        asked = next(self._moments)
        with self._lock:
            reading = self._read_since(asked)
            if content_type not in reading.texts:
                if len(self._formats) > _MOST_FORMATS:
                    self._formats.clear()
                written = self._formats.setdefault(content_type, Format(encoder))
                reading.texts[content_type] = self._write(reading, written)
            return reading.texts[content_type]

    def report(self) -> Report:
        """Describe the node as it is at this moment, by the same numbers as a scrape."""
        reading = self._read()
        report = self._reporter.report(reading.snapshot, reading.columns, nodes=reading.nodes)
        return replace(report, history=read_history(self._path, now=report.unix_seconds))

    def sample(self) -> None:
        """Keep the history of the directory, where nobody asks for anything either."""
        if time.time() < self._sample_at:
            return
        try:
            self._read()
        except MetricsError as error:
            logger.debug("bufpool: nothing sampled: %s", error)

    def _read(self) -> _Reading:
        asked = next(self._moments)
        with self._lock:
            return self._read_since(asked)

    def _read_since(self, asked: int) -> _Reading:
        if self._last is None or self._last.began < asked:
            began = next(self._moments)
            snapshot = self._snapshot()
            columns, nodes = snapshot.columns(), read_nodes(self._path)
            totals = self._reporter.totals(snapshot, columns)
            self._last = _Reading(began, snapshot, columns, nodes, totals)
            self._record(totals, columns)
        return self._last

    def _write(self, reading: _Reading, written: Format) -> bytes:
        return written.joined(
            written.merged.text(reading.columns, reading.snapshot.newest_modes()),
            written.derived.text([self._derive(reading)], {}),
            written.metrics(self._build_info(reading.nodes)),
        )

    def _metrics(self, reading: _Reading) -> list[Metric]:
        merged = to_metrics(reading.columns, reading.snapshot.newest_modes())
        derived = to_metrics([self._derive(reading)], {})
        return [*merged, *derived, *self._build_info(reading.nodes)]

    def _record(self, node: Totals, columns: Sequence[Column]) -> None:
        """Write a sample for the history, if it is time; where it can't be, there is no history."""
        now = time.time()
        if now < self._sample_at or not node.sizes:
            return
        self._sample_at = now + INTERVAL_SECONDS / 2
        total = node.total
        sample = Sample(now, total.gets, total.hits, total.held_bytes)
        refused = refused_in(self._reporter.unseal_failures(columns))
        try:
            record(
                self._path,
                sample,
                lambda name: refused if name == "refused" else getattr(total, name),
            )
        except (OSError, DamagedFileError) as error:
            self._name_history(str(error))

    def _name_history(self, reason: str) -> None:
        if not self._is_history_lost:
            logger.info("bufpool: the last hour's history is not kept: %s", reason)
        self._is_history_lost = True

    def _snapshot(self) -> Snapshot:
        """Read, then compact if need be; one that fails is logged and changes no number."""
        unmerged: dict[str, str] = {}
        snapshot = read_directory(self._path, shapes=self._shapes, foreign=self._compact_foreign)
        if snapshot.is_unmerged:
            try:
                unmerged = compact(self._path, foreign=self._compact_foreign).unmerged
            except OSError as error:
                unmerged = {"": f"files of dead processes can't be merged: {error.strerror}"}
        self._name_once({**unmerged, **snapshot.unreadable})
        return snapshot

    def _name_once(self, reasons: dict[str, str]) -> None:
        for name, reason in reasons.items():
            if name not in self._named:
                where = repr(os.path.join(self._path, name))[1:-1]  # noqa: PTH118 - names may hold anything
                logger.warning("bufpool: metrics: %s: %s", where, reason)
        self._named = set(reasons)

    def _derive(self, reading: _Reading) -> Column:
        """Return what follows from the numbers, as if a file had it."""
        node = reading.totals
        total, level = node.total, node.secure_level
        found: dict[bytes, float | None] = {}

        def add(spec: names.MetricSpec, value: float | None) -> None:
            found[self._key(spec)] = value

        rates = map(hit_rate, node.column("hits"), node.column("gets"))
        found.update(zip(self._keys(names.HIT_RATE, node.sizes), rates, strict=True))
        add(names.GLOBAL_HIT_RATE, total.hit_rate)
        add(names.MEMORY_ALLOCATED, total.bytes_allocated)
        add(names.MEMORY_REUSED, total.bytes_reused)
        add(names.REUSE_EFFICIENCY, total.reuse_efficiency)
        for spec in (*names.DERIVED, *names.POOL_GAUGES):
            keys = self._keys(spec, node.sizes)
            found.update(zip(keys, node.column(spec.field), strict=True))
        add(names.SECURE_LEVEL, None if level is None else LEVELS.index(level))
        add(names.LOCKED_BYTES, node.locked_bytes)
        add(names.WARMED, node.warmed_processes)
        add(names.PROCESSES, node.processes)
        add(names.SKIPPED_FILES, len(reading.snapshot.unreadable))
        known = {key: float(value) for key, value in found.items() if value is not None}
        return Column(_DERIVED, "", tuple(known), list(known.values()))

    def _build_info(self, nodes: Iterable[NodeInfo]) -> list[Metric]:
        spec, labels = names.BUILD_INFO, ("version", "python", "celery", "host")
        metric = GaugeMetricFamily(self._catalog.name(spec), spec.help, labels=labels)
        packages = ("bufpool_workers", "python", "celery")
        for build in sorted(
            {(*(n.software.get(name, "") for name in packages), n.host) for n in nodes}
        ):
            metric.add_metric(build, 1)
        return [metric] if metric.samples else []


def make_registry(
    directory: str | os.PathLike[str],
    *,
    catalog: Catalog | None = None,
    compact_foreign: bool = False,
) -> CollectorRegistry:
    """Make a registry with nothing but the directory's metrics; `name[]` filters work on it."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    Collector(registry, os.fspath(directory), catalog=catalog, compact_foreign=compact_foreign)
    return registry
