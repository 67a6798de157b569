"""The version of the package, which pyproject.toml says once."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bufpool-workers")
    """The version that is installed (PEP 440), "unknown" for a copy of the folder alone."""
except PackageNotFoundError:  # a copy of the folder, without its metadata
    __version__ = "unknown"
