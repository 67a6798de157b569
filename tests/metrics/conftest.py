"""The metrics are read from the same files that the tests of the counters make."""

from tests.counters.conftest import client, workers

__all__ = ["client", "workers"]
