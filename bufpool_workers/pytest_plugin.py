"""Fixtures of pytest for tests of programs that use this package.

A test-suite loads it in its top `conftest.py`, with
`pytest_plugins = ["bufpool_workers.pytest_plugin"]`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bufpool_workers import testing


@pytest.fixture
def bufpool_keys() -> Iterator[str]:
    """Seal and open with keys that lie in memory only; it is the public key's text."""
    with testing.keys_in_memory() as public_key:
        yield public_key


@pytest.fixture
def no_leaked_buffers() -> Iterator[None]:
    """Fail a test that leaves buffers unreleased, or drops them without a release."""
    with testing.no_leaked_buffers():
        yield
