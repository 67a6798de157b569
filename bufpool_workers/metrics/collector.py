"""The collector: one scrape of everything that the processes of a directory count."""

import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from bufpool_workers.metrics import catalog as names
from bufpool_workers.metrics.catalog import Catalog
from bufpool_workers.metrics.compaction import compact
from bufpool_workers.metrics.entries import parse_key
from bufpool_workers.metrics.snapshot import LiveProcess, Snapshot, read_directory, read_files

logger = logging.getLogger(__name__)

Totals = dict[tuple[str, str], float]
"""A number for each pool and size."""


class Collector(MultiProcessCollector):
    """prometheus_client's collector, but exact, whatever its processes die of.

    Compacts before it reads. Adds what is derived from our counters, and what living processes
    hold. Raises ValueError for a path that is no directory, as prometheus_client does. A file
    that can't be read is left out, counted in `_skipped_files`, and named in the log once.
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
        self._named: set[str] = set()
        super().__init__(registry, path)  # type: ignore[no-untyped-call]  # it ships no types

    @staticmethod
    def merge(files: Iterable[str | os.PathLike[str]], accumulate: bool = True) -> list[Metric]:  # noqa: FBT001, FBT002 - prometheus_client's signature
        """Merge the files given; `accumulate` makes histogram buckets cumulative."""
        return _to_metrics(read_files([Path(file) for file in files]), accumulate=accumulate)

    def collect(self) -> Iterator[Metric]:
        """Give everything as it is at this moment."""
        snapshot = self.snapshot()
        metrics = _to_metrics(snapshot, accumulate=True)
        yield from metrics
        yield from self._derive({metric.name: metric for metric in metrics})
        yield from self._describe_living(snapshot.live)
        yield self._gauge(names.SKIPPED_FILES, float(len(snapshot.skipped)))

    def snapshot(self) -> Snapshot:
        """Compact, then read; a compaction that fails is logged and changes no number."""
        directory = Path(self._path)
        skipped: dict[str, str] = {}
        try:
            skipped = compact(directory, foreign=self._compact_foreign).skipped
        except OSError as error:
            skipped = {"": f"files of dead processes can't be merged: {error.strerror}"}
        snapshot = read_directory(directory)
        self._name_once({**skipped, **snapshot.skipped})
        return snapshot

    def _name_once(self, skipped: dict[str, str]) -> None:
        for name, reason in skipped.items():
            if name not in self._named:
                where = Path(self._path) / name
                logger.warning("bufpool: metrics: %s: %s", where, reason)
        self._named = set(skipped)

    def _derive(self, metrics: dict[str, Metric]) -> Iterator[Metric]:
        totals = {
            spec.field: _by_size(metrics.get(self._catalog.name(spec))) for spec in names.COUNTERS
        }
        gets, hits = totals["gets"], totals["hits"]
        yield self._gauge_by_size(
            names.HIT_RATE,
            {size: 100 * hits[size] / number for size, number in gets.items() if number},
        )
        allocated = sum(totals["bytes_allocated"].values())
        reused = sum(totals["bytes_reused"].values())
        all_gets = sum(gets.values())
        yield self._gauge(
            names.GLOBAL_HIT_RATE, 100 * sum(hits.values()) / all_gets if all_gets else None
        )
        yield self._gauge(names.MEMORY_ALLOCATED, allocated)
        yield self._gauge(names.MEMORY_REUSED, reused)
        yield self._gauge(
            names.REUSE_EFFICIENCY,
            100 * reused / (allocated + reused) if allocated + reused else None,
        )

    def _describe_living(self, live: Sequence[LiveProcess]) -> Iterator[Metric]:
        secure, warmed, locked = map(self._catalog.process_gauge_key, names.PROCESS_GAUGES)
        sums: dict[tuple[str, str, str], float] = defaultdict(float)
        for process in live:
            for key, value in (*process.counters.items(), *process.gauges.items()):
                family, _, labels, _ = parse_key(key)
                by = dict(labels)
                sums[family, by.get("pool", ""), by.get("size", "")] += value

        def by_size(spec: names.Spec) -> Totals:
            family = self._catalog.name(spec)
            return {(pool, size): n for (name, pool, size), n in sums.items() if name == family}

        gets, puts = (by_size(spec) for spec in names.COUNTERS[:2])
        yield self._gauge_by_size(
            names.IN_USE, {size: number - puts[size] for size, number in gets.items()}
        )
        for spec in names.POOL_GAUGES:
            yield self._gauge_by_size(spec, by_size(spec))
        levels = (process.gauges.get(secure, math.nan) for process in live)
        known = (level for level in levels if not math.isnan(level))
        yield self._gauge(names.SECURE_LEVEL, min(known, default=None))
        held = sum(process.gauges.get(locked, 0.0) for process in live)
        yield self._gauge(names.LOCKED_BYTES, held)
        warm = {process.owner for process in live if process.gauges.get(warmed)}
        yield self._gauge(names.WARMED, float(len(warm)))
        yield self._gauge(names.PROCESSES, float(len({process.owner for process in live})))

    def _gauge(self, spec: names.Spec, value: float | None) -> Metric:
        return GaugeMetricFamily(self._catalog.name(spec), spec.help, value=value)

    def _gauge_by_size(self, spec: names.Spec, values: Totals) -> Metric:
        metric = GaugeMetricFamily(self._catalog.name(spec), spec.help, labels=("pool", "size"))
        for labels, value in values.items():
            metric.add_metric(labels, value)
        return metric


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


def _by_size(metric: Metric | None) -> Totals:
    samples = metric.samples if metric else []
    return {(s.labels.get("pool", ""), s.labels.get("size", "")): s.value for s in samples}


def _to_metrics(snapshot: Snapshot, *, accumulate: bool) -> list[Metric]:
    metrics: dict[str, Metric] = {}
    for kind, process, raw, number in snapshot.merged():
        family, sample, labels, text = parse_key(raw)
        type_, _, mode = kind.partition("_")
        metric = metrics.get(family)
        if metric is None:
            metric = metrics[family] = Metric(family, text, type_)
        if type_ == "gauge":
            metric._multiprocess_mode = mode  # type: ignore[attr-defined]  # noqa: SLF001 - its collector's own mark
            pid = ("pid", process)
            metric.add_sample(sample, (*labels, pid), *number)  # type: ignore[arg-type]
        else:
            metric.add_sample(sample, labels, number.value)  # type: ignore[arg-type]
    accumulated = MultiProcessCollector._accumulate_metrics(metrics, accumulate)  # type: ignore[no-untyped-call]  # noqa: SLF001 - its semantics, whatever they become
    return list(accumulated)
