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
from anyprop._typing import Array
from anyprop.backend import from_host, namespace
from anyprop.interchange.sklearn import OF_SKLEARN, in_order
from anyprop.layers.affine import Affine
from anyprop.layers.base import layout_of
from anyprop.layers.sequential import Sequential
from anyprop.layout import Layout
from anyprop.network import MLP
from anyprop.parameters import Parameters, filled, map_vectors
from anyprop.sklearn._given import Place


def make_network(estimator: Any, sizes: list[int]) -> Sequential:
    """Build the network that an estimator's parameters describe."""
    activation = OF_SKLEARN.get(estimator.activation, estimator.activation)
    return MLP(sizes, activation, norm=estimator.norm, dropout=float(estimator.dropout))


def draw_parameters(
    estimator: Any, net: Sequential, rng: np.random.RandomState, place: Place
) -> Parameters:
    """Draw the starting values of a network's parameters, as an estimator's `initializer` says.

    None draws weights and biases layer by layer as scikit-learn does.
    """
    xp, device, dtype = place
    if estimator.initializer is not None:
        weights = estimator.initializer
        return net.init(rng, xp=xp, dtype=dtype, device=device, weights=weights)
    specs = net.specs()
    params = filled(layout_of(net), lambda entry: specs[entry.name].initial or 0.0, "float64")
    factor = 2.0 if estimator.activation == "logistic" else 6.0
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
    """Build a network's parameters from what `unpacked` returned; ValueError if they do not fit."""
    vectors: dict[bool, list[Array]] = {True: [], False: []}
    arrays = in_order(layout, coefs, intercepts, norms)
    for entry, (_, array) in zip(layout.entries, arrays, strict=True):
        array = Place.of(array).put(array)
        vectors[entry.trainable].append(namespace(array).reshape(array, (-1,)))
    flat, running = (
        namespace(*pieces).concat(pieces) if pieces else None for pieces in vectors.values()
    )
    return Parameters(layout, flat, running)
