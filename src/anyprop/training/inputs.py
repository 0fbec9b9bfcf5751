"""The source of a run's batches: its data, and the noise of dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._numerics import cast
from anyprop._typing import Array, Shape
from anyprop.backend import device_of, from_host, name_of, namespace
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.parameters import Parameters
from anyprop.training.batches import stream

_PROBE = np.random.default_rng(0)
"""Asks a network whether it draws anything; what it draws does not matter."""


class Inputs:
    """The data of a run, from which it takes a batch at a time.

    Parameters
    ----------
    net : Layer
        The network, which may need noise.
    x, t : array, shape (N, ...)
        Examples and targets. A batch of x is cast to the dtype of the parameters.
    sample_weight : array, shape (N,), optional
        Weights of the examples.
    seed : int
        Seed of the noise: that of a batch is a function of (seed, epoch, its number).
    reuse : bool
        Whether batches of one size share the same memory; NumPy only.
    trusted : bool
        Whether the row indices of batches are known to be right, so that none is checked.
    parts : callable, optional
        Number of rows in a batch -> the parts of it that the step is given, if it takes parts.

    Attributes
    ----------
    data : dict of str to array or None
        The data by the names under which a step takes them, x not yet cast.
    noisy : bool
        Whether a batch needs noise.
    """

    def __init__(
        self,
        net: Layer,
        x: Array,
        t: Array,
        sample_weight: Array | None,
        *,
        seed: int,
        reuse: bool,
        trusted: bool,
        parts: Callable[[int], Sequence[slice]] | None = None,
    ) -> None:
        self.data = {"x": x, "t": t, "sample_weight": sample_weight}
        self._net, self._seed, self._reuse, self._parts = net, seed, reuse, parts
        self._trusted = trusted
        self._xp, self._device = namespace(t), device_of(t)
        # JAX has no wider whole numbers without its 64-bit mode, and would check whether each fits.
        narrow = name_of(self._xp) == "jax" and x.shape[0] < 1 << 31
        self._index = np.dtype("int32" if narrow else "int64")
        self.noisy = wants_noise(net, x)
        self._buffers: dict[tuple[str, int, int], Array] = {}

    def of(self, rows: Any, params: Parameters, epoch: int, k: int) -> dict[str, Any]:
        """Return the k-th batch of an epoch: what a step takes after parameters and state."""
        x, rows = self.data["x"], self.checked(rows)
        noise = None
        if self.noisy:
            shape: Shape = (rows.shape[0], *x.shape[1:])
            noise = self._net.noise(stream(self._seed, epoch, k), shape)
        if self._parts is None:
            return self._part(0, rows, noise, params)
        cuts = enumerate(self._parts(len(rows)))
        return {"parts": [self._part(i, rows[p], _of_rows(p, noise), params) for i, p in cuts]}

    def checked(self, rows: Any) -> Any:
        """Return the row indices of a batch in NumPy; raise ValueError if they are not indices."""
        if self._trusted:
            return rows.astype(self._index, copy=False)
        rows, n = np.asarray(rows), self.data["x"].shape[0]
        if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
            raise ValueError(
                "a batch must be a vector of row indices, not of shape "
                f"{rows.shape} and {rows.dtype}."
            )
        # JAX would not complain, but invent the missing rows.
        if rows.min() < 0 or rows.max() >= n:
            raise ValueError(f"a batch has row indices outside 0..{n - 1}.")
        return rows.astype(self._index, copy=False)

    def take(self, array: Array, rows: Any, key: tuple[str, int, int]) -> Array:
        """Return rows of an array; results for the same key may share the same memory."""
        if not self._reuse:
            return self._xp.take(array, rows, axis=0)
        out = self._buffer(key, (rows.size, *array.shape[1:]), array.dtype)
        # The rows are within the array, and NumPy would take a copy in any other mode.
        return np.take(array, rows, axis=0, out=out, mode="clip")

    def _cast(self, x: Array, dtype: Any, i: int) -> Array:
        """Return rows of x in the parameters' dtype, which holds them exactly."""
        if not self._reuse or x.dtype == dtype:
            return cast(self._xp, x, dtype)
        out = self._buffer(("cast", i, x.shape[0]), x.shape, dtype)
        np.copyto(out, x)
        return out

    def _buffer(self, key: tuple[str, int, int], shape: Shape, dtype: Any) -> Array:
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = np.empty(shape, dtype)
        return buffer

    def _part(self, i: int, rows: Any, noise: Any, params: Parameters) -> dict[str, Any]:
        size = rows.size
        if not self._reuse:
            rows = from_host(rows, self._xp, device=self._device)
        batch = {
            name: None if array is None else self.take(array, rows, (name, i, size))
            for name, array in self.data.items()
        }
        batch["x"] = self._cast(batch["x"], params.flat.dtype, i)
        batch["noise"] = None if noise is None else noise_beside(params, noise)
        return batch


def wants_noise(net: Layer, x: Array) -> bool:
    """Return whether a network is trained with noise, as by dropout."""
    return net.noise(_PROBE, (1, *x.shape[1:])) is not None


def _of_rows(rows: slice, noise: Any) -> Any:
    return _tree.map_leaves(lambda drawn: None if drawn is None else drawn[rows], noise)
