"""Memory pools: slabs, buffers and their counters. Knows nothing of Celery or Prometheus."""
