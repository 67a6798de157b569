"""Whatever is set or asked for is taken or refused in words, and changes nothing when refused."""

import math
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bufpool_workers import LimitExceeded, Settings, SettingsError
from bufpool_workers.memory import BufferPool

fuzzed = settings(suppress_health_check=list(HealthCheck))
KEYS = [f"bufpool_{field.name}" for field in fields(Settings)]
SIZES = st.one_of(
    st.integers(-5, 1 << 21),
    st.integers(),
    st.from_regex(r"[0-9]{1,6} ?(B|KiB|MiB|GiB|KB|kb|)", fullmatch=True),
    st.text(max_size=8),
)
PLAIN = st.one_of(
    SIZES, st.none(), st.booleans(), st.floats(), st.binary(max_size=8), st.sampled_from(KEYS)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.dictionaries(
            st.one_of(SIZES, st.sampled_from(["regular", "secure", "random"])), inner, max_size=3
        ),
    ),
    max_leaves=4,
)


@fuzzed
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text().map("bufpool_".__add__)), VALUES))
def test_any_settings_are_read_or_refused_by_name(conf):
    try:
        read = Settings.read(conf)
    except SettingsError as error:
        text = str(error)
        assert any(key in text or repr(key) in text for key in conf)
    else:
        assert read.size_classes
        assert all(math.isfinite(read.max_bytes[kind]) for kind in read.max_bytes)


@pytest.fixture(scope="module")
def pool():
    return BufferPool(
        "regular", size_classes=(2048, 4096), max_bytes=1 << 20, max_buffer_bytes=1 << 22
    )


@fuzzed
@given(VALUES)
def test_any_size_is_lent_exactly_or_refused_without_a_trace(pool, size):
    before = pool.stats()
    try:
        buffer = pool.acquire(size)
    except (TypeError, ValueError, LimitExceeded):
        assert pool.stats() == before
    else:
        with buffer:
            assert 0 <= len(buffer) <= pool.max_buffer_bytes
            assert not isinstance(size, int) or len(buffer) == size
        assert pool.stats().gets == pool.stats().puts == before.gets + 1
