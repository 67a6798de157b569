"""Metrics that are made, and count, before `setup`."""

from prometheus_client import Counter, Gauge, Histogram, Summary

EARLY = Counter("early", "made before setup")
LABELLED = Gauge("early_labelled", "made before setup", ["kind"], multiprocess_mode="sum")
HISTOGRAM = Histogram("early_histogram", "made before setup", buckets=(1, 100))
SUMMARY = Summary("early_summary", "made before setup")
CHILD = LABELLED.labels("a")

EARLY.inc(1)
CHILD.set(2)
HISTOGRAM.observe(0.5)
SUMMARY.observe(3)
