"""MNIST under the book's switches."""

from __future__ import annotations

from anyprop import data
from anyprop._typing import Array, Device, Namespace
from anyprop._usage import usage
from anyprop.xp import xp as chosen_xp


@usage("load_mnist()")
def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    xp: Namespace | str | None = None,
    dtype: str = "float32",
    device: str | Device | None = None,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Load MNIST as `anyprop.load_mnist` does, onto the backend that ``ANYPROP_BACKEND`` names.

    Parameters
    ----------
    normalize, flatten, one_hot_label : bool
        The book's switches: pixels in [0, 1], images as rows, labels as one-hot rows.
    xp, dtype, device
        As for `anyprop.load_mnist`, except for the default of `xp`.

    Returns
    -------
    (x, t), (xv, tv)
        60000 images and labels for training, 10000 for testing.
    """
    return data.load_mnist(
        normalize,
        flatten,
        one_hot_label,
        xp=chosen_xp if xp is None else xp,
        dtype=dtype,
        device=device,
    )
