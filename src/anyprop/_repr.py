"""Short texts of objects with many options."""

from __future__ import annotations

import dataclasses
from typing import Any


class ShortRepr:
    """A dataclass whose text shows the fields that differ from their defaults, and no others.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Rule(ShortRepr):
    ...     lr: float = 0.1
    ...     decay: float = 0.0
    >>> Rule(), Rule(decay=0.5)
    (Rule(), Rule(decay=0.5))
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Found in the class itself, it is not replaced by the one that `dataclass` would write.
        if "__repr__" not in vars(cls):
            cls.__repr__ = ShortRepr.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            # The types first: two arrays have no single answer to ==.
            if type(value := getattr(self, field.name)) is not type(field.default)
            or value != field.default
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"
