"""anyprop trains multilayer perceptrons on any Array API backend.

The public names, listed in `_names.py`, are imported when they are first used, so that `import anyprop`
costs next to nothing; ``__init__.pyi`` shows them to type checkers and editors.
"""

from __future__ import annotations

import importlib

from anyprop._names import MODULES, importing, names_of

TYPE_CHECKING = False  # `typing`, which has it too, takes longer to import than all that is here
if TYPE_CHECKING:
    from typing import Any

_module_of = names_of(__name__)
__all__ = sorted([*_module_of, *MODULES])

_import_name = importing(__name__, _module_of)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("anyprop")
    if name in MODULES:
        return importlib.import_module(f"anyprop.{name}")
    return _import_name(name)


def __dir__() -> list[str]:
    return __all__
