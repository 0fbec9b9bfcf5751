"""Networks as ONNX models, which run anywhere without this library.

Every layer becomes the operator that computes the same, by name: an Affine a Gemm, a Residual an Add
around the nodes of its block. A Dropout and anything else that only matters while training is left
out. The model takes batches of any number of rows.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from anyprop._checks import flag
from anyprop._files import write_whole
from anyprop._numerics import all_finite
from anyprop._usage import usage
from anyprop.backend import dtype_name, from_host, to_host
from anyprop.description import describe
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer
from anyprop.layers.batch_norm import BatchNorm
from anyprop.layers.dropout import Dropout
from anyprop.layers.elu import ELU
from anyprop.layers.gelu import GELU
from anyprop.layers.identity import Identity
from anyprop.layers.layer_norm import LayerNorm
from anyprop.layers.leaky_relu import LeakyReLU
from anyprop.layers.relu import ReLU
from anyprop.layers.rescale import Rescale
from anyprop.layers.residual import Residual
from anyprop.layers.sequential import Sequential
from anyprop.layers.sigmoid import Sigmoid
from anyprop.layers.silu import SiLU
from anyprop.layers.softmax import Softmax
from anyprop.layers.softplus import Softplus
from anyprop.layers.tanh import Tanh
from anyprop.network import check_params
from anyprop.parameters import Parameters

OPSET, IR_VERSION = 21, 10
"""Versions of the operators and of the file format: those of ONNX 1.16, from 2024."""
_DTYPES = ("float32", "float64")


@usage("export_onnx(net, params, path)")
def export_onnx(
    net: Layer,
    params: Parameters,
    path: str | PathLike[str],
    *,
    softmax: bool = False,
    dtype: str | None = None,
) -> None:
    """Write a network as an ONNX model.

    Its input is called x, of shape (N, D), and its output y, of shape (N, M), for any N. The operators
    are those of opset 21.

    Parameters
    ----------
    net : Layer
        The network, of the library's own layers.
    params : Parameters
        Its parameters, from any backend and device.
    path : str or path
        The file, by custom ``*.onnx``; an older one is replaced when the new one is complete.
    softmax : bool
        Whether the model ends in a softmax, so that a classifier returns probabilities, not logits.
    dtype : {"float32", "float64"}, optional
        Dtype of the model; that of the parameters by default.

    Raises
    ------
    ImportError
        onnx is not installed.
    TypeError
        A layer is not one of the library's, which the message names, or `params` is something else.
    OverflowError
        A number does not fit in the dtype.
    ValueError
        The parameters are not those of the network or not finite, the network ends in a softmax
        already, the dtype is another, or ONNX Runtime lacks a layer in float64; the message names it.
    OSError
        The file cannot be written.

    References
    ----------
    https://onnx.ai/onnx/operators/

    Examples
    --------
    >>> import anyprop as ap, pathlib, tempfile
    >>> net = ap.MLP([4, 3, 2])
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
    >>> export_onnx(net, net.init(seed=8), path, softmax=True)
    >>> import onnx
    >>> [node.op_type for node in onnx.load(path).graph.node]
    ['Gemm', 'Relu', 'Gemm', 'Softmax']
    """
    onnx = _onnx()
    check_params(net, params)
    for name, array in params.named().items():
        if not all_finite(array):  # a file of `save` keeps them; a model is there to be used
            raise ValueError(
                f"{name} of params holds numbers that are not finite, with which a model predicts "
                "nothing; export those of an earlier checkpoint."
            )
    if dtype is None and (dtype := dtype_name(params.flat)) not in _DTYPES:
        raise ValueError(
            f"params are {dtype}, but models are {' or '.join(_DTYPES)}; export with dtype='float32'."
        )
    softmax = flag("export_onnx", "softmax", softmax)
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of: {', '.join(_DTYPES)}, not {dtype!r}.")
    graph = _Graph(onnx, params, dtype)
    y = graph.layer(net, "", "x")
    if softmax:
        if graph.nodes and graph.nodes[-1].op_type == "Softmax":
            raise ValueError("the network ends in a softmax already; leave softmax=True out.")
        y = graph.node("Softmax", y, axis=-1)
    graph.end(y)

    helper = onnx.helper
    d = net.width_in
    shapes = {"x": ["N", d or "D"], "y": ["N", net.output_shape((1, d))[1] if d else "D"]}
    code = helper.np_dtype_to_tensor_dtype(graph.dtype)
    inputs, outputs = (
        [helper.make_tensor_value_info(name, code, shapes[name])] for name in ("x", "y")
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, "anyprop", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="anyprop",
        producer_version=importlib.metadata.version("anyprop"),
    )
    helper.set_model_props(model, {"network": json.dumps(describe(net))})
    onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ImportError('export_onnx needs onnx; run pip install "anyprop[onnx]".') from None


class _Graph:
    """The nodes and constants of a model, as it is built."""

    def __init__(self, onnx: Any, params: Parameters, dtype: str) -> None:
        self._onnx, self._named = onnx, params.named()
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        )
        return output

    def parameter(self, name: str) -> str:
        """Add a parameter; return its name."""
        return self.constant(name, to_host(self._named[name]))

    def constant(self, name: str, values: Any) -> str:
        """Add an array or a number by a name of its own, which is returned."""
        array = np.asarray(from_host(values, dtype=self.dtype.name), order="C")
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def end(self, y: str) -> None:
        """Make y the output of the model, under that name."""
        if y == "x":  # no layer has added a node
            self.node("Identity", "x")
        self.nodes[-1].output[:] = ["y"]

    def layer(self, layer: Layer, prefix: str, x: str) -> str:
        """Add the nodes of a layer that takes the value x; return the name of its y."""
        make = _LAYERS.get(type(layer))
        if make is None:
            raise TypeError(f"{layer!r} is not one of anyprop's layers and has no ONNX operator.")
        if self.dtype == np.float64 and type(layer) in _NOT_IN_FLOAT64:
            raise ValueError(
                f"ONNX Runtime computes {layer!r} in float32 only; export with dtype='float32'."
            )
        return make(self, layer, prefix, x)


def _affine(graph: _Graph, layer: Affine, prefix: str, x: str) -> str:
    names = ("W", "b") if layer.bias else ("W",)
    return graph.node("Gemm", x, *(graph.parameter(prefix + name) for name in names))


def _batch_norm(graph: _Graph, layer: BatchNorm, prefix: str, x: str) -> str:
    constants = [graph.parameter(prefix + name) for name in ("gamma", "beta", "mean", "var")]
    return graph.node("BatchNormalization", x, *constants, epsilon=layer.eps)


def _layer_norm(graph: _Graph, layer: LayerNorm, prefix: str, x: str) -> str:
    constants = [graph.parameter(prefix + name) for name in ("gamma", "beta")]
    return graph.node("LayerNormalization", x, *constants, axis=-1, epsilon=layer.eps)


def _rescale(graph: _Graph, layer: Rescale, prefix: str, x: str) -> str:
    if layer.scale != 1.0:
        x = graph.node("Mul", x, graph.constant(f"{prefix}scale", layer.scale))
    if layer.shift != 0.0:
        x = graph.node("Add", x, graph.constant(f"{prefix}shift", layer.shift))
    return x


def _sequential(graph: _Graph, layer: Layer, prefix: str, x: str) -> str:
    for name, child in layer.children().items():
        x = graph.layer(child, f"{prefix}{name}", x)
    return x


def _residual(graph: _Graph, layer: Residual, prefix: str, x: str) -> str:
    return graph.node("Add", x, _sequential(graph, layer, prefix, x))


_LAYERS: dict[type[Layer], Callable[[_Graph, Any, str, str], str]] = {
    Affine: _affine,
    BatchNorm: _batch_norm,
    Dropout: lambda graph, layer, prefix, x: x,
    ELU: lambda graph, layer, prefix, x: graph.node("Elu", x, alpha=layer.alpha),
    GELU: lambda graph, layer, prefix, x: graph.node("Gelu", x, approximate="tanh"),
    Identity: lambda graph, layer, prefix, x: x,
    LayerNorm: _layer_norm,
    LeakyReLU: lambda graph, layer, prefix, x: graph.node("LeakyRelu", x, alpha=layer.slope),
    ReLU: lambda graph, layer, prefix, x: graph.node("Relu", x),
    Rescale: _rescale,
    Residual: _residual,
    Sequential: _sequential,
    Sigmoid: lambda graph, layer, prefix, x: graph.node("Sigmoid", x),
    SiLU: lambda graph, layer, prefix, x: graph.node("Mul", x, graph.node("Sigmoid", x)),
    Softmax: lambda graph, layer, prefix, x: graph.node("Softmax", x, axis=-1),
    Softplus: lambda graph, layer, prefix, x: graph.node("Softplus", x),
    Tanh: lambda graph, layer, prefix, x: graph.node("Tanh", x),
}
# ONNX Runtime 1.32 has no kernels for these, and of GELU one with constants in float32.
_NOT_IN_FLOAT64 = (ELU, GELU, LeakyReLU, Softplus)
