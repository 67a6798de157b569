"""prometheus_client's metrics of columns of numbers, merged as its own collector merges them."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from bufpool_workers.counters.format import SUMMED, parse_key
from bufpool_workers.counters.series import Column


def to_metrics(
    columns: Iterable[Column], modes: Mapping[str, str], *, accumulate: bool = True
) -> list[Metric]:
    """Make metrics; `modes` are those of gauges whose files have several (`newest_modes`)."""
    metrics: dict[str, Metric] = {}
    for kind, process, raw, value, moment in _samples(columns):
        family, sample, labels, text = parse_key(raw)
        type_, _, mode = kind.partition("_")
        metric = metrics.get(family)
        if metric is None:
            metric = metrics[family] = empty_metric(family, text, type_)
        if metric.type == "histogram" != type_:
            continue  # another program's metric of the same name, whose `le` may be any text
        if type_ == "gauge":
            if modes.get(family, kind) != kind:
                continue  # of a deployment before
            metric._multiprocess_mode = mode  # type: ignore[attr-defined]  # noqa: SLF001 - its collector's own mark
            pid = ("pid", process)
            metric.add_sample(sample, (*labels, pid), value, moment)  # type: ignore[arg-type]
        else:
            metric.add_sample(sample, labels, value)  # type: ignore[arg-type]
    accumulated = MultiProcessCollector._accumulate_metrics(metrics, accumulate)  # type: ignore[no-untyped-call]  # noqa: SLF001 - its semantics, whatever they become
    return list(accumulated)


def empty_metric(family: str, text: str, type_: str) -> Metric:
    """Make a metric without samples."""
    metric = Metric("_", text, type_)
    metric.name = family  # checked by its writer, whose rules may not be this process's
    return metric


def _samples(columns: Iterable[Column]) -> Iterator[tuple[str, str, bytes, float, float]]:
    for kind, process, keys, values in columns:
        for key, value in zip(keys, values, strict=True):
            yield (kind, process, key, *(value if kind not in SUMMED else (value, 0.0)))
