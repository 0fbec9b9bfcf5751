"""Trained networks in the shapes of PyTorch and scikit-learn, and back.

    anyprop             PyTorch                                 scikit-learn
    Affine    W (D, M)  weight (M, D)                           coefs_ (D, M)
              b         bias                                    intercepts_
    BatchNorm gamma     weight
              beta      bias
              mean      running_mean
              var       running_var
    LayerNorm gamma     weight
              beta      bias

`anyprop.sklearn`'s own estimators have norms too, in `norms_`; scikit-learn's have none.

Names count layers as `torch.nn.Sequential` does: 0.weight, 0.bias, 2.weight, ... A `Residual` has the
names of its block, as a `torch.nn.Sequential` has whose forward returns x + super().forward(x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import check_shape, few
from anyprop._files import as_path
from anyprop._typing import Array, Namespace
from anyprop.backend import check_array, from_host, to_host
from anyprop.checkpoint import tensors
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer, check_layer
from anyprop.layers.batch_norm import BatchNorm
from anyprop.layers.dropout import Dropout
from anyprop.layers.layer_norm import LayerNorm
from anyprop.layers.registry import ACTIVATIONS
from anyprop.layers.residual import Residual
from anyprop.layers.sequential import Sequential
from anyprop.network import MLP, check_params
from anyprop.parameters import Entry, Layout, Parameters, filled, map_vectors

_TORCH_NAMES: dict[type[Layer], dict[str, str]] = {
    Affine: {"W": "weight", "b": "bias"},
    BatchNorm: {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"},
    LayerNorm: {"gamma": "weight", "beta": "bias"},
}
OF_SKLEARN = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
"""scikit-learn's name of an activation -> ours."""


def to_torch(net: Layer, params: Parameters) -> dict[str, NDArray[Any]]:
    """Give parameters as a state dictionary in PyTorch's layout.

    Parameters
    ----------
    net : Layer
        The network, of the library's own layers.
    params : Parameters
        Its parameters, from any backend and device.

    Returns
    -------
    dict of str to numpy.ndarray
        The arrays by PyTorch's names, copied.

    Raises
    ------
    TypeError
        A layer with parameters is not one of the library's, or `params` is something else.
    ValueError
        The parameters are not those of the network.

    Examples
    --------
    >>> import anyprop as ap
    >>> net = ap.MLP([784, 100, 10])
    >>> {name: array.shape for name, array in to_torch(net, net.init()).items()}
    {'0.weight': (100, 784), '0.bias': (100,), '2.weight': (10, 100), '2.bias': (10,)}
    """
    check_params(net, params)
    names = _torch_names(net)
    return {
        names[name]: np.array(to_host(array).T, order="C") for name, array in params.named().items()
    }


def save_torch(path: str | PathLike[str], net: Layer, params: Parameters) -> None:
    """Write parameters to a safetensors file that PyTorch takes as a state dictionary.

    ``torch.nn.Sequential(...).load_state_dict(safetensors.torch.load_file(path))`` takes it as it is.

    Parameters
    ----------
    path : str or path
        The file; an older one is replaced when the new one is complete.
    net : Layer
        The network, of the library's own layers.
    params : Parameters
        Its parameters, from any backend and device.

    Raises
    ------
    TypeError, ValueError
        As `to_torch`.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import anyprop as ap, pathlib, tempfile
    >>> net = ap.MLP([4, 3, 2])
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.safetensors")
    >>> save_torch(path, net, net.init(seed=8))
    >>> from_torch(net, path)
    Parameters(23 numbers: 0.W (4, 3), 0.b (3,), 2.W (3, 2), 2.b (2,))
    """
    tensors.write(path, to_torch(net, params), {"format": "pt"})


