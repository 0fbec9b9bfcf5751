"""Networks as scikit-learn's perceptrons, and back.

    anyprop             scikit-learn
    Affine    W (D, M)  coefs_ (D, M)
              b         intercepts_

`anyprop.sklearn`'s own estimators have norms too, in `norms_`; scikit-learn's have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import few
from anyprop._typing import Array, Namespace
from anyprop._usage import usage
from anyprop.backend import to_host
from anyprop.interchange.arrays import parameters_of
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer, check_layer
from anyprop.layers.dropout import Dropout
from anyprop.layers.registry import ACTIVATIONS
from anyprop.layers.sequential import Sequential
from anyprop.layout import Layout
from anyprop.network import MLP, check_params
from anyprop.parameters import Parameters

OF_SKLEARN = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
"""scikit-learn's name of an activation -> ours."""


@usage("to_sklearn(net, params)")
def to_sklearn(net: Layer, params: Parameters) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the weights and biases of a network as scikit-learn's perceptrons hold them.

    Parameters
    ----------
    net : Layer
        A chain of `Affine` layers with biases and one kind of activation between them: ReLU, Tanh,
        Sigmoid or Identity. `Dropout` is ignored. An estimator that takes the arrays needs the
        activation by its name, and `out_activation_` says what it applies to the outputs.
    params : Parameters
        Its parameters, from any backend and device.

    Returns
    -------
    coefs_ : list of numpy.ndarray, shape (D, M)
        W of every Affine.
    intercepts_ : list of numpy.ndarray, shape (M,)
        b of every Affine.

    Raises
    ------
    TypeError
        `params` is something else.
    ValueError
        The network has a layer for which scikit-learn has no place, which the message names, or the
        parameters are not those of the network.

    Examples
    --------
    >>> import anyprop as ap
    >>> net = ap.MLP([4, 3, 2])
    >>> coefs, intercepts = to_sklearn(net, net.init(seed=8))
    >>> [W.shape for W in coefs], [b.shape for b in intercepts]
    ([(4, 3), (3, 2)], [(3,), (2,)])
    """
    check_layer(net)
    layers = [(name, layer) for name, layer in _chain(net) if type(layer) is not Dropout]
    _check_sklearn([layer for _, layer in layers])
    check_params(net, params)
    prefixes = [prefix for prefix, layer in layers if isinstance(layer, Affine)]
    named = {name: np.array(to_host(array)) for name, array in params.named().items()}
    return [named[f"{p}W"] for p in prefixes], [named[f"{p}b"] for p in prefixes]


@usage("from_sklearn(estimator)")
def from_sklearn(
    estimator: Any,
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> tuple[Sequential, Parameters]:
    """Return the network of a fitted perceptron of scikit-learn or estimator of `anyprop.sklearn`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted, scikit-learn's or anyprop's.
    xp : namespace or str, optional
        Backend of the parameters; NumPy by default.
    device : str or device, optional
        Device of the parameters; the backend's default by default.
    dtype : str, optional
        Dtype of the parameters; the estimator's by default.

    Returns
    -------
    net : Sequential
        The network, with the norms and the dropout of anyprop's estimators. It ends where the last
        weights do: what ``estimator.out_activation_`` names (softmax for several classes, the sigmoid
        for two classes or several labels, the exponential for ``loss="poisson"``) is part of the loss
        here, of `SoftmaxCrossEntropy`, `SigmoidCrossEntropy` and `PoissonNLL`.
    params : Parameters
        Its parameters.

    Raises
    ------
    TypeError
        The estimator has no weights, because it is something else or not fitted.
    ValueError
        Its activation is unknown here, its arrays are not those of one network, or it saw one class
        only, which it predicts whatever the network says.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> fitted = SimpleNamespace(
    ...     coefs_=[np.ones((4, 3)), np.ones((3, 2))],
    ...     intercepts_=[np.zeros(3), np.zeros(2)],
    ...     activation="relu",
    ... )
    >>> from_sklearn(fitted)[0]
    Sequential(Affine(d=4, m=3, bias=True), ReLU(), Affine(d=3, m=2, bias=True))
    """
    if not all(hasattr(estimator, name) for name in ("coefs_", "intercepts_", "activation")):
        raise TypeError(
            f"{few([estimator])} is not a fitted perceptron of scikit-learn; call fit first."
        )
    if np.shape(getattr(estimator, "classes_", (0, 1))) == (1,):
        raise ValueError("the estimator saw one class only; there is no network that predicts it.")
    coefs = list(map(to_host, estimator.coefs_))
    intercepts = list(map(to_host, estimator.intercepts_))
    norms = [{k: to_host(a) for k, a in norm.items()} for norm in getattr(estimator, "norms_", [])]
    net = getattr(estimator, "network_", None)  # of anyprop's own estimators
    if net is None:
        if estimator.activation not in OF_SKLEARN:
            raise ValueError(
                f"activation is {few([estimator.activation])}, expected one of: "
                f"{', '.join(OF_SKLEARN)}."
            )
        sizes = [coefs[0].shape[0], *(W.shape[1] for W in coefs)]
        net = MLP(sizes, OF_SKLEARN[estimator.activation])
    arrays = dict(in_order(Layout.of(net.specs()), coefs, intercepts, norms))
    return net, parameters_of(net, arrays, xp, device, dtype)


def in_order(
    layout: Layout,
    coefs: Sequence[Array],
    intercepts: Sequence[Array],
    norms: Sequence[Mapping[str, Array]],
) -> Iterator[tuple[str, Array]]:
    """List a network's arrays by name from what a perceptron of scikit-learn holds.

    Each norm has "gamma" and "beta", and that of a BatchNorm "mean" and "var". ValueError says which
    array is missing, has another shape, or does not belong to the network.
    """
    arrays: dict[str, Iterator[Array]] = {"W": iter(coefs), "b": iter(intercepts)}
    for kind in ("gamma", "beta", "mean", "var"):
        arrays[kind] = iter([norm[kind] for norm in norms if kind in norm])
    for entry in layout.entries:
        array = next(arrays[entry.name.rpartition(".")[2]], None)
        if array is None or tuple(array.shape) != entry.shape:
            given = "nothing" if array is None else f"shape {tuple(array.shape)}"
            raise ValueError(
                f"the network that the estimator's parameters describe has {entry.name} of shape "
                f"{entry.shape}, but the fitted one has {given} there; set warm_start=False and call "
                "fit to start again."
            )
        yield entry.name, array
    for kind, left in arrays.items():
        if (array := next(left, None)) is not None:
            raise ValueError(
                f"the network that the estimator's parameters describe has no place for {kind} of "
                f"shape {tuple(array.shape)}, which the fitted one has; set warm_start=False and call "
                "fit to start again."
            )


def _chain(net: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """List the layers of a Sequential, and the prefix of the names of their arrays."""
    if type(net) is not Sequential:
        yield prefix, net
        return
    for name, child in net.children().items():
        yield from _chain(child, f"{prefix}{name}")


def _check_sklearn(layers: list[Layer]) -> None:
    for i, layer in enumerate(layers):
        if i % 2 == 0:
            fits = type(layer) is Affine and layer.bias
        else:
            known = type(layer) in {ACTIVATIONS[ours] for ours in OF_SKLEARN.values()}
            fits = known and type(layer) is type(layers[1]) and i < len(layers) - 1
        if not fits:
            raise ValueError(
                f"scikit-learn has no place for {layer!r}: it takes Affine layers with biases, and one "
                "kind of ReLU, Tanh, Sigmoid or Identity between them."
            )
