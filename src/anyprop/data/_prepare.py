"""Turns stored pixels and labels into the arrays that a network takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import choice, flag
from anyprop._typing import Array
from anyprop.backend import from_host

Examples: TypeAlias = tuple[Array, Array]
"""Inputs and labels, one row of each per example."""

_ROWS_PER_TASK = 2000
_MOST_CLASSES = 1 << 31  # no layer is so wide
_FLOATS = ("float16", "float32", "float64")


class Stored(NamedTuple):
    """One part of a data set as its files hold it: (N, H, W) pixels and N class numbers."""

    images: NDArray[np.uint8]
    labels: NDArray[Any]


def prepare(
    train: Stored,
    test: Stored,
    classes: int,
    *,
    normalize: bool,
    flatten: bool,
    one_hot_label: bool,
    xp: Any,
    dtype: str,
    device: Any,
) -> tuple[Examples, Examples]:
    """Return both parts of a data set as the options of `load_idx` say.

    A row of a label in one-hot form is `classes` wide, which is more than every label.
    """
    check_dtype(dtype)
    normalize, flatten = flag("data", "normalize", normalize), flag("data", "flatten", flatten)
    one_hot_label = flag("data", "one_hot_label", one_hot_label)

    def convert(part: Stored) -> Examples:
        x = scaled(part.images, dtype, normalize=normalize)
        shape = (len(x), -1) if flatten else (len(x), 1, *x.shape[1:])
        t = part.labels.astype("i8")
        if one_hot_label:
            t = (t[:, None] == np.arange(classes)).astype(dtype)
        return (
            from_host(x.reshape(shape), xp, device=device),
            from_host(t, xp, device=device),
        )

    return convert(train), convert(test)


def check_dtype(dtype: str) -> None:
    """Raise TypeError or ValueError unless pixels can be made in a dtype."""
    if dtype == "bfloat16":  # which a name nearby could not replace
        raise ValueError(
            "pixels are made by NumPy, which has no bfloat16; load them in float32, and cast them on "
            "PyTorch or JAX by anyprop.to_namespace(x, xp, dtype='bfloat16')."
        )
    choice("floating-point dtype", dtype, _FLOATS)


def scaled(images: NDArray[Any], dtype: str, *, normalize: bool = True) -> NDArray[Any]:
    """Convert to floats: pixels of uint8 divided by 255, floats as they are.

    A number that is too large for the dtype becomes infinite.
    """
    divisor = 255 if normalize and images.dtype == np.uint8 else 1
    # The first touch of so much new memory can take longer than the arithmetic; threads share it.
    quotients = np.empty(images.shape, dtype)

    def fill(start: int) -> None:
        rows = slice(start, start + _ROWS_PER_TASK)
        with np.errstate(over="ignore"):  # of this thread
            # A division rounds once; a product with the rounded 1/255 would round twice.
            np.divide(images[rows], divisor, out=quotients[rows], dtype=dtype)

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(0, len(images), _ROWS_PER_TASK)))
    return quotients


def check_class_numbers(labels: NDArray[Any], name: object) -> None:
    """Raise ValueError unless these whole numbers can number classes."""
    for label in (labels.min(), labels.max()):
        if not 0 <= label < _MOST_CLASSES:
            raise ValueError(
                f"{name} holds the label {label}; expected class numbers of at least 0, and below "
                f"{_MOST_CLASSES}."
            )
