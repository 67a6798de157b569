"""Files that a metrics directory should not hold, and a scrape that has to bear them."""

import contextlib
import json
import logging
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

from prometheus_client.parser import text_string_to_metric_families

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.format import HEADER, Number, pack_entry
from bufpool_workers.metrics.apps import WSGIApp, wsgi_app
from tests.support.counters import make_file

POOLS = {"regular": ("2kb",)}
KEY = b'["%s", "%s", {"path": "/"}, "Help"]'
# of a process that is none of this boot's, so that nobody is taken for it
OWN = "counter_bufpool-00000000-1-1-00000000.db"
MERGED = "counter_bufpool-merged.db"
GETS = 7.0
NAMES = (
    OWN,
    MERGED,
    "counter_7.db",
    "histogram_7.db",
    "summary_7.db",
    "gauge_all_7.db",
    "gauge_mostrecent_7.db",
    "histogram_bufpool-merged.db",
)


class Directory:
    """A metrics directory with one good file, whose numbers every scrape has to show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.good = make_file(path, catalog=Catalog(), pools=POOLS)
        with memoryview(self.good.buffer) as view, view.cast("d") as doubles:
            doubles[self.good.offsets("regular")[0] // 8] = GETS
        self._reading = wsgi_app(path)
        self._merging = wsgi_app(path, compact_foreign=True)

    def scrape(self) -> dict[str, float]:
        """Ask for every page, twice, the second time of an endpoint that merges what is foreign.

        Gives the samples of our own metrics. Raises AssertionError when the good file's number
        isn't there, and whatever a page failed with.
        """
        self._samples(self._reading)
        return self._samples(self._merging)

    def _samples(self, app: WSGIApp) -> dict[str, float]:
        json.loads(_get(app, "/status.json"), parse_constant=_refuse)
        _get(app, "/")
        text = _get(app, "/metrics")
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("bufpool_")
        }
        assert samples["bufpool_gets_total"] == GETS, text
        return samples

    def clear(self) -> None:
        """Remove all but the good file."""
        for path in self.path.iterdir():
            if path != self.good.path:
                path.unlink()

    def add(self, name: str, content: bytes) -> None:
        """Put a file beside the good one."""
        (self.path / name).write_bytes(content)


def _get(app: WSGIApp, path: str) -> str:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    seen: list[str] = []
    body = app(environ | {"PATH_INFO": path}, lambda status, _headers: seen.append(status))
    text = b"".join(body).decode()
    assert seen == ["200 OK"], text
    return text


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@contextlib.contextmanager
def directory(parent: Path | None = None) -> Iterator[Directory]:
    """Make one in `parent`, else on tmpfs, where there is one; remove it with all that is in it."""
    shm = Path("/dev/shm")  # noqa: S108 - a private directory in it
    if parent is None and shm.is_dir():
        parent = shm
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=parent))
    made = Directory(path)
    try:
        yield made
    finally:
        made.good.close()
        shutil.rmtree(path)


def images() -> dict[str, bytes]:
    """The content that a sound file of each name has; of metrics that no good file has."""
    with directory() as made:
        other = make_file(made.path, catalog=Catalog("other"), pools=POOLS)
        own = other.path.read_bytes()
        other.close()
        made.good.path.rename(made.path / "hidden")
        compact(made.path)
        merged = (made.path / MERGED).read_bytes()
        (made.path / "hidden").rename(made.good.path)
    counter = _file(KEY % (b"jobs", b"jobs_total"))
    histogram = _file(
        b'["wait", "wait_bucket", {"le": "1.0"}, "Help"]',
        b'["wait", "wait_bucket", {"le": "+Inf"}, "Help"]',
        KEY % (b"wait", b"wait_sum"),
    )
    summary = _file(KEY % (b"size", b"size_count"), KEY % (b"size", b"size_sum"))
    gauge = _file(KEY % (b"depth", b"depth"))
    return dict(
        zip(NAMES, (own, merged, counter, histogram, summary, gauge, gauge, merged), strict=True)
    )


def _file(*keys: bytes) -> bytes:
    entries = b"".join(pack_entry(key, Number(1.0)) for key in keys)
    return HEADER.pack(HEADER.size + len(entries)) + entries + bytes(64)


def with_value(image: bytes, value: float) -> bytes:
    """The image with `value` in place of that of its first entry."""
    (length,) = struct.unpack_from("=i", image, HEADER.size)
    at = HEADER.size + 4 + length + 8 - (length + 4) % 8
    return image[:at] + struct.pack("=d", value) + image[at + 8 :]


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Keep the log of a million damaged files to ourselves."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
