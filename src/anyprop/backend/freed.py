"""Memory that is freed, on the host."""

from __future__ import annotations

import functools

import numpy as np

from anyprop._typing import Array


def keep_freed_memory(like: Array) -> None:
    """Have the C library keep memory that is freed for what is computed next, if arrays are NumPy's.

    What computes many arrays, one after the other, calls it; the first call has the effect.

    Parameters
    ----------
    like : array
        One of the arrays.
    """
    if type(like) is np.ndarray:
        _keep()


@functools.cache
def _keep() -> None:
    # glibc returns what is freed to the system once that is twice the largest block that was ever
    # freed; to get it back, page by page, takes longer than the arithmetic of a narrow network. Nothing
    # is stored in this block, so it takes no memory itself.
    np.empty(1 << 24, dtype="uint8")
