"""The batches of a run: rows of its data, and the noise of dropout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from anyprop._numerics import cast
from anyprop._typing import Array, Shape
from anyprop.backend import device_of, from_host, name_of, namespace
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.parameters import Parameters
from anyprop.step import noise_of_rows
from anyprop.training.batches import stream

_PROBE = np.random.default_rng(0)
"""Asks a network whether it draws anything; what it draws does not matter."""


Parts: TypeAlias = Callable[[int], Sequence[slice]]
"""Number of rows in a batch -> the rows of each part of it, where a step takes parts."""


class Inputs(ABC):
    """What a run takes its batches from, in the order in which it does them.

    The noise of a batch is a function of (seed, epoch, its number). Where the step takes parts, `parts`
    returns those of a batch.

    Attributes
    ----------
    noisy : bool
        Whether a batch needs noise; known when there were some examples.
    """

    def __init__(self, net: Layer, *, seed: int, parts: Parts | None = None) -> None:
        self._net, self._seed, self._parts = net, seed, parts

    def _like(self, x: Any) -> None:
        """Learn from some examples what rows x has."""
        self._shape: Shape = tuple(x.shape[1:])
        self.noisy = wants_noise(self._net, x)

    @property
    def ended(self) -> bool:
        """Whether no batch after the one asked for last can be in the same call of a loop."""
        return False

    @property
    def waited(self) -> float | None:
        """Seconds of the present epoch spent waiting for data; None for data that are there."""
        return None

    @property
    def weighed(self) -> bool:
        """Whether an example with a weight above 0 has come; of arrays it is known before."""
        return True

    def following(self, order: Iterable[Any], epoch: int) -> Iterable[Any]:
        """Return the rows of each batch of an epoch, of which all from some place on will be ready."""
        return order

    @abstractmethod
    def ready(self, rows: Any) -> Any:
        """Return the batch of row indices; raise ValueError if they are not indices."""

    def of(self, batch: Any, params: Parameters, epoch: int, k: int) -> dict[str, Any]:
        """Return the k-th batch of an epoch: what a step takes after parameters and state."""
        noise, size = None, batch.size
        if self.noisy:
            noise = self._net.noise(stream(self._seed, epoch, k), (size, *self._shape))
        if self._parts is None:
            return self._part(0, batch, None, noise, params)
        cuts = enumerate(self._parts(size))
        return {
            "parts": [self._part(i, batch, p, noise_of_rows(p, noise), params) for i, p in cuts]
        }

    def _part(
        self, i: int, batch: Any, cut: slice | None, noise: Any, params: Parameters
    ) -> dict[str, Any]:
        part = self._arrays(i, batch, cut, params)
        part["noise"] = None if noise is None else noise_beside(params, noise)
        return part

    @abstractmethod
    def _arrays(self, i: int, batch: Any, cut: slice | None, params: Parameters) -> dict[str, Any]:
        """Return rows of the i-th part of a batch, `cut` of it, or of all of it."""

    def close(self) -> None:  # noqa: B027
        """End what prepares batches that no step will take."""


class ArrayInputs(Inputs):
    """The data of a run beside its parameters; a batch of x is cast to their dtype.

    With `reuse`, on NumPy only, batches of one size share the same memory. Row indices that are
    `trusted` are not checked.
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
        parts: Parts | None = None,
    ) -> None:
        super().__init__(net, seed=seed, parts=parts)
        self._like(x)
        self._data = {"x": x, "t": t, "sample_weight": sample_weight}
        self._reuse, self._trusted = reuse, trusted
        self._xp, self._device = namespace(t), device_of(t)
        # JAX has no wider whole numbers without its 64-bit mode, and would check whether each fits.
        narrow = name_of(self._xp) == "jax" and x.shape[0] < 1 << 31
        self._index = np.dtype("int32" if narrow else "int64")
        self._buffers: dict[tuple[str, int, int], Array] = {}

    def ready(self, rows: Any) -> Any:
        if not self._trusted:
            rows = row_indices(rows, self._data["x"].shape[0])
        return rows.astype(self._index, copy=False)

    def many(self, batches: Sequence[Any]) -> tuple[Mapping[str, Any], Sequence[Any]]:
        """Return arrays that hold all these batches, and the rows of each within the arrays."""
        return self._data, batches

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

    def _arrays(self, i: int, batch: Any, cut: slice | None, params: Parameters) -> dict[str, Any]:
        rows = batch if cut is None else batch[cut]
        size = rows.size
        if not self._reuse:
            rows = from_host(rows, self._xp, device=self._device)
        part = {
            name: None if array is None else self.take(array, rows, (name, i, size))
            for name, array in self._data.items()
        }
        part["x"] = self._cast(part["x"], params.flat.dtype, i)
        return part


def row_indices(rows: Any, n: int) -> Any:
    """Return the row indices of a batch in NumPy; raise ValueError if they are not those of n rows."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"a batch must be a vector of row indices, not of shape {rows.shape} and {rows.dtype}."
        )
    # JAX would not complain, but invent the missing rows.
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"a batch has row indices outside 0..{n - 1}.")
    return rows


def wants_noise(net: Layer, x: Array) -> bool:
    """Return whether a network is trained with noise, as by dropout."""
    return net.noise(_PROBE, (1, *x.shape[1:])) is not None
