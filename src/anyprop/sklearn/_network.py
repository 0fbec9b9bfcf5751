"""The network of an estimator, and its parameters as scikit-learn shows them.

coefs_, intercepts_ and norms_ are the truth: they are what a pickle holds, what scikit-learn moves to
another device, and what users may change. While they are the views of one flat vector that training
made, that vector is used as it is; otherwise it is built from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop import _numerics
from anyprop._typing import Array, Namespace
from anyprop.backend import from_host, namespace
from anyprop.interchange.sklearn import OF_SKLEARN, in_order
from anyprop.layers.affine import Affine
from anyprop.layers.base import layout_of
from anyprop.layers.sequential import Sequential
from anyprop.layout import Layout
from anyprop.network import MLP
from anyprop.parameters import Parameters, filled, map_vectors


def make_network(
    sizes: list[int], activation: str, *, norm: str | None, dropout: float
) -> Sequential:
    """Build the network of an estimator."""
    return MLP(sizes, OF_SKLEARN.get(activation, activation), norm=norm, dropout=dropout)


def draw_parameters(
    net: Sequential,
    rng: np.random.RandomState,
    *,
    activation: str,
    initializer: Any,
    xp: Namespace,
    dtype: str,
    device: Any,
) -> Parameters:
    """Draw the starting values of a network's parameters.

    Parameters
    ----------
    net : Sequential
        The network.
    rng : numpy.random.RandomState
        Their source.
    activation : str
        scikit-learn's bound on the numbers depends on it.
    initializer : str, callable or None
        How weights are drawn, see `anyprop.initializers`; None draws weights and biases layer by layer
        as scikit-learn does.
    xp, dtype, device
        Place and dtype of the parameters.

    Returns
    -------
    params : Parameters
        The starting values.
    """
    if initializer is not None:
        return net.init(rng, xp=xp, dtype=dtype, device=device, weights=initializer)
    specs = net.specs()
    params = filled(layout_of(net), lambda entry: specs[entry.name].initial or 0.0, "float64")
    factor = 2.0 if activation == "logistic" else 6.0
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Affine):
            bound = np.sqrt(factor / (layer.d + layer.m))
            params[i].W[...] = rng.uniform(-bound, bound, (layer.d, layer.m))
            if layer.bias:
                params[i].b[...] = rng.uniform(-bound, bound, layer.m)
    return map_vectors(params, partial(from_host, xp=xp, dtype=dtype, device=device))


def all_finite(params: Parameters) -> bool:
    """Return whether all numbers of vectors are finite, running statistics included."""
    return all(_numerics.all_finite(v) for v in (params.flat, params.running) if v is not None)


def unpacked(params: Parameters) -> tuple[list[Array], list[Array], list[dict[str, Array]]]:
    """List the weight matrices, the biases, and what each norm holds."""
    coefs, intercepts = [], []
    norms: dict[str, dict[str, Array]] = {}
    for name, array in params.named().items():
        layer, _, kind = name.rpartition(".")
        if kind == "W":
            coefs.append(array)
        elif kind == "b":
            intercepts.append(array)
        else:
            norms.setdefault(layer, {})[kind] = array
    return coefs, intercepts, list(norms.values())


def packed(
    layout: Layout,
    coefs: Sequence[Array],
    intercepts: Sequence[Array],
    norms: Sequence[Mapping[str, Array]],
) -> Parameters:
    """Build a network's parameters from what `unpacked` returned.

    Raises
    ------
    ValueError
        The arrays are not those of a network of this layout.
    """
    vectors: dict[bool, list[Array]] = {True: [], False: []}
    arrays = in_order(layout, coefs, intercepts, norms)
    for entry, (_, array) in zip(layout.entries, arrays, strict=True):
        vectors[entry.trainable].append(namespace(array).reshape(array, (-1,)))
    flat, running = (
        namespace(*pieces).concat(pieces) if pieces else None for pieces in vectors.values()
    )
    return Parameters(layout, flat, running)
