"""What a reader has to know of the machine, and of the moment, to judge the figures."""

import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyperf

import bufpool_workers as bp

# pyperf knows more of a machine than a reader wants to see, its name among it
_SHOWN = (
    "python_version",
    "python_compiler",
    "cpu_model_name",
    "cpu_count",
    "cpu_affinity",
    "cpu_config",
    "cpu_freq",
    "load_avg_1min",
    "timer",
)
_PACKAGES = ("bufpool-workers", "celery", "cryptography", "numpy", "prometheus-client", "pyperf")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def machine() -> dict[str, Any]:
    """Python, kernel, C library, processor, load and limits, as pyperf and the system tell."""
    known = pyperf.Run([1.0], metadata={"name": "machine"}).get_metadata()
    return {
        **{key: known[key] for key in _SHOWN if key in known},
        "kernel": platform.release(),
        "c_library": " ".join(platform.libc_ver()),
        "huge_pages": _HUGE_PAGES.read_text().strip() if _HUGE_PAGES.exists() else "unknown",
        "locked_memory_limit": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        "secure_level": bp.memory.reachable_level(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def busy() -> str | None:
    """A warning when other processes are at work here, None on a quiet machine."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.5 * processors:
        return None
    return f"the load is {load:.1f} on {processors} processors: ratios hold, spreads are wide"
