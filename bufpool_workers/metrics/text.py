"""A scrape's text without an object for each sample: the very bytes that prometheus_client writes.

It has written each line once itself; what follows only puts the values of the moment behind what
stood before them. Whatever is not as expected goes through prometheus_client whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from bufpool_workers.counters.format import Key, parse_key

_MOST_TEXTS = 4096


class UnusualMetricsError(Exception):
    """The text of these metrics can't be put together here."""


class _Given:
    """A registry of what is given."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class Format:
    """One of the formats of a scrape, by prometheus_client's own encoder."""

    def __init__(self, encoder: Callable[..., bytes]) -> None:
        self._encoder = encoder
        self._end = self.whole([]).decode()  # OpenMetrics has one
        self.counters = Lines(self.metrics, "counter")
        self.gauges = Lines(self.metrics, "gauge")

    def whole(self, metrics: Iterable[Metric]) -> bytes:
        """Write metrics, by prometheus_client."""
        return self._encoder(_Given(metrics))

    def metrics(self, metrics: Iterable[Metric]) -> str:
        """Write metrics, by prometheus_client, without the format's end."""
        return self.whole(metrics).decode().removesuffix(self._end)

    def joined(self, *texts: str) -> bytes:
        """Make one text of several, with the format's end."""
        return "".join((*texts, self._end)).encode()


class Lines:
    """The lines of metrics of one type, counters or gauges, as of the last keys."""

    def __init__(self, write: Callable[[Iterable[Metric]], str], kind: str) -> None:
        self._write = write
        self._kind = kind
        self._suffix = "_total" if kind == "counter" else ""
        self._keys: Sequence[bytes] = ()
        self._unusual: str | None = None  # with these keys
        self._known: dict[bytes, tuple[str, str]] = {}  # family, and what stands before the value
        self._order: list[int] = []
        self._before: list[str] = []
        self.families: frozenset[str] = frozenset()

    def text(self, keys: Sequence[bytes], values: Sequence[float]) -> str:
        """Write the values; raises UnusualMetricsError where that is for prometheus_client."""
        if keys != self._keys:
            self._keys, self._unusual = keys, None
            try:
                self._learn(keys)
            except UnusualMetricsError as error:
                self._unusual = str(error)
                self._known = {}
        if self._unusual:
            raise UnusualMetricsError(self._unusual)
        if not keys:
            return ""
        texts = map(_text, map(values.__getitem__, self._order))
        return "".join(chain.from_iterable(zip(self._before, texts, strict=True))) + "\n"

    def _learn(self, keys: Sequence[bytes]) -> None:
        self._learn_lines([key for key in keys if key not in self._known])
        self._known = {key: self._known[key] for key in keys}
        if len({line for _, line in self._known.values()}) != len(keys):
            raise UnusualMetricsError("a metric has two help texts")
        families: dict[str, list[int]] = defaultdict(list)
        for number, (family, _) in enumerate(self._known.values()):
            families[family].append(number)
        self._order = list(chain.from_iterable(families.values()))
        self._before = []
        for family, numbers in families.items():
            head = self._write([self._metric(family, parse_key(keys[numbers[0]]).help)])
            for number in numbers:
                self._before.append(f"\n{head}{self._known[keys[number]][1]}")
                head = ""
        if self._before:
            self._before[0] = self._before[0].removeprefix("\n")
        self.families = frozenset(families)

    def _learn_lines(self, keys: Sequence[bytes]) -> None:
        families: dict[str, list[tuple[bytes, Key]]] = defaultdict(list)
        for key in keys:
            parsed = parse_key(key)
            if parsed.sample != parsed.family + self._suffix:
                raise UnusualMetricsError(f"{parsed.sample} is no {self._kind}'s sample")
            families[parsed.family].append((key, parsed))
        for family, members in families.items():
            metric = self._metric(family, "")
            for _, parsed in members:
                metric.add_sample(parsed.sample, dict(parsed.labels), 0.0)
            written = self._write([metric]).split("\n")
            lines = [line for line in written if line and not line.startswith("#")]
            if len(lines) != len(members):
                raise UnusualMetricsError(f"{family} has other lines")
            for (key, _), line in zip(members, lines, strict=True):
                self._known[key] = family, line.removesuffix("0.0")

    def _metric(self, family: str, text: str) -> Metric:
        metric = Metric("_", text, self._kind)
        metric.name = family  # checked by its writer, whose rules may not be this process's
        return metric


_texts: dict[float, str] = {0.0: "0.0"}  # a negative zero's too, as by prometheus_client's sums


def _text(value: float) -> str:
    text = _texts.get(value)
    if text is None:
        text = floatToGoString(value)  # type: ignore[no-untyped-call]  # it ships no types
        if len(_texts) < _MOST_TEXTS:
            _texts[value] = text
    return text
