"""Rows of data, taken batch by batch; a sparse X becomes dense only there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from anyprop._typing import Array
from anyprop.backend import device_of, from_host, name_of, namespace
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters

AT_ONCE = 4096
"""Rows of one forward pass where nothing is trained; it bounds the memory."""


class Data(NamedTuple):
    """Rows that lie together.

    Parameters
    ----------
    x : array or sparse matrix in CSR form, shape (N, D)
        Examples.
    t : array, shape (N,) int or (N, K) float
        Targets as the loss takes them.
    weight : array, shape (N,), optional
        Weights of the rows.
    """

    x: Any
    t: Array
    weight: Array | None

    def rows(self, indices: Any) -> Data:
        """Take the rows of a NumPy array of indices, in its order."""
        return Data(*(None if a is None else _taken(a, indices) for a in self))

    def parts(self) -> Iterator[Data]:
        """Give all rows: those of a dense X at once, those of a sparse one in dense parts."""
        if not scipy.sparse.issparse(self.x):
            yield self
            return
        for rows in slices(self.x.shape[0], AT_ONCE):
            yield Data(
                dense(self.x[rows]),
                self.t[rows, ...],
                None if self.weight is None else self.weight[rows],
            )


def slices(n: int, size: int) -> list[slice]:
    """Cut 0..n-1 into ranges of `size`, the last of which may be smaller."""
    return [slice(a, min(a + size, n)) for a in range(0, n, size)]


def dense(x: Any) -> Array:
    """Give rows as an array."""
    return x.toarray() if scipy.sparse.issparse(x) else x


def outputs(net: Layer, params: Parameters, x: Any) -> Array:
    """Compute a network's outputs for rows x, dense or sparse."""
    n = x.shape[0]
    if n <= AT_ONCE:
        return net.forward(params, dense(x))[0]
    parts = [net.forward(params, dense(x[rows, ...]))[0] for rows in slices(n, AT_ONCE)]
    return params.xp.concat(parts)


def _taken(array: Any, indices: Any) -> Any:
    if scipy.sparse.issparse(array):
        return array[indices]
    xp = namespace(array)
    return xp.take(array, from_host(indices, xp, device=device_of(array)), axis=0)


class Batches:
    """The batches of an epoch, as the arguments of a step.

    Parameters
    ----------
    data : Data
        All rows that are trained on.
    batch_size : int >= 1
        Rows in a batch; the last one of an epoch may be smaller.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self._data = data
        self._batch_size = batch_size
        self._sparse = scipy.sparse.issparse(data.x)
        # On NumPy every batch is gathered into the same memory, which the compiled step copies from.
        self._reuses = name_of(namespace(data.t)) == "numpy"
        self._buffers: dict[tuple[int, int], Array] = {}

    def of(self, order: Any) -> Iterator[dict[str, Any]]:
        """Give the batches of the rows `order`, a NumPy array of indices, or of all rows for None."""
        x, t, weight = self._data
        if order is None:
            for rows in slices(x.shape[0], self._batch_size):
                yield {
                    "x": dense(x[rows]) if self._sparse else x[rows, ...],
                    "t": t[rows, ...],
                    "sample_weight": None if weight is None else weight[rows],
                }
            return
        moved = order if self._reuses else from_host(order, namespace(t), device=device_of(t))
        for rows in slices(order.shape[0], self._batch_size):
            indices = moved[rows]
            yield {
                "x": dense(x[indices]) if self._sparse else self._take(0, x, indices),
                "t": self._take(1, t, indices),
                "sample_weight": None if weight is None else self._take(2, weight, indices),
            }

    def _take(self, which: int, array: Array, indices: Any) -> Array:
        if not self._reuses:
            return namespace(array).take(array, indices, axis=0)
        key = (which, indices.size)
        if key not in self._buffers:
            self._buffers[key] = np.empty((indices.size, *array.shape[1:]), array.dtype)
        # The indices are a permutation's, and NumPy would take a copy in any other mode.
        return np.take(array, indices, axis=0, out=self._buffers[key], mode="clip")
