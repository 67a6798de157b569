"""Helpers for the tests of programs that use this package."""

from bufpool_workers.runtime import PlainHost, current_runtime
from bufpool_workers.settings import Settings

__all__ = ["configure", "reset"]


def reset() -> None:
    """Forget the apps that `setup` was called with, their settings, pools, keys and directory.

    A process has one configuration, and a second one in it is an error: a test-suite that makes
    many apps with different settings calls this between them. Secure and random buffers that are
    out are taken back, and counters begin at zero.
    """
    current_runtime().reset()


def configure(settings: Settings) -> None:
    """Reset, and give this process settings without an app."""
    reset()
    current_runtime().add_host(PlainHost("bufpool_workers.testing", settings))
