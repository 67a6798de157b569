"""The version of the package, which pyproject.toml says once."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("bufpool-workers")
    except PackageNotFoundError:  # a copy of the folder, without its metadata
        return "unknown"


__version__ = _installed()
"""The version that is installed (PEP 440); "unknown" for a copy of the folder alone."""
