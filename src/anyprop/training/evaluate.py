"""A network at work: its predictions, and how good they are.

    loss     = sum_i W_i value_i / sum_i W_i        batch i has the total weight W_i
    accuracy = (rows predicted right) / N

so the results do not depend on the batches, which only bound the memory. Rows are counted in whole
numbers, and sums over batches are taken on the host, in float64. The network computes as it does after
training: no dropout, and running statistics instead of a batch's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from anyprop._checks import check_rows, count
from anyprop._numerics import cast, wide_dtype
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import keep_freed_memory, on_device_of, read
from anyprop.description import settings_of
from anyprop.distributed.communicator import Communicator, agreeing
from anyprop.distributed.serial import chosen
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, check_loss
from anyprop.network import check_params
from anyprop.parameters import Parameters
from anyprop.sources import Source, Stream
from anyprop.training._data_checks import check_beside, check_total
from anyprop.training.examples import Examples, Passing, Read, Stored, examples_of
from anyprop.training.ranks import Ranks
from anyprop.training.reader import Reader
from anyprop.training.together import passes


class Evaluation(NamedTuple):
    """How good a network's predictions are.

    Parameters
    ----------
    loss : float
        Mean loss over all examples.
    accuracy : float in [0, 1] or None
        Share of the examples that are predicted right; None where that has no meaning.
    """

    loss: float
    accuracy: float | None


@usage("evaluate(net, params, (x, t), loss=...)")
def evaluate(
    net: Layer,
    params: Parameters,
    data: tuple[Array, Array] | Source | Stream,
    *,
    loss: Loss,
    batch_size: int = 1000,
    communicator: Communicator | None = None,
) -> Evaluation:
    """Measure a network on examples.

    Parameters
    ----------
    net : Layer
        The network.
    params : Parameters
        Its parameters.
    data : (x, t), Source or Stream
        Examples x, shape (N, D), and targets t as the loss takes them, beside the parameters, as for
        `fit`. Or a source of them, which is read in order, ahead of the work, and whose weights weigh
        the loss; or a stream, of which the batches of epoch 0 are taken.
    loss : Loss
        The loss to measure.
    batch_size : int >= 1
        Rows in one forward pass.
    communicator : Communicator, optional
        The ranks of a job: each measures its share of the examples, and all get the result of the
        whole.

    Returns
    -------
    Evaluation
        ``(loss, accuracy)``, read from the device once, at the end.

    Raises
    ------
    TypeError
        Arrays of different namespaces or devices, x of a dtype that the parameters' does not hold, or
        `params` is something else.
    ValueError
        The parameters are not those of the network, there are no examples or none of them has a
        weight, x or t holds a NaN or an infinity, or shapes or targets do not fit. What one rank
        refuses, all refuse, also where they were given different arguments.
    RuntimeError
        Another rank failed; the message names it and its error.
    Exception
        Whatever reading a source raises, as it was raised, with a note that names the rows.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net = ap.Affine(2, 2)
    >>> params = net.init(weights="zeros")
    >>> x, t = np.eye(2, dtype=np.float32), np.asarray([0, 1])
    >>> evaluate(net, params, (x, t), loss=ap.SoftmaxCrossEntropy()).accuracy
    0.5
    """
    communicator = chosen(communicator)
    ranks = Ranks(communicator)
    with on_device_of(params.flat if isinstance(params, Parameters) else None):
        with ranks.agreeing(refusing=True):
            check_params(net, params)
            batch_size = count("evaluate", "batch_size", batch_size)
            examples: Examples
            if isinstance(data, Stream):
                check_loss(loss)
                if ranks.several:
                    raise ValueError("a Stream is for one process; give the ranks a Source.")
                examples = Passing("data", data, net, params, loss)
            else:
                examples = stored = examples_of("data", data, net, params, loss)
                seen = stored.ends if ranks.several else None
        if ranks.several:
            given = {"layout": params.layout, "loss": settings_of(loss), "examples": len(stored)}
            ranks.check_same("evaluate", given | {"rows at the ends of data": seen})
        return measured(net, params, examples, loss, batch_size, communicator)


def measured(
    net: Layer,
    params: Parameters,
    examples: Examples,
    loss: Loss,
    batch_size: int,
    communicator: Communicator,
) -> Evaluation:
    """Compute `evaluate` on examples that were checked before."""
    with agreeing(communicator):
        sums = _sums(net, params, examples, loss, batch_size, communicator)
    weighted, total, n, hits, known = communicator.all_reduce(sums).tolist()
    check_total(examples.name, total)  # which is known of arrays before
    return Evaluation(weighted / total, hits / n if known else None)


def monitors(
    net: Layer, params: Parameters, loss: Loss, validation: Stored | None
) -> tuple[str, ...]:
    """Name the fields of `EpochRecord` that a run will measure; one row shows which there are."""
    if validation is None:
        return ("train_loss",)
    first = validation.first
    with np.errstate(all="ignore"):
        if loss.correct(_forward(net, params, first["x"]), first["t"]) is None:
            return ("train_loss", "validation_loss")
    return ("train_loss", "validation_loss", "validation_accuracy")


def _sums(
    net: Layer,
    params: Parameters,
    examples: Examples,
    loss: Loss,
    batch_size: int,
    communicator: Communicator,
) -> Any:
    """Add up weighted losses, weights, rows and hits of this rank; return also if there are hits."""
    xp = params.xp
    losses: list[float] = []
    weights: list[float] = []
    hits: list[float] = []
    n = 0
    with closing(examples.portions(batch_size, communicator)) as portions:
        for portion in portions:
            values, totals, right = [], [], []
            for batch in portion:
                x, t, weight = batch["x"], batch["t"], batch["sample_weight"]
                n += x.shape[0]
                y = _forward(net, params, x)
                value = loss.forward(y, t, sample_weight=weight)[0]
                values.append(value)
                totals.append(loss.total_weight(t, weight, dtype=wide_dtype(xp, value.dtype)))
                correct = loss.correct(y, t)
                if correct is not None:
                    right.append(xp.sum(xp.astype(correct, xp.int32)))
            numbers = read(values + totals + right)
            k = len(values)
            losses += numbers[:k]
            weights += numbers[k : 2 * k]
            hits += numbers[2 * k :]
    weighted = [v * w for v, w in zip(losses, weights, strict=True)]
    return np.asarray([sum(weighted), sum(weights), n, sum(hits), bool(hits)], dtype="float64")


@usage("predict(net, params, x)")
def predict(net: Layer, params: Parameters, x: Array | Source, *, batch_size: int = 1000) -> Array:
    """Compute a network's outputs, batch by batch.

    Parameters
    ----------
    net : Layer
        The network.
    params : Parameters
        Its parameters.
    x : array, shape (N, D), or Source
        Examples, beside the parameters, of their dtype or of one that it holds, as for `fit`. A NaN in a
        row makes that row's outputs NaN where the network's arithmetic does; `predict` does not look for
        it. Of a source, which is read in order, ahead of the work, the targets are ignored.
    batch_size : int >= 1
        Rows in a batch. On NumPy the layers take several small batches at a time, with the results
        of each by itself.

    Returns
    -------
    array, shape (N, K)
        The outputs: logits, where the network was trained with a cross entropy.

    Raises
    ------
    TypeError
        x belongs to another namespace or device or has a dtype that the parameters' does not hold, or
        `params` is something else.
    ValueError
        The parameters are not those of the network, or the shape of x does not fit.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net = ap.MLP([3, 4, 2])
    >>> predict(net, net.init(seed=0), np.zeros((5, 3), dtype=np.float32)).shape
    (5, 2)
    """
    batch_size = count("predict", "batch_size", batch_size)
    check_params(net, params)
    if isinstance(x, Stream):
        raise TypeError(
            "predict: x must be an array or a Source, not a Stream; call predict for each batch."
        )
    if not isinstance(x, Source):
        check_beside(params, x=x)
        if not x.shape:
            raise ValueError("predict: x is one number; it needs a row for each example.")
    with on_device_of(params.flat):
        if not isinstance(x, Source):
            if x.shape[0] <= batch_size:
                return _forward(net, params, x)
            width = getattr(net, "width_in", None)
            if width is not None:  # before there are batches, whose shapes are not that of x
                check_rows("x", x, width)
            return _joined(params, passes(net, params, x, batch_size))
        examples = Read(Reader("x", x, net, params, None))
        with closing(examples.portions(batch_size, chosen(None))) as portions:
            return outputs(net, params, (b["x"] for portion in portions for b in portion))


def outputs(net: Layer, params: Parameters, parts: Iterable[Array]) -> Array:
    """Compute `predict` on examples that were checked before, given in parts."""
    return _joined(params, ((net, x) for x in parts))


def _joined(params: Parameters, passes: Iterable[tuple[Layer, Array]]) -> Array:
    ys = [_forward(net, params, x) for net, x in passes]
    return ys[0] if len(ys) == 1 else params.xp.concat(ys)


def _forward(net: Layer, params: Parameters, x: Array) -> Array:
    """Compute y, keeping nothing for a backward pass; what only acts as a layer may lack a call."""
    keep_freed_memory(params.flat)
    x = cast(params.xp, x, params.flat.dtype)
    return net(params, x) if isinstance(net, Layer) else net.forward(params, x)[0]
