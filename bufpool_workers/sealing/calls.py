"""The check of a message whose calls are mappings, as those of most job systems are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bufpool_workers.sealing.parameters import SealedParameter, check_value
from bufpool_workers.sealing.walk import Walk

Fields = Callable[[Any], Mapping[str, Any] | None]
"""Returns the fields of a job system's own object for a message; None for any other value."""


def check_call(
    call: Mapping[str, Any],
    *,
    key: str,
    parameters: Callable[[str], Sequence[SealedParameter]],
    fields: Fields = lambda _: None,
) -> Mapping[str, Any]:
    """Check a call, and those that it carries; return it with lists for the iterators in it.

    `key` is the key of a call's name, `parameters` returns the sealed parameters of the function
    that has a name. Raises NotSealed or DamagedToken.
    """
    check = CallCheck(str(call[key]), key=key, parameters=parameters, fields=fields)
    looked: Mapping[str, Any] = check.look(call)
    return looked


class CallCheck(Walk):
    """Checks each call in a message: a mapping with a function's name, and `args` or `kwargs`.

    A pipeline may add a result after a call's own arguments, which leaves their places as they are.
    """

    def __init__(
        self,
        where: str,
        *,
        key: str,
        parameters: Callable[[str], Sequence[SealedParameter]],
        fields: Fields,
    ) -> None:
        super().__init__(where)
        self._key, self._parameters, self._fields = key, parameters, fields

    def held_by(self, value: Any) -> Mapping[str, Any] | None:
        """Return the fields of a message; an encoder that pickles takes messages as arguments."""
        return self._fields(value)

    def look_at_mapping(self, mapping: Mapping[Any, Any], context: Any) -> Any:
        """Look at what a mapping holds, and check it if it is a call."""
        looked = super().look_at_mapping(mapping, context)
        name = mapping.get(self._key)
        if isinstance(name, str) and not mapping.keys().isdisjoint({"args", "kwargs"}):
            self.check(name, looked.get("args"), looked.get("kwargs"))
        return looked

    def check(self, name: str, args: Any, kwargs: Any) -> None:
        """Raise NotSealed or DamagedToken for a sealed parameter that is given something else."""
        args = args if isinstance(args, Sequence) else ()
        kwargs = kwargs if isinstance(kwargs, Mapping) else {}
        for parameter in self._parameters(name):
            values = [kwargs[parameter.name]] if parameter.name in kwargs else []
            if parameter.position is not None:
                values += args[parameter.position :][:1]
            for value in values:
                check_value(value, task=name, parameter=parameter)
