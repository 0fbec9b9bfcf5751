"""Several batches in one forward pass on NumPy, with the results of each by itself, bit for bit.

    layers of numbers and rows    all rows at once
    Affine                        y_i = x_i W + b for each batch i, as the rounding of a product depends
                                  on how many rows it has
    ReLU after an Affine          where its x is, which nothing else reads

So Python calls the layers of a narrow network, which have little to compute, less often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from anyprop._checks import check_rows
from anyprop._typing import Array, Residuals
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer, own
from anyprop.layers.registry import LAYERS
from anyprop.layers.relu import ReLU
from anyprop.layers.sequential import Sequential
from anyprop.parameters import Parameters
from anyprop.training.batches import slices

# Numbers in the largest array of several batches: batches are there to bound the memory.
_MOST = 2**19


def passes(net: Layer, params: Parameters, x: Array, rows: int) -> Iterator[tuple[Layer, Array]]:
    """Yield what to compute of x in batches of so many rows, and by which network."""
    n, done = x.shape[0], 0
    # In another layout a batch by itself, or a copy of it in the dtype of the parameters, may have
    # other strides than a part of several, and rounding depends on these, too.
    if n >= 2 * rows and type(params.flat) is np.ndarray and x.ndim == 2 and x.flags.c_contiguous:
        widest = max([x.shape[1], *(size for e in params.layout.entries for size in e.shape)])
        batches = _MOST // (rows * max(1, widest))
        of_each = _of_each(net, rows) if batches > 1 else None
        if of_each is not None:
            done = n - n % rows
            yield from ((of_each, x[cut, ...]) for cut in slices(0, done, batches * rows))
    if done < n:
        yield from ((net, x[cut, ...]) for cut in slices(done, n, rows))


def _of_each(net: Layer, rows: int) -> Layer | None:
    """Return a network that takes several batches of so many rows; None if there is none."""
    # Of a layer of one's own it is unknown whether a row of y depends on the other rows of x.
    if LAYERS.get(type(net).__name__) is not type(net):
        return None
    if type(net) is Affine and net.d > 1:
        return _AffineOfEach(net.d, net.m, net.bias, rows)
    children: dict[str, Layer] = {}
    before: Layer | None = None
    for name, child in net.children().items():
        # What an Affine computes, nothing but the next layer reads.
        in_place = type(net) is Sequential and type(before) is Affine and type(child) is ReLU
        of_each = _ReLUInPlace() if in_place else _of_each(child, rows)
        if of_each is None:
            return None
        before, children[name] = child, of_each
    return net.with_children(children)


@dataclass(frozen=True)
class _AffineOfEach(Affine):
    """An `Affine` of batches of so many rows, one after the other."""

    rows: int = 1

    def __post_init__(self) -> None:
        """Check nothing, as the `Affine` was checked."""

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        check_rows("x", x, self.d)
        y = (x.reshape(-1, self.rows, self.d) @ own(params, "W")).reshape(-1, self.m)
        if self.bias:
            y += own(params, "b")
        return y, x


@dataclass(frozen=True)
class _ReLUInPlace(ReLU):
    """A `ReLU` that stores y over x."""

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = np.maximum(x, 0.0, out=x)
        return y, y
