"""Examples on the host as a network and a loss need them: checked, and moved beside the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anyprop._checks import worded
from anyprop._numerics import cast, wide_dtype
from anyprop._typing import Array
from anyprop.backend import Pinned, device_of, dtype_name, from_host, holds_exactly, name_of
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, check_loss
from anyprop.parameters import Parameters
from anyprop.sources import Source, Stream
from anyprop.sources.parts import rounded
from anyprop.sources.reading import on_host
from anyprop.training._data_checks import HARDLY_SUPPORTED, check_finite_total, check_rows_finite

SIZE = 16 << 20
"""Bytes of a portion, unless one batch is larger."""

_PROBE = np.random.default_rng(0)
"""For the random numbers of the first row; what they are does not matter."""


class Taker:
    """Takes examples of a source or a stream, called `name`, that a network and a loss can work on.

    Of the first examples, x, t and perhaps weights, one is checked, and all others are like it. Without
    a loss only x is taken and looked at, and may hold any number.

    Attributes
    ----------
    first : dict of str to numpy.ndarray or None
        The first example as `taken` returns it.
    weighed : bool
        Whether an example with a weight above 0 was taken.
    """

    _came = "there came"

    def __init__(
        self,
        name: str,
        data: Source | Stream,
        first: tuple[Any, ...],
        net: Layer,
        params: Parameters,
        loss: Loss | None,
    ) -> None:
        self.name, self._data, self._net, self._loss = name, data, net, loss
        self.weighed = False
        self._xp, self._device = params.xp, device_of(params.flat)
        self._dtype, self._dtype_name = params.flat.dtype, dtype_name(params.flat)
        wide = wide_dtype(self._xp, self._dtype)
        self._wide = self._dtype_name if wide == self._dtype else "float32"
        backend = name_of(self._xp)
        self._widened = HARDLY_SUPPORTED if backend == "torch" else ()
        # Fewer bytes are moved where x is cast on the device.
        self._cast_there = getattr(self._device, "type", "cpu") != "cpu" or backend == "cupy"
        try:
            self.first = self._named(tuple(part[:1] for part in first), [0])
            self._check_form()
            self._check(self.first, [0])
        except (TypeError, ValueError) as error:
            raise worded(error, f"{name}: {error}") from error

    def together(self, rows: int) -> int:
        """Return how many batches of so many rows make a portion, at least 1."""
        row_bytes = sum(int(a.nbytes) for a in self.first.values() if a is not None)
        return max(1, SIZE // max(1, rows * row_bytes))

    def taken(self, parts: tuple[Any, ...], rows: Any) -> dict[str, Any]:
        """Return examples by the names under which a step takes them; messages call their rows `rows`.

        Raises
        ------
        TypeError, ValueError
            They have another form than the first, or a number cannot be trained on.
        """
        arrays = self._named(parts, rows)
        for name, array in arrays.items():
            wanted = self.first[name]
            if array is not None and (
                array.shape != (len(rows), *wanted.shape[1:]) or array.dtype != wanted.dtype
            ):
                raise ValueError(
                    f"{self._came} {name} of shape {array.shape} and {array.dtype} for {len(rows)} "
                    f"rows, but of shape {wanted.shape} and {wanted.dtype} for the first."
                )
        self._check(arrays, rows)
        return arrays

    def beside(self, name: str, array: Any, *, small: bool = False) -> Array:
        """Move rows to where the parameters are; those of x are cast to their dtype, unless `small`."""
        if small or name != "x":
            return from_host(array, self._xp, device=self._device)
        if self._cast_there:
            moved = from_host(array, self._xp, device=self._device)
            return cast(self._xp, moved, self._dtype)
        return from_host(array, self._xp, dtype=self._dtype_name, device=self._device)

    def moved(self, arrays: Mapping[str, Any]) -> dict[str, Array | None]:
        """Move rows, by name, to where the parameters are."""
        return {
            name: None if array is None else self.beside(name, array)
            for name, array in arrays.items()
        }

    def copied(
        self, arrays: Mapping[str, Array | None], rows: slice = slice(None)
    ) -> dict[str, Array | None]:
        """Copy rows that are where the parameters are, as `moved` would return them."""

        def copy(name: str, array: Array | None) -> Array | None:
            if array is None:
                return None
            dtype = self._dtype if name == "x" else array.dtype
            return self._xp.astype(array[rows, ...], dtype)  # which copies in any case

        return {name: copy(name, array) for name, array in arrays.items()}

    def _named(self, parts: tuple[Any, ...], rows: Any) -> dict[str, Any]:
        x, t, weight = (*parts, None)[:3]
        if self._loss is None:
            return {"x": x, "t": None, "sample_weight": None}
        if t.dtype.name in self._widened:
            if t.size and t.max() >= 1 << 63:
                raise ValueError(f"t holds {t.max()}, which is no label that a network can have.")
            t = t.astype("int64")
        t = rounded("t", t, self._wide, rows)  # as losses do with those of arrays, weights too
        if t.dtype.kind == "f" and holds_exactly(self._dtype_name, t.dtype.name):
            t = t.astype(self._dtype_name, copy=False)  # not every library has smaller ones
        if weight is not None:
            weight = rounded("weight", weight, self._wide, rows).astype(self._wide, copy=False)
        return {"x": x, "t": t, "sample_weight": weight}

    def _check_form(self) -> None:
        """Check dtypes and shapes of the first row, which all have."""
        x, d = self.first["x"], self._net.width_in
        found = x.dtype.name
        if self._data.dtype != self._dtype_name and not holds_exactly(self._dtype_name, found):
            raise TypeError(
                f"x is {found}, which {self._dtype_name} parameters cannot hold exactly; round it while "
                f"it is read: {type(self._data).__name__}(..., dtype={self._dtype_name!r})."
            )
        if d is not None and x.shape[1:] != (d,):
            raise ValueError(f"x has rows of shape {x.shape[1:]}, but the network takes ({d},).")
        self._width = self._net.output_shape(tuple(x.shape))[-1]
        weight = self.first["sample_weight"]
        if weight is not None and weight.ndim != 1:
            raise ValueError(f"a weight has shape {weight.shape[1:]}; it must be one number.")

    def _check(self, arrays: dict[str, Any], rows: Any) -> None:
        """Raise ValueError if a number cannot be trained on; the message names its row."""
        if self._loss is None:
            return
        for name, array in arrays.items():
            if array is not None and array.dtype.kind == "f":
                check_rows_finite("weight" if name == "sample_weight" else name, array, rows)
        weight, t = arrays["sample_weight"], arrays["t"]
        if weight is not None and (weight < 0).any():
            i = int(np.argmax(weight < 0))
            raise ValueError(f"weight[{rows[i]}] is {weight[i]}; it must be at least 0.")
        if not self._refusal(t):
            with np.errstate(all="ignore"):
                total = float(self._loss.total_weight(t, weight, dtype=np.dtype(self._wide)))
            check_finite_total(self.name, total)
            self.weighed = self.weighed or total > 0.0
            return
        first, last = 0, t.shape[0]  # of these rows, one is refused
        while last - first > 1:
            middle = (first + last) // 2
            if self._refusal(t[first:middle]):
                last = middle
            else:
                first = middle
        error = self._refusal(t[first:last]) or self._refusal(t)
        assert error is not None
        raise worded(error, f"in row {rows[first]}, {error}") from None

    def _refusal(self, t: Any) -> Exception | None:
        try:
            self._loss.check_targets(t, self._width)  # type: ignore[union-attr]
        except (TypeError, ValueError) as error:
            return error
        return None


class Reader(Taker):
    """Reads examples of a source; `augmenting` says whether its `augment` is applied."""

    def __init__(
        self,
        name: str,
        source: Source,
        net: Layer,
        params: Parameters,
        loss: Loss | None,
        *,
        augmenting: bool = False,
    ) -> None:
        if loss is not None:
            check_loss(loss)
        self.source = source
        self._augment = source.augment if augmenting else None
        try:
            first = source.first
        except Exception as error:
            error.add_note(f"It was raised while the first row of {name} was read.")
            raise
        if self._augment is not None:
            self._came = "augment returned"
            try:
                first = self._augmented(first, self.drawn(_PROBE, 1))
            except Exception as error:
                error.add_note(f"It was raised while the first row of {name} was augmented.")
                raise
        super().__init__(name, source, first, net, params, loss)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Any, drawn: Any = None) -> tuple[dict[str, Any], Any]:
        """Read examples; raise whatever the source raises, or an error that names a row.

        Rows are in any order, and one may come more than once; `drawn` is what the source drew for them.
        Returned are the arrays, as of `taken`, and where in them each of the rows is.
        """
        parts, distinct, places = self.source.read_once(rows)
        if self._augment is None:
            return self.taken(parts, distinct), places
        # An example is another one each time that it comes.
        parts = tuple(np.take(part, places, axis=0) for part in parts)
        return self.taken(self._augmented(parts, drawn), rows), np.arange(len(rows))

    def drawn(self, rng: np.random.Generator, n: int) -> Any:
        """Draw the random numbers of a whole batch of n rows."""
        drawn = np.asarray(self.source.draw(rng, n))  # type: ignore[misc]
        if drawn.shape[:1] != (n,):
            raise ValueError(f"what draw returned has shape {drawn.shape} for a batch of {n} rows.")
        return drawn

    def pinned(self) -> Pinned | None:
        """Return what copies portions to the device while it computes, if the source asks for it."""
        if not self.source.pinned:
            return None
        # A portion is made when that one is done with which came so many before it; see `Ahead`.
        return Pinned.to(self._xp, self._device, self.source.ahead + 1)

    def _augmented(self, parts: tuple[Any, ...], drawn: Any) -> tuple[Any, ...]:
        given = self._augment(*parts[:2], drawn)  # type: ignore[misc]
        if not isinstance(given, tuple) or len(given) != 2:
            raise TypeError("augment must return (x, t), as it was given them.")
        return on_host("augment's x", given[0]), on_host("augment's t", given[1]), *parts[2:]
