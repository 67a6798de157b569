from collections.abc import Callable

def may_hold_calls(value: object, is_plain: Callable[[object], bool]) -> bool:
    """Return False if there is no mapping with `args` or `kwargs` in a value, and nothing unknown.

    `is_plain` is asked of the first object of each type that is none of Python's own: whether
    objects of this type hold nothing.
    """
