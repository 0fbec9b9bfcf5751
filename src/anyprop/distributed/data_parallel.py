"""Data parallelism: every rank computes the gradient of its rows, and all do the same update.

    message_r = [ sum_n dW_n | sum_n w_n l_n | sum_n w_n ]          over the rows n of rank r
    message   = sum_r message_r                                     one all-reduce
    g         = message[:P] / message[P+1],  value = message[P] / message[P+1]

w are the weights that the loss gives its rows, 1 if there are none. Sums are what add up: the quotient
at the end is exact for shares of any sizes and weights, and for empty ones; a mean of the ranks' means
is not. The parts that a batch is split into to save memory add up likewise, before the all-reduce.
For parameters in 16 bits, whose sums may overflow where their means do not, messages are in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._numerics import cast, or_one, wide_dtype, widened
from anyprop._typing import Array
from anyprop.backend import concatenated, create, namespace
from anyprop.distributed.communicator import Communicator, all_reduce
from anyprop.distributed.sync_batch_norm import synchronized
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.network import value_and_grad
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, map_vectors


@dataclass(frozen=True)
class DataParallelStep:
    """One training step on several ranks; call it on all of them.

    ``(params, state, parts) -> (params, state, value)``: parts is a sequence of dicts, each with this
    rank's ``x`` and ``t`` of one part of the batch and, if any, ``noise`` and ``sample_weight``, as
    `value_and_grad` takes them. All ranks pass the same number of parts. value is the loss of the
    whole batch.

    Parameters
    ----------
    local : callable
        ``(params, x, t, *, noise, sample_weight) -> (message, running)``: what this rank's rows add to
        the message, and the new running statistics, None if there are none.
    optimizer : Optimizer
        Updates the parameters, on all ranks alike.
    communicator : Communicator
        The ranks.
    observe : callable, optional
        Called with the sum of the losses of this rank's rows, of shape (), before the all-reduce.
    """

    local: Callable[..., tuple[Array, Array | None]]
    optimizer: Optimizer
    communicator: Communicator
    observe: Callable[[Array], object] | None = None

    def __call__(
        self, params: Parameters, state: OptimizerState, parts: Sequence[Mapping[str, Any]]
    ) -> tuple[Parameters, OptimizerState, Array]:
        value, grads, running = self.gradient(params, parts)
        params, state = self.optimizer.update(params, grads, state)
        return params.replace(running=running), state, value

    def compute(
        self,
        params: Parameters,
        slots: dict[str, Parameters],
        mask: Parameters | None,
        numbers: Numbers,
        batch: Sequence[Mapping[str, Any]],
    ) -> tuple[Parameters, dict[str, Parameters], Array]:
        """Run a step as a function of arrays, which can be compiled; see `Step.compute`."""
        message, running = self.summed(params, batch)
        return self.finished(params, slots, mask, numbers, all_reduce(self, message), running)

    @staticmethod
    def batch(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """List the parts of a batch as dicts."""
        return [dict(part) for part in parts]

    def gradient(
        self, params: Parameters, parts: Sequence[Mapping[str, Any]]
    ) -> tuple[Array, Parameters, Array | None]:
        """Compute the loss of the whole batch, its gradient, and the new running statistics."""
        message, running = self.summed(params, parts)
        return *self.means(params, all_reduce(self, message)), running

    def summed(
        self, params: Parameters, parts: Sequence[Mapping[str, Any]]
    ) -> tuple[Array, Array | None]:
        """Add up the messages of this rank's parts; the running statistics go from part to part."""
        if not parts:
            raise ValueError("a step needs at least one part of a batch; it may be empty.")
        message, running = self.local(params, **parts[0])
        for part in parts[1:]:
            params = params.replace(running=running)
            summand, running = self.local(params, **part)
            message = message + summand
        return message, running

    def all_reduce(self, message: Array) -> Array:
        """Add up the messages of all ranks, as a communicator does."""
        if self.observe is not None:
            self.observe(namespace(message).asarray(message[-2, ...], copy=True))
        return self.communicator.all_reduce(message)

    def finished(
        self,
        params: Parameters,
        slots: dict[str, Parameters],
        mask: Parameters | None,
        numbers: Numbers,
        message: Array,
        running: Array | None,
    ) -> tuple[Parameters, dict[str, Parameters], Array]:
        """Run what follows the all-reduce: the update by the sum of all messages."""
        value, grads = self.means(params, message)
        params, slots = self.optimizer.apply(params, grads, slots, mask, numbers)
        return params.replace(running=running), slots, value

    def means(self, params: Parameters, message: Array) -> tuple[Array, Parameters]:
        """Compute the loss and the gradient from the sum of all messages."""
        xp = namespace(message)
        total = or_one(xp, message[-1:])
        means = cast(xp, message[:-1] / total, params.flat.dtype)
        return xp.reshape(means[-1:], ()), Parameters(params.layout, means[:-1])


