"""Networks, and the gradient of a loss with respect to their parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from anyprop import _tree
from anyprop._autograd import unrecorded
from anyprop._checks import choice, count, each, flag, fraction, is_scalar_array, kind, pair, real
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import (
    check_same_place,
    concatenated,
    device_of,
    dtype_name,
    from_host,
    keep_freed_memory,
    on_device_of,
    reshaped,
)
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer, check_layer, layout_of
from anyprop.layers.batch_norm import BatchNorm
from anyprop.layers.dropout import Dropout
from anyprop.layers.layer_norm import LayerNorm
from anyprop.layers.registry import get_activation
from anyprop.layers.residual import Residual
from anyprop.layers.sequential import Sequential, flat_pieces
from anyprop.losses.base import Loss, check_loss, check_mean
from anyprop.parameters import Parameters, check_kind

_NORMS: dict[str, Callable[[int], Layer]] = {"batch": BatchNorm, "layer": LayerNorm}


@usage("MLP([784, 200, 10]), all sizes in one list")
def MLP(
    sizes: Sequence[int],
    activation: str | Layer | type[Layer] = "relu",
    *,
    norm: str | None = None,
    dropout: float = 0.0,
    residual: bool = False,
) -> Sequential:
    """Build a multilayer perceptron.

    Each hidden block is Affine, norm, activation, Dropout, the last three only if asked for; a bare
    Affine follows the last of them, so that the network outputs logits or real numbers. An Affine
    followed by a BatchNorm has no bias, as that would be subtracted again.

    Parameters
    ----------
    sizes : sequence of int >= 1
        Input width, units of each hidden block, output width; at least two.
    activation : str, Layer or subclass of Layer
        What the hidden blocks apply: a name such as ``"relu"`` or ``"leaky_relu"``, a layer such as
        ``LeakyReLU(0.3)``, which all of them share, or its class.
    norm : {"batch", "layer"}, optional
        BatchNorm or LayerNorm between Affine and activation; none by default.
    dropout : float in [0, 1)
        Probability that a hidden unit is dropped while training; 0 for no Dropout layers.
    residual : bool
        Whether each hidden block that keeps the width becomes a `Residual`.

    Returns
    -------
    Sequential
        The network.

    Raises
    ------
    TypeError
        A size is not a whole number, activation is neither a name nor a layer, dropout is not a
        number, or residual is neither True nor False.
    ValueError
        Fewer than two sizes, one below 1, an unknown activation or norm, or dropout outside [0, 1).

    Examples
    --------
    >>> MLP([784, 200, 10])
    Sequential(Affine(d=784, m=200, bias=True), ReLU(), Affine(d=200, m=10, bias=True))
    >>> list(MLP([4, 8, 8, 2], residual=True).init().named())
    ['0.W', '0.b', '2.0.W', '2.0.b', '3.W', '3.b']
    """
    sizes = each(count)("MLP", "sizes", sizes)
    if len(sizes) < 2:
        raise ValueError(
            f"MLP: sizes needs an input and an output width, as in [784, 10]; got {list(sizes)}."
        )
    if norm is not None:
        choice("norm", norm, _NORMS)
    act, rate = _activation(activation), fraction("MLP", "dropout", dropout)
    residual = flag("MLP", "residual", residual)

    layers: list[Layer] = []
    for d, m in pairwise(sizes[:-1]):
        block: list[Layer] = [Affine(d, m, bias=norm != "batch")]
        if norm is not None:
            block.append(_NORMS[norm](m))
        block.append(act)
        if rate:
            block.append(Dropout(rate))
        layers += [Residual(Sequential(*block))] if residual and d == m else block
    return Sequential(*layers, Affine(sizes[-2], sizes[-1]))


def _activation(activation: Any) -> Layer:
    if isinstance(activation, Layer):
        return activation
    if not (isinstance(activation, type) and issubclass(activation, Layer)):
        return get_activation(activation)()
    try:
        return activation()
    except TypeError:
        raise TypeError(
            "MLP: activation must be a layer, or a class that needs no arguments, not "
            f"{kind(activation)}."
        ) from None


def noise_beside(params: Parameters, noise: Any) -> Any:
    """Move what a network's `noise` drew on the host to where its parameters are."""
    xp, device = params.xp, device_of(params.flat)

    def move(array: Any) -> Any:
        return None if array is None else from_host(array, xp, device=device)

    return _tree.map_leaves(move, noise)


