"""Parameters in PyTorch's layout, and back.

    anyprop             PyTorch
    Affine    W (D, M)  weight (M, D)
              b         bias
    BatchNorm gamma     weight
              beta      bias
              mean      running_mean
              var       running_var
    LayerNorm gamma     weight
              beta      bias
    Rescale             scale, shift

Names count layers as `torch.nn.Sequential` does: 0.weight, 0.bias, 2.weight, ... A `Residual` has the
names of its block, as a `torch.nn.Sequential` has whose forward returns x + super().forward(x).
PyTorch has no module for `Rescale`; one with two buffers takes its constants:

    class Rescale(torch.nn.Module):
        def __init__(self, scale, shift):
            super().__init__()
            self.register_buffer("scale", torch.tensor(scale))
            self.register_buffer("shift", torch.tensor(shift))

        def forward(self, x):
            return self.scale * x + self.shift
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import check_shape, few, kind
from anyprop._numerics import is_floating
from anyprop._typing import Namespace
from anyprop._usage import usage
from anyprop.backend import check_array, namespace, to_host
from anyprop.checkpoint import tensors
from anyprop.interchange.arrays import parameters_of
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer, check_layer, layout_of, leaves
from anyprop.layers.batch_norm import BatchNorm
from anyprop.layers.layer_norm import LayerNorm
from anyprop.layers.rescale import Rescale
from anyprop.network import check_params
from anyprop.parameters import Parameters

_TORCH_NAMES: dict[type[Layer], dict[str, str]] = {
    Affine: {"W": "weight", "b": "bias"},
    BatchNorm: {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"},
    LayerNorm: {"gamma": "weight", "beta": "bias"},
}


@usage("to_torch(net, params)")
def to_torch(net: Layer, params: Parameters) -> dict[str, NDArray[Any]]:
    """Return parameters as a state dictionary in PyTorch's layout.

    Parameters
    ----------
    net : Layer
        The network, of the library's own layers.
    params : Parameters
        Its parameters, from any backend and device.

    Returns
    -------
    dict of str to numpy.ndarray
        The arrays by PyTorch's names, copied; those of bfloat16 as float32. Those of a `Rescale` are its
        constants, of shape () or (D,): a module that does not scale its inputs refuses the dictionary,
        rather than computing something else. `anyprop.interchange.torch` shows a module that takes them.

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
    arrays = {
        names[name]: np.array(to_host(array).T, order="C") for name, array in params.named().items()
    }
    dtype = to_host(params.flat).dtype
    return arrays | {
        name: np.asarray(values, dtype) for name, (values, _) in _constants(net).items()
    }


@usage("save_torch(path, net, params)")
def save_torch(path: str | PathLike[str], net: Layer, params: Parameters) -> None:
    """Write what `to_torch` returns to a safetensors file, which PyTorch takes as a state dictionary.

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


@usage("from_torch(net, state_dict)")
def from_torch(
    net: Layer,
    state_dict: Mapping[str, Any] | str | PathLike[str],
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> Parameters:
    """Return the parameters in a state dictionary of PyTorch's layout.

    Parameters
    ----------
    net : Layer
        The network of this library that the numbers are for.
    state_dict : dict of str to array, or path
        What ``module.state_dict()`` returned, or a safetensors file of it. BatchNorm's
        ``num_batches_tracked`` is ignored. The constants of a `Rescale` may be missing.
    xp : namespace or str, optional
        Backend of the parameters; NumPy by default.
    device : str or device, optional
        Device of the parameters; the backend's default by default.
    dtype : str, optional
        Dtype of the parameters; by default that of the state dictionary, which must then have one only,
        and float32 for bfloat16, which NumPy lacks.

    Returns
    -------
    params
        The `Parameters` of `net`.

    Raises
    ------
    ValueError
        An array is missing, has another shape, dtype or no place in the network, a constant of a
        `Rescale` is another number than the network's, or the file cannot be read; the message
        names it.
    OverflowError
        A number does not fit in `dtype`; the message names the file.
    TypeError
        A layer with parameters is not one of the library's, or `state_dict` is something else.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> from_torch(ap.Affine(2, 3), {"weight": np.ones((3, 2)), "bias": np.zeros(3)})
    Parameters(9 numbers: W (2, 3), b (3,))
    """
    check_layer(net)
    names = _torch_names(net)
    if hasattr(state_dict, "state_dict"):
        raise TypeError(f"state_dict is {kind(state_dict)}; pass what its state_dict() returns.")
    if not isinstance(state_dict, (Mapping, str, PathLike)):
        raise TypeError(
            f"state_dict must be a dict of arrays, or the path of a safetensors file, not "
            f"{kind(state_dict)}."
        )
    if not isinstance(state_dict, Mapping):
        with tensors.Reader(Path(state_dict)) as file:
            read = file.read()
        try:
            return from_torch(net, read, xp=xp, device=device, dtype=dtype)
        except OverflowError as error:
            raise OverflowError(f"{file.path}: {error}") from None
    given = {
        name: array
        for name, array in state_dict.items()
        if name.rpartition(".")[2] != "num_batches_tracked"
    }
    for theirs, (values, layer) in _constants(net).items():
        if theirs in given and not _are_equal(theirs, given.pop(theirs), values):
            raise ValueError(
                f"{theirs} of the state dictionary is not that of {layer!r}; give Rescale the numbers"
                " of the state dictionary."
            )
    missing, surplus = names.values() - given.keys(), given.keys() - names.values()
    if missing or surplus:
        raise ValueError(
            f"the state dictionary lacks {few(sorted(missing)) or 'nothing'} that net needs, and "
            f"has {few(sorted(surplus)) or 'nothing'} that net lacks."
        )
    for entry in layout_of(net).entries:
        theirs = names[entry.name]
        check_array(theirs, given[theirs])
        check_shape(theirs, given[theirs], entry.shape[::-1])
    arrays = {ours: to_host(given[theirs]) for ours, theirs in names.items()}
    return parameters_of(net, {ours: array.T for ours, array in arrays.items()}, xp, device, dtype)


def _constants(net: Layer) -> dict[str, tuple[Any, Rescale]]:
    """Map PyTorch's names of constants to their values and their layers."""
    return {
        f"{prefix}{name}": (getattr(layer, name), layer)
        for prefix, layer in leaves(net)
        if isinstance(layer, Rescale)
        for name in ("scale", "shift")
    }


def _are_equal(name: str, array: Any, values: Any) -> bool:
    """Return whether an array holds the values, as rounded to its dtype."""
    check_array(name, array)
    xp = namespace(array)
    eps = float(xp.finfo(array.dtype).eps) if is_floating(xp, array.dtype) else 0.0
    return np.shape(array) == np.shape(values) and np.allclose(to_host(array), values, eps, 0.0)


def _torch_names(net: Layer) -> dict[str, str]:
    """Map our names of a network's arrays to PyTorch's."""
    names = {}
    for prefix, layer in leaves(net):
        theirs = _TORCH_NAMES.get(type(layer), {})
        for name in layer.specs():
            if name not in theirs:
                raise TypeError(
                    f"{layer!r} is not one of anyprop's layers; PyTorch has no name for it."
                )
            names[f"{prefix}{name}"] = f"{prefix}{theirs[name]}"
    return names
