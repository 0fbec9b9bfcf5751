"""Memory that is freed, on the host."""

from __future__ import annotations

import sys

import numpy as np

from anyprop._typing import Array


def keep_freed_memory(like: Array) -> None:
    """Have the C library keep memory that is freed for what is computed next, if arrays are on the host.

    What computes many arrays like this, one after the other, calls it; the first call has the effect.
    """
    if not _kept and computes_on_host(like):
        _keep()


def computes_on_host(array: Array) -> bool:
    """Return whether what is computed with an array is computed at once, in memory of the host."""
    if type(array) is np.ndarray:
        return True
    torch = sys.modules.get("torch")
    if torch is None or type(array) not in (torch.Tensor, torch.nn.Parameter):
        return False
    return array.device.type == "cpu" and not torch.compiler.is_compiling()


_kept = False


def _keep() -> None:
    # glibc returns what is freed to the system once that is twice the largest block that was ever
    # freed; to get it back, page by page, takes longer than the arithmetic of a narrow network. Nothing
    # is stored in this block, so it takes no memory itself.
    global _kept
    np.empty(1 << 24, dtype="uint8")
    _kept = True
