"""Trained networks in the shapes of PyTorch and scikit-learn, and back."""

from __future__ import annotations

from anyprop._names import importing, names_of

_module_of = names_of(__name__)
__all__ = sorted(_module_of)

__getattr__ = importing(__name__, _module_of)


def __dir__() -> list[str]:
    return __all__
