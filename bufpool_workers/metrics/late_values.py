"""prometheus_client's metrics, where they were made before there was a metrics directory.

It decides at its import, by PROMETHEUS_MULTIPROC_DIR, whether the values of metrics are shared by
processes (https://prometheus.github.io/client_python/multiprocess/).
"""

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Summary, values
from prometheus_client.metrics import MetricWrapperBase


def share_values() -> None:
    """Make metrics count in the directory that the variable names now, those made before too.

    Those are the ones of the default registry; what they counted comes along.
    """
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # no types
    for metric in _metrics():
        if isinstance(metric, Counter | Gauge | Histogram | Summary):
            for each in (metric, *getattr(metric, "_metrics", {}).copy().values()):
                _move(each)


def names_of_metrics() -> tuple[str, ...]:
    """Return the names of the metrics in the default registry, but for other collectors' own."""
    return tuple(sorted(metric.name for made in _metrics() for metric in made.describe()))


def _metrics() -> list[MetricWrapperBase]:
    # not by `collect`, which runs the collectors of other libraries
    collectors = set(getattr(REGISTRY, "_names_to_collectors", {}).values())
    return [each for each in collectors if isinstance(each, MetricWrapperBase)]


def _move(metric: Any) -> None:
    """Make a metric's values again, as its first use did, and set what they were."""
    before = [value.get() for value in _values(metric)]
    if before:
        metric._metric_init()  # noqa: SLF001 - the client has no other way to move a value
        for value, number in zip(_values(metric), before, strict=True):
            if number:
                value.set(number, time.time() if isinstance(metric, Gauge) else None)


def _values(metric: Any) -> Iterator[Any]:
    """Yield the values of a metric; of one with labels, which is not observed itself, none."""
    attributes = vars(metric)
    yield from (attributes[name] for name in ("_value", "_count", "_sum") if name in attributes)
    yield from attributes.get("_buckets", ())