def make_data_parallel_step(
    net: Layer,
    loss: Loss,
    optimizer: Optimizer,
    communicator: Communicator,
    *,
    observe: Callable[[Array], object] | None = None,
) -> DataParallelStep:
    """Return the function that does one training step on several ranks.

    Parameters
    ----------
    net : Layer
        The network. Each BatchNorm takes its statistics over the rows of all ranks.
    loss : Loss
        The loss to minimize.
    optimizer : Optimizer
        The optimizer that updates the parameters; it clips the gradient of the whole batch.
    communicator : Communicator
        The ranks. They start from the same parameters and state: see `broadcast_parameters`.
    observe : callable, optional
        Called in every step with the sum of the losses of this rank's rows, of shape ().

    Returns
    -------
    DataParallelStep
        ``(params, state, parts) -> (params, state, value)``.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> from anyprop.distributed import SerialCommunicator, shares
    >>> net, opt, communicator = ap.MLP([2, 4, 2]), ap.SGD(lr=0.5), SerialCommunicator()
    >>> params = net.init(seed=0)
    >>> step = make_data_parallel_step(net, ap.SoftmaxCrossEntropy(), opt, communicator)
    >>> x, t = np.asarray([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32), np.asarray([0, 1])
    >>> mine = [{"x": x[rows], "t": t[rows]} for rows in shares(2, communicator)]
    >>> state = opt.init(params)
    >>> for _ in range(200):
    ...     params, state, value = step(params, state, mine)
    >>> bool(value < 0.02)
    True
    """
    gradient = value_and_grad(synchronized(net, communicator), loss, running=True)

    def local(
        params: Parameters,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Array, Array | None]:
        xp = params.xp
        dtype = wide_dtype(xp, params.flat.dtype)
        narrow = dtype != params.flat.dtype
        total = loss.total_weight(t, sample_weight, dtype=dtype)
        value, grads, running = gradient(
            params,
            x,
            t,
            noise=noise,
            sample_weight=sample_weight,
            dvalue=1.0 if narrow else total,
        )
        if not hasattr(total, "dtype"):
            total = create(xp.full, (), total, like=value, dtype=dtype)
        flat = widened(xp, grads.flat) * total if narrow else grads.flat
        sums = [xp.reshape(number, (1,)) for number in (widened(xp, value) * total, total)]
        return concatenated([flat, *sums]), running

    return DataParallelStep(local, optimizer, communicator, observe)


def broadcast_parameters(
    params: Parameters, state: OptimizerState, communicator: Communicator
) -> tuple[Parameters, OptimizerState]:
    """Return on every rank the parameters and the optimizer's state of rank 0.

    Parameters
    ----------
    params : Parameters
        This rank's parameters, of the same layout on all ranks; left as they are.
    state : OptimizerState
        Their optimizer state, with the same slots on all ranks, and a mask on all or on none.
    communicator : Communicator
        The ranks.

    Returns
    -------
    params, state
        Those of rank 0, in arrays of their own.
    """

    def of_rank_0(array: Array) -> Array:
        return communicator.broadcast(namespace(array).asarray(array, copy=True))

    numbers = communicator.broadcast(np.asarray([float(state.step), float(state.lr_scale)]))
    # By name, for in a dict that was given they may come in another order.
    slots = {name: _tree.map_leaves(of_rank_0, state.slots[name]) for name in sorted(state.slots)}
    mask = state.decay_mask
    mask = None if mask is None else _tree.map_leaves(of_rank_0, mask)
    return (
        map_vectors(params, of_rank_0),
        OptimizerState(int(numbers[0]), float(numbers[1]), slots, mask),
    )
