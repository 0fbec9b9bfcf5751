"""SyncBatchNorm: BatchNorm over the rows of all ranks.

    mu = sum_r sum_n x_n / sum_r N_r                         and likewise v and the means of backward

so R ranks standardize by the statistics of the whole batch, as one rank does. Each mean costs a small
all-reduce: two in `forward_train`, and one for both means of `backward`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from anyprop._typing import Array, Residuals
from anyprop.backend import create, namespace
from anyprop.distributed.communicator import Communicator, all_reduce
from anyprop.distributed.serial import SerialCommunicator
from anyprop.layers.base import Layer
from anyprop.layers.batch_norm import BatchNorm
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class SyncBatchNorm(BatchNorm):
    """A BatchNorm whose batch is spread over the ranks of a communicator.

    Parameters
    ----------
    d, momentum, eps
        As in `BatchNorm`.
    communicator : Communicator
        The ranks; every one of them calls `forward_train` and `backward`, also with no rows.
    """

    _: KW_ONLY
    communicator: Communicator = field(default_factory=SerialCommunicator, compare=False)

    def _batch_means(self, *arrays: Array) -> tuple[list[Array], Any]:
        xp = namespace(*arrays)
        n = create(xp.full, (1,), float(arrays[0].shape[0]), like=arrays[0], dtype=arrays[0].dtype)
        message = xp.concat([*(xp.sum(a, axis=0) for a in arrays), n])
        sums = all_reduce(self.communicator, message)
        n = sums[-1:]
        means = sums / xp.maximum(n, 1.0)
        return [means[i * self.d : (i + 1) * self.d] for i in range(len(arrays))], n

    def _batch_variance(self, centred: Array, n: Any) -> Array:
        xp = namespace(centred)
        scaled = centred / xp.sqrt(xp.maximum(n, 1.0))
        return all_reduce(self.communicator, xp.sum(scaled * scaled, axis=0))

    def updated_running(self, params: Parameters, residuals: Residuals) -> Mapping[str, Array]:
        if residuals.batch is None:
            return super().updated_running(params, residuals)
        mu, v, n = residuals.batch
        xp = namespace(mu)
        # What BatchNorm decides by an if; here the number of rows is an array, and stays unread.
        new = self.momentum * xp.astype(n >= 2.0, mu.dtype)
        return self._mixed(params, new, mu, (n / xp.maximum(n - 1.0, 1.0)) * v)


def synchronized(net: Layer, communicator: Communicator) -> Layer:
    """Replace every BatchNorm of a network by a `SyncBatchNorm`.

    Parameters
    ----------
    net : Layer
        The network; the children of every layer are searched, all the way down. A layer of your own
        that computes statistics of the batch keeps those of its rank.
    communicator : Communicator
        The ranks.

    Returns
    -------
    Layer
        A network with the same parameters; `net` itself if there is only one rank.

    Examples
    --------
    >>> import anyprop as ap
    >>> net = ap.MLP([4, 3, 2], norm="batch")
    >>> synchronized(net, SerialCommunicator()) is net
    True
    """
    if communicator.size == 1:
        return net
    if type(net) is BatchNorm:
        return SyncBatchNorm(net.d, net.momentum, net.eps, communicator=communicator)
    children = net.children()
    return net.with_children(
        {name: synchronized(child, communicator) for name, child in children.items()}
    )
