"""Which neighbour a module needs."""

from importlib.metadata import PackageNotFoundError, version

import pytest


def needs(distribution: str) -> pytest.MarkDecorator:
    """Skip a module's tests where that distribution is not installed.

    It is not imported here: some change what others do as soon as they are imported.
    """
    try:
        version(distribution)
    except PackageNotFoundError:
        is_missing = True
    else:
        is_missing = False
    return pytest.mark.skipif(
        is_missing, reason=f"{distribution} is not installed: make neighbours"
    )