@usage("value_and_grad(net, loss)(params, x, t)")
def value_and_grad(net: Layer, loss: Loss, *, running: bool = False) -> Callable[..., Any]:
    """Return the function that computes a network's loss and its gradient.

    Parameters
    ----------
    net : Layer
        Usually a `Sequential`; it computes as it does while training.
    loss : Loss
        Compares its predictions with targets.
    running : bool
        Whether the new running statistics come as a third result. A network that has any, as one with
        a BatchNorm has, must be asked for them: without them it would predict wrongly. They are part of
        the parameters: ``params = params.replace(running=running)``.

    Returns
    -------
    callable
        ``(params, x, t, *, noise=None, sample_weight=None, dvalue=1.0) -> (value, grads)``, or
        ``-> (value, grads, running)``.

        x has the shape (N, D) and the dtype of the parameters, t is as the loss takes it, noise comes
        from `noise_beside`, sample_weight has the shape (N,); dvalue, a number or an array of shape (),
        is the gradient of whatever follows with respect to value.

        value is the mean loss, an array of shape (); grads are the gradients, laid out as the
        parameters are; running are the new running statistics, of shape (R,), or None if the network
        has none.

    Raises
    ------
    TypeError
        `net` is not a layer or `loss` is not a loss. When called: arrays of different namespaces,
        devices or floating dtypes.
    ValueError
        `net` has running statistics and `running` is False. When called: shapes that do not fit.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net = ap.Affine(2, 3)
    >>> params = net.init(weights="zeros", dtype="float64")
    >>> f = value_and_grad(net, ap.SoftmaxCrossEntropy())
    >>> value, grads = f(params, np.asarray([[1.0, 0.0]]), np.asarray([0]))
    >>> round(float(value), 4), grads.b.round(2)
    (1.0986, array([-0.67,  0.33,  0.33]))

    A step of your own with a BatchNorm:

    >>> net, optimizer = ap.MLP([2, 4, 3], norm="batch"), ap.SGD()
    >>> params = net.init()
    >>> state = optimizer.init(params)
    >>> f = value_and_grad(net, ap.SoftmaxCrossEntropy(), running=True)
    >>> x = np.asarray([[1.0, 0.0], [0.0, 2.0]], dtype="float32")
    >>> value, grads, running = f(params, x, np.asarray([0, 1]))
    >>> params, state = optimizer.update(params, grads, state)
    >>> params = params.replace(running=running)
    """
    check_layer(net)
    check_loss(loss)
    running = flag("value_and_grad", "running", running)
    if not running and layout_of(net).size(trainable=False):
        raise ValueError(
            "value_and_grad: net keeps running statistics, as BatchNorm does; give running=True, take "
            "(value, grads, running) from each call, and go on with params.replace(running=running)."
        )
    return ValueAndGrad(net, loss, running)


@dataclass(frozen=True)
class ValueAndGrad:
    """The function that `value_and_grad` returns; two of the same network and loss are equal."""

    net: Layer
    loss: Loss
    running: bool

    @usage("value_and_grad(net, loss)(params, x, t)")
    @unrecorded
    def __call__(
        self,
        params: Parameters,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
        dvalue: Any = 1.0,
    ) -> tuple[Any, ...]:
        check_batch(params, x, t)
        if type(dvalue) is not float and not is_scalar_array(dvalue):
            dvalue = real("value_and_grad", "dvalue", dvalue)
        p = params._any
        keep_freed_memory(p)
        with on_device_of(p):
            y, residuals = pair(self.net, "forward", self.net.forward_train(params, x, noise))
            of_loss = self.loss.forward(y, t, sample_weight=sample_weight)
            value, kept = check_mean(self.loss, of_loss)
            dy = self.loss.backward(kept, dvalue)
            grads = self.net.backward_params(params, residuals, dy)
            if not isinstance(grads, Parameters):
                grads = params._joined(flat_pieces(params, grads))
            if not self.running:
                return value, grads
            return value, grads, _running(self.net, params, residuals)


def check_batch(params: Parameters, x: Array, t: Array) -> None:
    """Raise unless parameters and batch are in the same place and x has the parameters' dtype."""
    check_kind(params)
    check_running(params)
    p = params._any
    check_same_place([("params", p), ("x", x), ("t", t)])
    if x.dtype != p.dtype:
        raise wrong_dtype(params, x)


def wrong_dtype(params: Parameters, x: Array) -> TypeError:
    """Return the error for x of a dtype that does not go with the parameters'."""
    given, wanted = dtype_name(x), dtype_name(params._any)
    advice = f"cast x to {wanted}"
    if "float" in given:  # and not ">f4": parameters have the machine's byte order
        advice += f", or create the parameters with net.init(dtype={given!r})"
    return TypeError(f"x is {given}, but the parameters are {wanted}; {advice}.")


def check_params(net: Layer, params: Parameters) -> None:
    """Raise unless the parameters are those of this network."""
    check_kind(params)
    check_layer(net)
    wanted = layout_of(net)
    if params.layout != wanted:
        ours, theirs = (
            [f"{e.name} {e.shape}" for e in layout.entries] for layout in (wanted, params.layout)
        )
        missing = [entry for entry in ours if entry not in theirs]
        surplus = [entry for entry in theirs if entry not in ours]
        raise ValueError(
            f"params do not match net: missing {', '.join(missing) or 'nothing'}, unexpected "
            f"{', '.join(surplus) or 'nothing'}; create them with net.init()."
        )
    check_running(params)


def check_running(params: Parameters) -> None:
    """Raise ValueError if parameters lack the running statistics that their layout has."""
    if params.running is None and params.layout.size(trainable=False):
        raise ValueError("params lack the running statistics of net; create them with net.init().")


def _running(net: Layer, params: Parameters, residuals: Any) -> Array | None:
    if params.running is None:
        return None
    updated = net.updated_running(params, residuals)
    names = [entry.name for entry in params.layout.entries if not entry.trainable]
    if missing := [name for name in names if name not in updated]:
        raise ValueError(
            f"updated_running of {type(net).__name__} lacks {', '.join(missing)}; a layer made of "
            "others returns what theirs return, under the names that specs() has."
        )
    return concatenated([reshaped(updated[name], (-1,)) for name in names])
