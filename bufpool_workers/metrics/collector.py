"""The collector: one scrape of everything that the processes of a directory count."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from operator import attrgetter
from pathlib import Path
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.format import DamagedFileError, parse_key
from bufpool_workers.counters.history import INTERVAL_SECONDS, Sample, read_history, record
from bufpool_workers.counters.node_file import read_nodes
from bufpool_workers.counters.report import Report, make_report
from bufpool_workers.counters.snapshot import Snapshot, read_directory, read_files
from bufpool_workers.errors import MetricsError
from bufpool_workers.pool_stats import LEVELS, PoolStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reading:
    began: int  # before or after which others asked
    metrics: list[Metric]
    report: Report


class Collector(MultiProcessCollector):
    """prometheus_client's collector, but exact, whatever its processes die of.

    Compacts before it reads. Adds what is derived from our counters, and what living processes
    hold. Raises ValueError for a path that is no directory, as prometheus_client does. A file
    that can't be read is left out, counted in `_skipped_files`, and named in the log once.

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
        self._named: set[str] = set()
        self._moments = count(1)
        self._lock = Lock()
        self._last: _Reading | None = None
        self._sample_at = 0.0
        self._is_history_lost = False
        super().__init__(registry, path)  # type: ignore[no-untyped-call]  # it ships no types

    @staticmethod
    def merge(files: Iterable[str | os.PathLike[str]], accumulate: bool = True) -> list[Metric]:  # noqa: FBT001, FBT002 - prometheus_client's signature
        """Merge the files given; `accumulate` makes histogram buckets cumulative."""
        return _to_metrics(read_files([Path(file) for file in files]), accumulate=accumulate)

    def collect(self) -> Iterator[Metric]:
        """Yield everything as it is at this moment."""
        yield from self._read().metrics

    def report(self) -> Report:
        """Describe the node as it is at this moment, by the same numbers as a scrape."""
        report = self._read().report
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
            if self._last is None or self._last.began < asked:
                began = next(self._moments)
                snapshot = self._snapshot()
                nodes = read_nodes(self._path)
                report = make_report(snapshot, catalog=self._catalog, nodes=nodes)
                metrics = [*_to_metrics(snapshot, accumulate=True), *self._derive(report)]
                self._last = _Reading(began, metrics, report)
                self._record(report)
            return self._last

    def _record(self, report: Report) -> None:
        """Write a sample for the history, if it is time; where it can't be, there is no history."""
        if report.unix_seconds < self._sample_at or not report.pools:
            return
        self._sample_at = report.unix_seconds + INTERVAL_SECONDS / 2
        total = report.total
        sample = Sample(report.unix_seconds, total.gets, total.hits, total.held_bytes)
        try:
            record(self._path, sample, lambda name: getattr(total, name))
        except (OSError, DamagedFileError) as error:
            self._name_history(str(error))

    def _name_history(self, reason: str) -> None:
        if not self._is_history_lost:
            logger.info("bufpool: the last hour's history is not kept: %s", reason)
        self._is_history_lost = True

    def _snapshot(self) -> Snapshot:
        """Compact, then read; a compaction that fails is logged and changes no number."""
        directory = Path(self._path)
        unmerged: dict[str, str] = {}
        try:
            unmerged = compact(directory, foreign=self._compact_foreign).unmerged
        except OSError as error:
            unmerged = {"": f"files of dead processes can't be merged: {error.strerror}"}
        snapshot = read_directory(directory)
        self._name_once({**unmerged, **snapshot.unreadable})
        return snapshot

    def _name_once(self, reasons: dict[str, str]) -> None:
        for name, reason in reasons.items():
            if name not in self._named:
                where = repr(os.path.join(self._path, name))[1:-1]  # noqa: PTH118 - names may hold anything
                logger.warning("bufpool: metrics: %s: %s", where, reason)
        self._named = set(reasons)

    def _derive(self, report: Report) -> Iterator[Metric]:
        total, processes = report.total, report.processes
        level = report.secure_level
        yield self._by_size(names.HIT_RATE, report, attrgetter("hit_rate"))
        yield self._gauge(names.GLOBAL_HIT_RATE, total.hit_rate)
        yield self._gauge(names.MEMORY_ALLOCATED, total.bytes_allocated)
        yield self._gauge(names.MEMORY_REUSED, total.bytes_reused)
        yield self._gauge(names.REUSE_EFFICIENCY, total.reuse_efficiency)
        for spec in (*names.DERIVED, *names.POOL_GAUGES):
            yield self._by_size(spec, report, attrgetter(spec.field))
        yield self._gauge(names.SECURE_LEVEL, None if level is None else LEVELS.index(level))
        yield self._gauge(names.LOCKED_BYTES, report.locked_bytes)
        yield self._gauge(names.WARMED, report.warmed_processes)
        yield self._gauge(names.PROCESSES, len(processes))
        yield self._gauge(names.SKIPPED_FILES, len(report.skipped))
        yield self._build_info(report)

    def _gauge(self, spec: names.MetricSpec, value: float | None) -> Metric:
        return GaugeMetricFamily(self._catalog.name(spec), spec.help, value=value)

    def _build_info(self, report: Report) -> Metric:
        spec, labels = names.BUILD_INFO, ("version", "python", "celery", "host")
        metric = GaugeMetricFamily(self._catalog.name(spec), spec.help, labels=labels)
        packages = ("bufpool_workers", "python", "celery")
        for build in sorted(
            {(*(n.software.get(name, "") for name in packages), n.host) for n in report.nodes}
        ):
            metric.add_metric(build, 1)
        return metric

    def _by_size(
        self, spec: names.MetricSpec, report: Report, number: Callable[[PoolStats], float | None]
    ) -> Metric:
        metric = GaugeMetricFamily(self._catalog.name(spec), spec.help, labels=("pool", "size"))
        for pool, stats in report.pools.items():
            for size, numbers in stats.sizes.items():
                value = number(numbers)
                if value is not None:
                    metric.add_metric((pool, size), value)
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


def _to_metrics(snapshot: Snapshot, *, accumulate: bool) -> list[Metric]:
    metrics: dict[str, Metric] = {}
    for kind, process, raw, number in snapshot.merged():
        family, sample, labels, text = parse_key(raw)
        type_, _, mode = kind.partition("_")
        metric = metrics.get(family)
        if metric is None:
            metric = metrics[family] = Metric("_", text, type_)
            metric.name = family  # checked by its writer, whose rules may not be this process's
        if metric.type == "histogram" != type_:
            continue  # another program's metric of the same name, whose `le` may be any text
        if type_ == "gauge":
            metric._multiprocess_mode = mode  # type: ignore[attr-defined]  # noqa: SLF001 - its collector's own mark
            pid = ("pid", process)
            metric.add_sample(sample, (*labels, pid), *number)  # type: ignore[arg-type]
        else:
            metric.add_sample(sample, labels, number.value)  # type: ignore[arg-type]
    accumulated = MultiProcessCollector._accumulate_metrics(metrics, accumulate)  # type: ignore[no-untyped-call]  # noqa: SLF001 - its semantics, whatever they become
    return list(accumulated)
