import pytest

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.metrics.collector import make_registry
from tests.support.counters import make_file

GO_COUNTERS = {
    "shockwave_buffer_pool_gets_total",
    "shockwave_buffer_pool_puts_total",
    "shockwave_buffer_pool_hits_total",
    "shockwave_buffer_pool_misses_total",
    "shockwave_buffer_pool_discards_total",
    "shockwave_buffer_pool_bytes_allocated_total",
    "shockwave_buffer_pool_bytes_reused_total",
}
GO_GAUGES = {
    "shockwave_buffer_pool_hit_rate",
    "shockwave_buffer_pool_global_hit_rate",
    "shockwave_buffer_pool_memory_allocated_bytes",
    "shockwave_buffer_pool_memory_reused_bytes",
    "shockwave_buffer_pool_reuse_efficiency",
}


def test_names_of_the_go_original_are_exact(tmp_path):
    names = Catalog("shockwave_buffer_pool")
    file = make_file(tmp_path, catalog=names, pools={"regular": ("4kb",)})
    with memoryview(file.buffer) as raw, raw.cast("d") as doubles:
        for offset in file.offsets("regular"):
            doubles[offset // 8] = 1.0
    samples = [s for m in make_registry(tmp_path, catalog=names).collect() for s in m.samples]
    file.close()
    sized = {s.name for s in samples if s.labels.get("size") == "4kb"}
    assert sized >= GO_COUNTERS | {"shockwave_buffer_pool_hit_rate"}
    assert {s.name for s in samples} >= GO_GAUGES
    assert all(s.name.startswith("shockwave_buffer_pool_") for s in samples)
    without_labels = {s.name for s in samples if not s.labels}
    assert GO_GAUGES - {"shockwave_buffer_pool_hit_rate"} <= without_labels


@pytest.mark.parametrize("bad", ["", "9lives", "buf-pool", "buf pool", "ünï"])
def test_a_namespace_that_prometheus_refuses_is_refused(bad):
    with pytest.raises(ValueError, match="metrics namespace"):
        Catalog(bad)
