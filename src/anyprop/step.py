"""One training step as a pure function, of a batch at once or in parts.

    value = sum_i W_i value_i / sum_i W_i         part i of the batch has the total weight W_i
    g     = sum_i W_i g_i / sum_i W_i

A loss is a weighted mean over rows, so the parts put together give the batch's own loss and gradient,
whatever the sizes of the parts and the weights of their rows. Sums of 16 bits are taken in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from anyprop import _tree
from anyprop._autograd import unrecorded
from anyprop._checks import count, flag
from anyprop._numerics import or_one, wide_dtype, widened
from anyprop._typing import Array, Namespace
from anyprop._usage import usage
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.network import check_batch, value_and_grad
from anyprop.optimizers.base import Numbers, Optimizer, check_optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters

Gradient = Callable[..., tuple[Array, Parameters, Array | None]]
"""Computes the loss of a batch, its gradient, and the new running statistics."""


@dataclass(frozen=True)
class Step:
    """One training step; call it.

    ``(params, state, x, t, *, noise=None, sample_weight=None) -> (params, state, value)``; the arguments
    are those of `value_and_grad`, value is the loss before the update, of shape (). The parameters that
    are returned hold the new running statistics, if there are any.

    Parameters
    ----------
    gradient : callable
        Computes the loss of a batch, its gradient and the new running statistics, as
        ``value_and_grad(net, loss, running=True)`` does.
    optimizer : Optimizer
        Updates the parameters.
    donate : bool
        Whether the update may write into the parameters and the state it is given.
    """

    gradient: Gradient
    optimizer: Optimizer
    donate: bool = False

    @usage("step(params, state, x, t)")
    @unrecorded
    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Parameters, OptimizerState, Array]:
        value, grads, running = self.gradient(
            params, x, t, noise=noise, sample_weight=sample_weight
        )
        params, state = self.optimizer.update(params, grads, state, donate=self.donate)
        return params if running is None else params.replace(running=running), state, value

    def compute(
        self,
        params: Parameters,
        slots: dict[str, Parameters],
        mask: Parameters | None,
        numbers: Numbers,
        batch: Mapping[str, Any],
    ) -> tuple[Parameters, dict[str, Parameters], Array]:
        """Run a step as a function of arrays alone, which can be compiled.

        Parameters
        ----------
        params : Parameters
            The parameters.
        slots, mask
            Those of the optimizer's state.
        numbers
            What `Optimizer.numbers` returned, or the same in arrays of shape ().
        batch : dict
            What `batch` returned.

        Returns
        -------
        params : Parameters
            Updated parameters.
        slots : dict of str to Parameters
            Updated slots.
        value : array, shape ()
            The loss before the update.
        """
        value, grads, running = self.gradient(params, **batch)
        params, slots = self.optimizer.apply(params, grads, slots, mask, numbers)
        return params.replace(running=running), slots, value

    @staticmethod
    @usage("step(params, state, x, t)")
    def batch(
        x: Array, t: Array, *, noise: Any = None, sample_weight: Array | None = None
    ) -> dict[str, Any]:
        """Return the parts of a batch as a dict, under their names."""
        return {"x": x, "t": t, "noise": noise, "sample_weight": sample_weight}


@usage("make_step(net, loss, optimizer)")
def make_step(
    net: Layer, loss: Loss, optimizer: Optimizer, *, accumulate: int = 1, donate: bool = False
) -> Step:
    """Return the function that does one training step.

    Parameters
    ----------
    net : Layer
        The network.
    loss : Loss
        The loss to minimize.
    optimizer : Optimizer
        The optimizer that updates the parameters.
    accumulate : int >= 1
        Number of parts that a batch is split into, so that only one part's activations are in
        memory at a time. The gradient is that of the whole batch; a BatchNorm sees each part on its
        own.
    donate : bool
        Whether a step may store its results in the buffers of the parameters and the state that it
        is given, where the backend can write into arrays.

    Returns
    -------
    Step
        ``(params, state, x, t, *, noise=None, sample_weight=None) -> (params, state, value)``.

    Raises
    ------
    TypeError
        `net`, `loss` or `optimizer` is not one, `accumulate` is not a whole number, or `donate` is
        neither True nor False.
    ValueError
        `accumulate` is below 1.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net, opt = ap.MLP([2, 4, 2]), ap.SGD(lr=0.5)
    >>> params = net.init(seed=0)
    >>> step = make_step(net, ap.SoftmaxCrossEntropy(), opt)
    >>> x, t = np.asarray([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32), np.asarray([0, 1])
    >>> state = opt.init(params)
    >>> for _ in range(200):
    ...     params, state, value = step(params, state, x, t)
    >>> bool(value < 0.02)
    True
    """
    gradient: Gradient = value_and_grad(net, loss, running=True)
    check_optimizer(optimizer)
    if count("make_step", "accumulate", accumulate) > 1:
        gradient = _Accumulated(gradient, loss, accumulate)

    return Step(gradient, optimizer, flag("make_step", "donate", donate))


@dataclass(frozen=True)
class _Accumulated:
    """Computes what `gradient` does, in parts."""

    gradient: Gradient
    loss: Loss
    parts: int

    def __call__(
        self,
        params: Parameters,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Array, Parameters, Array | None]:
        check_batch(params, x, t)
        n = x.shape[0]
        parts = max(1, min(self.parts, n))
        edges = [n * i // parts for i in range(parts + 1)]
        rows = [slice(a, b) for a, b in pairwise(edges)]
        ts = [t[r, ...] for r in rows]
        weights = [None if sample_weight is None else sample_weight[r] for r in rows]
        xp, dtype = params.xp, params.flat.dtype
        totals = [
            self.loss.total_weight(part, weight, dtype=wide_dtype(xp, dtype))
            for part, weight in zip(ts, weights, strict=True)
        ]
        value: Any = 0.0
        flat: Any = 0.0
        grads = running = None
        for r, part, weight, share in zip(rows, ts, weights, _shares(xp, totals), strict=True):
            value_i, grads, running = self.gradient(
                params, x[r, ...], part, noise=noise_of_rows(r, noise), sample_weight=weight
            )
            value = value + share * widened(xp, value_i)
            flat = flat + share * widened(xp, grads.flat)
            params = params.replace(running=running)
        assert grads is not None
        if flat.dtype != dtype:
            value, flat = xp.astype(value, dtype), xp.astype(flat, dtype)
        return value, grads.replace(flat=flat), running


def _shares(xp: Namespace, totals: list[Any]) -> list[Any]:
    """Divide the total weights of the parts by their sum; without any weight return 0, as in a loss."""
    total = or_one(xp, sum(totals))
    return [w / total for w in totals]


def noise_of_rows(rows: slice, noise: Any) -> Any:
    """Return what a network's `noise` drew for some rows of a batch."""
    return _tree.map_leaves(lambda drawn: None if drawn is None else drawn[rows, ...], noise)
