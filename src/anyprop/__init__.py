"""anyprop trains multilayer perceptrons on any Array API backend.

The public names, listed in `_names.py`, are imported when they are first used, so that `import anyprop`
costs next to nothing; ``__init__.pyi`` shows them to type checkers and editors.
"""

from __future__ import annotations

import importlib
from typing import Any

from anyprop._names import MODULES, importing, names_of

__all__ = sorted([*names_of(__name__), *MODULES])

_import_name = importing(__name__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("anyprop")
    if name in MODULES:
        return importlib.import_module(f"anyprop.{name}")
    return _import_name(name)


def __dir__() -> list[str]:
    return __all__
