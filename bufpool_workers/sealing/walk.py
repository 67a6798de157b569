"""A walk over what a message carries: any container, at any depth."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import count, cycle, islice, repeat
from typing import Any, Final

from bufpool_workers.errors import NotSealed
from bufpool_workers.sealing._scan import may_hold_calls

MOST_ITEMS: Final = 1_000_000
"""The most items that an iterator in a message may have."""

_LEAF_TYPES: Final = frozenset({str, bytes, bytearray, int, float, bool, complex, type(None)})
# Their items are no containers, or they have no end.
_LEAVES: Final = (str, bytes, bytearray, memoryview, range, count, cycle, repeat)


class Walk:
    """Looks at each mapping in a message, in containers of any kind and depth.

    A subclass says in `look_at_mapping` what it looks for: mappings with `args` or `kwargs`. What
    holds none of these, nor anything else to look into, is told by compiled code and left alone.
    A `context` is what it knows of the place where a value stands; the items of a sequence have
    that of the sequence. Iterators become lists, since they can be read only once: containers that
    can be changed are changed in place, and `look` returns what takes the value's own place. Other
    objects are left alone.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        # What a container became, by the ids of it and its context, which are kept so that no
        # other object gets these ids. It also ends a walk in circles.
        self._became: dict[tuple[int, int], tuple[Any, Any]] = {}

    def look(self, value: Any, context: Any = None) -> Any:
        """Look at a value and at all that it holds; return what takes its place.

        Raises NotSealed for what can't be looked into: nesting as deep as Python's recursion
        limit, and an iterator of more than `MOST_ITEMS` items.
        """
        if type(value) in _LEAF_TYPES or isinstance(value, _LEAVES):
            return value
        key, kept = (id(value), id(context)), (value, context)
        if key not in self._became:
            if not may_hold_calls(value, self._is_plain):
                return value
            self._became[key] = value, kept
            try:
                self._became[key] = self._look_into(value, context), kept
            except RecursionError:
                raise NotSealed(
                    f"{self._where}: its arguments are nested too deep to look for sealed ones"
                ) from None
        return self._became[key][0]

    def look_at_mapping(self, mapping: Mapping[Any, Any], context: Any) -> Any:  # noqa: ARG002 - for subclasses
        """Look at the values of a mapping, each as it stands; return what takes its place."""
        return self.look_at_values(mapping, {})

    def look_at_values(
        self, mapping: Mapping[Any, Any], contexts: Mapping[Any, Any]
    ) -> Mapping[Any, Any]:
        """Look at the values of a mapping, those of some keys in a context."""
        looked = {key: self.look(value, contexts.get(key)) for key, value in mapping.items()}
        changed = {key: value for key, value in looked.items() if value is not mapping[key]}
        if not changed:
            return mapping
        if isinstance(mapping, MutableMapping):
            mapping.update(changed)
            return mapping
        return looked

    def held_by(self, value: Any) -> Mapping[Any, Any] | None:  # noqa: ARG002 - for subclasses
        """Return what an object of a host holds, such as a message; None to leave it alone."""
        return None

    def item_contexts(self, context: Any) -> Iterator[Any]:
        """Yield the context of each item of a sequence."""
        return repeat(context)

    def _is_plain(self, value: Any) -> bool:
        """Return whether nothing is looked into of a value, as of all others of its type."""
        looked_into = (Mapping, Iterator, Sequence, deque, AbstractSet)
        return isinstance(value, _LEAVES) or not (
            isinstance(value, looked_into) or self.held_by(value) is not None
        )

    def _look_into(self, value: Any, context: Any) -> Any:
        if isinstance(value, Mapping):
            return self.look_at_mapping(value, context)
        if isinstance(value, Iterator):
            value = self._listed(value)
        if isinstance(value, Sequence | deque):
            return self._look_at_items(value, self.item_contexts(context))
        if isinstance(value, AbstractSet):
            for item in value:
                self.look(item, context)
        elif (held := self.held_by(value)) is not None:
            self.look(held, context)
        return value

    def _look_at_items(self, items: Any, contexts: Iterator[Any]) -> Any:
        looked = [self.look(item, context) for item, context in zip(items, contexts, strict=False)]
        changed = [at for at, item in enumerate(items) if looked[at] is not item]
        if changed and isinstance(items, tuple):
            return items._make(looked) if hasattr(items, "_make") else tuple(looked)
        for at in changed:
            items[at] = looked[at]
        return items

    def _listed(self, iterator: Iterator[Any]) -> list[Any]:
        items = list(islice(iterator, MOST_ITEMS + 1))
        if len(items) > MOST_ITEMS:
            raise NotSealed(
                f"{self._where}: sealed arguments can't be looked for in an iterator of more than "
                f"{MOST_ITEMS} items; give a list"
            )
        return items
