"""`python -m tasks.demo`: a real worker at work on real files, every result checked."""


class DemoError(Exception):
    """The demo can't go on."""
