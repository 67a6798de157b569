"""A pytest plugin that ends the children that a failed test leaves: Python would wait for them."""

from multiprocessing import active_children


def pytest_unconfigure():
    """End them."""
    for child in active_children():
        child.kill()
