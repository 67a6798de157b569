"""prometheus_client's own metrics, where it was imported before there was a metrics directory.

It decides at its import, by PROMETHEUS_MULTIPROC_DIR, whether the values of metrics are shared by
processes (https://prometheus.github.io/client_python/multiprocess/).
"""

from prometheus_client import REGISTRY, values
from prometheus_client.metrics import MetricWrapperBase


def share_later_values() -> None:
    """Make metrics count in the directory that the variable names, if they are made from now on."""
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # no types


def names_of_metrics() -> tuple[str, ...]:
    """Return the names of the metrics in the default registry, but for other collectors' own."""
    # not by `collect`, which runs the collectors of other libraries
    collectors = set(getattr(REGISTRY, "_names_to_collectors", {}).values())
    made = (each.describe() for each in collectors if isinstance(each, MetricWrapperBase))
    return tuple(sorted(metric.name for metrics in made for metric in metrics))
