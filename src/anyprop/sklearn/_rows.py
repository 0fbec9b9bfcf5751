"""Rows of data: batches in the order of scikit-learn; a sparse X becomes dense only batch by batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from anyprop._typing import Array
from anyprop.backend import device_of, from_host, namespace
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters
from anyprop.training import evaluate
from anyprop.training.batches import slices
from anyprop.training.inputs import ArrayInputs

AT_ONCE = 4096
"""Rows of one forward pass where nothing is trained; it bounds the memory."""


class Data(NamedTuple):
    """Rows that belong together."""

    x: Any  # an array or a sparse matrix in CSR form, (N, D)
    t: Array  # targets as the loss takes them, (N,) int or (N, K) float
    weight: Array | None

    def rows(self, indices: Any) -> Data:
        """Return the rows of a NumPy array of indices, in its order."""
        return Data(*(None if a is None else _taken(a, indices) for a in self))

    def parts(self) -> Iterator[Data]:
        """Yield all rows: those of a dense X at once, those of a sparse one in dense parts."""
        if not scipy.sparse.issparse(self.x):
            yield self
            return
        for rows in slices(0, self.x.shape[0], AT_ONCE):
            yield Data(
                dense(self.x[rows]),
                self.t[rows, ...],
                None if self.weight is None else self.weight[rows],
            )


def without_names(x: Any) -> Any:
    """Return the numbers of a pandas DataFrame if they have one dtype, and anything else as it is."""
    if type(x) is not getattr(sys.modules.get("pandas"), "DataFrame", None):
        return x
    dtypes = [*set(x.dtypes)]
    # pandas has dtypes of its own for what may be missing, and scikit-learn converts truth values.
    plain = len(dtypes) == 1 and isinstance(dtypes[0], np.dtype) and dtypes[0].kind in "iuf"
    return x.to_numpy() if plain else x


def dense(x: Any) -> Array:
    """Return rows as an array."""
    return x.toarray() if scipy.sparse.issparse(x) else x


def outputs(net: Layer, params: Parameters, x: Any) -> Array:
    """Compute a network's outputs for rows x, dense or sparse."""
    if x.shape[0] <= AT_ONCE:
        return evaluate.outputs(net, params, [dense(x)])
    parts = (dense(x[rows, ...]) for rows in slices(0, x.shape[0], AT_ONCE))
    return evaluate.outputs(net, params, parts)


class SparseInputs(ArrayInputs):
    """Inputs of which x is a sparse matrix."""

    def take(self, array: Any, rows: Any, key: tuple[str, int, int]) -> Array:
        if scipy.sparse.issparse(array):
            return array[rows].toarray()
        return super().take(array, rows, key)


class Order:
    """The batches of epochs as scikit-learn draws them: each shuffles the order of the one before.

    Without a generator all epochs keep the order of `rows`.
    """

    def __init__(self, rows: Any, batch_size: int, rng: np.random.RandomState | None) -> None:
        self._rows, self._batch_size, self._rng = rows, batch_size, rng

    def __call__(self, epoch: int) -> Iterator[Any]:
        n = self._rows.shape[0]
        if self._rng is not None:
            self._rows = self._rows[self._rng.permutation(n)]
        return (self._rows[batch] for batch in slices(0, n, self._batch_size))


def _taken(array: Any, indices: Any) -> Any:
    if scipy.sparse.issparse(array):
        return array[indices]
    xp = namespace(array)
    return xp.take(array, from_host(indices, xp, device=device_of(array)), axis=0)
