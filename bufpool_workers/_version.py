"""The version of the package, which pyproject.toml says once."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bufpool-workers")
except PackageNotFoundError:  # a copy of the folder, without its metadata
    __version__ = "unknown"
