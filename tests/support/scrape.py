"""One scrape of a worker's metrics endpoint, as numbers by name and labels."""

import ssl
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.celery_worker import CeleryWorker

Samples = dict[tuple[object, ...], float]


def scrape(worker: CeleryWorker, *, tls: ssl.SSLContext | None = None) -> Samples:
    """Every sample; raises urllib.error.HTTPError when the endpoint has none to give."""
    url = f"{'https' if tls else 'http'}://127.0.0.1:{worker.wait_for_port()}/metrics"
    return read_samples(url, tls=tls)


def read_samples(
    url: str, *, timeout_seconds: float = 30, tls: ssl.SSLContext | None = None
) -> Samples:
    """Every sample of any endpoint."""
    with urllib.request.urlopen(url, timeout=timeout_seconds, context=tls) as response:  # noqa: S310 (loopback)
        families = list(text_string_to_metric_families(response.read().decode()))
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sample of that name with exactly these labels."""
    return samples[name, *sorted(labels.items())]


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of that name that have these labels, and any others."""
    return sum(
        number
        for (found, *pairs), number in samples.items()
        if found == name and labels.items() <= dict(pairs).items()
    )


def private_directory(worker: CeleryWorker) -> Path:
    """The metrics directory that a worker has made for itself; it keeps it open, and locked."""
    environ = Path(f"/proc/{worker.pid}/environ")
    assert b"PROMETHEUS_MULTIPROC_DIR" not in environ.read_bytes()
    for link in Path(f"/proc/{worker.pid}/fd").iterdir():
        target = link.readlink()
        if target.name.startswith("bufpool-metrics-"):
            return target
    raise AssertionError("no private directory")