def from_torch(
    net: Layer,
    state_dict: Mapping[str, Any] | str | PathLike[str],
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> Parameters:
    """Make parameters of a state dictionary in PyTorch's layout.

    Parameters
    ----------
    net : Layer
        The network of this library that the numbers are for.
    state_dict : dict of str to array, or path
        What ``module.state_dict()`` returned, or a safetensors file of it. BatchNorm's
        ``num_batches_tracked`` may be there and is not used.
    xp : namespace or str, optional
        Backend of the parameters; NumPy by default.
    device : str or device, optional
        Device of the parameters; the backend's default by default.
    dtype : str, optional
        Dtype of the parameters; that of the state dictionary by default.

    Returns
    -------
    params
        The `Parameters` of `net`.

    Raises
    ------
    ValueError
        An array is missing, has another shape, dtype or no place in the network, or the file cannot
        be read; the message names it.
    TypeError
        A layer with parameters is not one of the library's.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> from_torch(ap.Affine(2, 3), {"weight": np.ones((3, 2)), "bias": np.zeros(3)})
    Parameters(9 numbers: W (2, 3), b (3,))
    """
    check_layer(net)
    names = _torch_names(net)
    if not isinstance(state_dict, Mapping):
        with tensors.Reader(as_path(state_dict, "state_dict")) as file:
            state_dict = file.read()
    given = {
        name: array
        for name, array in state_dict.items()
        if name.rpartition(".")[2] != "num_batches_tracked"
    }
    missing, surplus = names.values() - given.keys(), given.keys() - names.values()
    if missing or surplus:
        raise ValueError(
            f"the state dictionary lacks {few(sorted(missing)) or 'nothing'} that net needs, and "
            f"has {few(sorted(surplus)) or 'nothing'} that net lacks."
        )
    for theirs in names.values():
        check_array(theirs, given[theirs])
    arrays = {ours: to_host(given[theirs]) for ours, theirs in names.items()}
    return _parameters(net, {ours: array.T for ours, array in arrays.items()}, xp, device, dtype)


def to_sklearn(net: Layer, params: Parameters) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Give the weights and biases of a network as scikit-learn's perceptrons hold them.

    Parameters
    ----------
    net : Layer
        A chain of `Affine` layers with biases and one kind of activation between them: ReLU, Tanh,
        Sigmoid or Identity. `Dropout` has no part in it. An estimator that takes the arrays needs the
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
    layers = [pair for pair in _leaves(net, Sequential) if type(pair[1]) is not Dropout]
    _check_sklearn([layer for _, layer in layers])
    check_params(net, params)
    prefixes = [prefix for prefix, layer in layers if isinstance(layer, Affine)]
    named = {name: np.array(to_host(array)) for name, array in params.named().items()}
    return [named[f"{p}W"] for p in prefixes], [named[f"{p}b"] for p in prefixes]


def from_sklearn(
    estimator: Any,
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> tuple[Sequential, Parameters]:
    """Make a network of a fitted perceptron of scikit-learn, or of an estimator of `anyprop.sklearn`.

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
            f"{few([estimator])} is no fitted perceptron of scikit-learn; call fit first."
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
    return net, _parameters(net, arrays, xp, device, dtype)


def in_order(
    layout: Layout,
    coefs: Sequence[Array],
    intercepts: Sequence[Array],
    norms: Sequence[Mapping[str, Array]],
) -> Iterator[tuple[str, Array]]:
    """List a network's arrays by name from what a perceptron of scikit-learn holds.

    Parameters
    ----------
    layout : Layout
        That of the network.
    coefs, intercepts : sequence of arrays
        Weight matrices and biases.
    norms : sequence of dict of str to array
        "gamma" and "beta" of each norm, and "mean" and "var" of a BatchNorm.

    Yields
    ------
    (str, array)

    Raises
    ------
    ValueError
        An array is missing, has another shape, or is none of the network's.
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
                "fit to start anew."
            )
        yield entry.name, array
    for kind, left in arrays.items():
        if (array := next(left, None)) is not None:
            raise ValueError(
                f"the network that the estimator's parameters describe has no place for {kind} of "
                f"shape {tuple(array.shape)}, which the fitted one has; set warm_start=False and call "
                "fit to start anew."
            )


def _torch_names(net: Layer) -> dict[str, str]:
    """Map our names of a network's arrays to PyTorch's."""
    names = {}
    for prefix, layer in _leaves(net, Sequential, Residual):
        theirs = _TORCH_NAMES.get(type(layer), {})
        for name in layer.specs():
            if name not in theirs:
                raise TypeError(
                    f"{layer!r} is not one of anyprop's layers; PyTorch has no name for it."
                )
            names[f"{prefix}{name}"] = f"{prefix}{theirs[name]}"
    return names


def _leaves(net: Layer, *opened: type[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """List the layers inside those of the kinds `opened`, and what their arrays' names begin with."""
    if type(net) is Sequential and Sequential in opened:
        for i, layer in enumerate(net.layers):
            yield from _leaves(layer, *opened, prefix=f"{prefix}{i}.")
    elif type(net) is Residual and Residual in opened:
        yield from _leaves(net.block, *opened, prefix=prefix)
    else:
        yield prefix, net


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


def _parameters(
    net: Layer,
    arrays: Mapping[str, Any],
    xp: Namespace | str | None,
    device: Any,
    dtype: str | None,
) -> Parameters:
    """Lay out host arrays as the parameters of a network."""
    dtypes = sorted({str(array.dtype) for array in arrays.values()})
    if len(dtypes) > 1:
        raise ValueError(f"the arrays differ in dtype: {', '.join(dtypes)}.")

    def checked(entry: Entry) -> Any:
        array = arrays[entry.name]
        check_shape(f"what belongs to {entry.name}", array, entry.shape)
        return array

    host = filled(Layout.of(net.specs()), checked, dtypes[0] if dtypes else "float32")
    return map_vectors(host, partial(from_host, xp=xp, dtype=dtype, device=device))
