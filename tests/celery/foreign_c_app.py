"""plugin_app in a process whose C library has no glibc's names."""

import ctypes
from types import SimpleNamespace

from plugin_app import app

__all__ = ["app"]

ctypes.CDLL = lambda *_: SimpleNamespace()
