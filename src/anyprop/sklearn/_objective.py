"""What the estimators minimize: the losses of scikit-learn, and its L2 term.

    value = loss(y, t) + alpha ||W||^2 / (2 w)
    g     = d loss + alpha W / w                  biases, and the numbers of norms, do not decay

W are all weight matrices and w the total weight of the batch: its number of rows, unless they have
weights.

scikit-learn sums a loss over the outputs where anyprop takes the mean, and halves a squared error. In
one case it reports another number than it descends: a squared error of K outputs, of which it reports
the mean over the outputs and descends the sum. `Scaled` therefore has a factor for each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np

from anyprop._numerics import or_one
from anyprop._typing import Array, Residuals
from anyprop.backend import device_of, dtype_name, from_host, name_of, namespace
from anyprop.layers.base import Layer, layout_of
from anyprop.layout import Entry
from anyprop.losses.base import Loss
from anyprop.network import value_and_grad
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Scaled(Loss):
    """A loss whose value and whose gradient are multiplied, each by a factor of its own."""

    inner: Loss
    value: float = 1.0
    gradient: float = 1.0

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        value, residuals = self.inner.forward(y, t, sample_weight=sample_weight)
        return (value if self.value == 1.0 else value * self.value), residuals

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        return self.inner.backward(residuals, dvalue * self.gradient)

    def total_weight(
        self, t: Array, sample_weight: Array | None = None, *, dtype: Any = None
    ) -> Any:
        return self.inner.total_weight(t, sample_weight, dtype=dtype)

    def check_targets(self, t: Array, width: int) -> None:
        self.inner.check_targets(t, width)

    def correct(self, y: Array, t: Array) -> Array | None:
        return self.inner.correct(y, t)


def pays(steps: int, rows: int, params: Parameters) -> bool:
    """Return whether to compile what is computed for batches of `rows` so many times.

    On NumPy to plan takes the time of some steps, more of them for a small network, and changes no
    bit. Other backends gain from the first step, or have nothing to plan.
    """
    return name_of(params.xp) != "numpy" or steps > 64 or steps * rows * params.size > 2e8


@dataclass(frozen=True)
class Objective:
    """The loss of a batch with the L2 term, and its gradient, beside `like`: what a `Step` calls."""

    net: Layer
    loss: Loss
    alpha: float
    like: InitVar[Parameters]
    place: tuple[str, ...] = field(init=False)
    _decays: Array = field(init=False, compare=False)

    def __post_init__(self, like: Parameters) -> None:
        place = name_of(like.xp), dtype_name(like.flat), str(device_of(like.flat))
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "_decays", self._ones_for_weights(like))

    @cached_property
    def _of_data(self) -> Callable[..., Any]:
        return value_and_grad(self.net, self.loss, running=True)

    @cached_property
    def _matrices(self) -> list[Entry]:
        return [e for e in layout_of(self.net).entries if e.trainable and len(e.shape) > 1]

    def __call__(
        self,
        params: Parameters,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Array, Parameters, Array | None]:
        value, grads, running = self._of_data(
            params, x, t, noise=noise, sample_weight=sample_weight
        )
        if not self.alpha:
            return value, grads, running
        flat, xp = params.flat, params.xp
        if sample_weight is None:
            share: Any = self.alpha / x.shape[0]
        else:
            share = self.alpha / or_one(xp, xp.sum(sample_weight))
        value = value + self._squares(flat) * (0.5 * share)
        # Last, beside the update: a compiled step makes one loop of both.
        flat = grads.flat + flat * (xp.asarray(self._decays) * share)
        return value, grads.replace(flat=flat), running

    def of_part(
        self,
        params: Parameters,
        x: Array,
        t: Array,
        *,
        sample_weight: Array | None = None,
        before: tuple[Array, Array] | None = None,
    ) -> tuple[Array, Array]:
        """Add the loss of some rows, and its gradient, to what this returned for the rows before."""
        flat = params.flat
        value: Any
        value, gradient = before or (0.5 * self.alpha * self._squares(flat), flat * self._shares)
        weight = self.loss.total_weight(t, sample_weight, dtype=flat.dtype)
        part, grads, _ = self._of_data(params, x, t, sample_weight=sample_weight)
        return value + part * weight, gradient + grads.flat * weight

    def value_of_parts(
        self, params: Parameters, parts: Iterable[tuple[Array, Array, Array | None]]
    ) -> Array:
        """Compute the objective of all rows from parts of them."""
        flat = params.flat
        value: Any = 0.5 * self.alpha * self._squares(flat)
        total: Any = 0.0
        for x, t, w in parts:
            weight = self.loss.total_weight(t, w, dtype=flat.dtype)
            value = value + self.loss.forward(self.net(params, x), t, sample_weight=w)[0] * weight
            total = total + weight
        return value / total

    @cached_property
    def _shares(self) -> Array:
        return self._decays * self.alpha

    def _squares(self, flat: Array) -> Array:
        """Sum the squares of all weights, and of nothing else: a difference could be below 0."""
        matmul = namespace(flat).matmul
        vectors = [flat[e.start : e.stop] for e in self._matrices]
        return reduce(operator.add, (matmul(vector, vector) for vector in vectors))

    def _ones_for_weights(self, like: Parameters) -> Array:
        """Return the vector that is 1 for weights and 0 elsewhere."""
        ones = np.zeros(like.flat.shape, dtype_name(like.flat))
        for e in self._matrices:
            ones[e.start : e.stop] = 1.0
        moved = from_host(ones, like.xp, device=device_of(like.flat))
        if isinstance(moved, np.ndarray):
            # A constant: a compiled step need not keep a copy to compare.
            moved.flags.writeable = False
        return moved
