"""Gradients and central differences of the same numbers, side by side.

    analytic   what backward says of  f(x) = sum dy y(x)  for a random dy
    numeric    (f(x + h e_i) - f(x - h e_i)) / 2 h        for each entry i of x and of the parameters

A random dy matters: with dy = 1 a backward pass that mixes up rows, or forgets dy, can look right. The
error of the differences is of the order h^2 + 1e-16 / h, so float64 is needed, and they say nothing at
a kink, such as ReLU's at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import (
    check_array,
    check_same_place,
    device_of,
    dtype_name,
    from_host,
    namespace,
    to_host,
)
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, check_predictions
from anyprop.network import noise_beside, value_and_grad
from anyprop.parameters import Parameters


class GradcheckError(AssertionError):
    """A gradient is wrong; the message shows the worst entry."""


class Comparison(NamedTuple):
    """A gradient, computed twice; the fields are those of `GradcheckEntry`, but whole arrays."""

    name: str
    source: str
    analytic: Any
    numeric: Any


def compare_layer(
    layer: Layer,
    x: Array | None,
    params: Parameters | None,
    t: Array | None,
    loss: Loss | None,
    noise: Any,
    rng: np.random.Generator,
    h: float,
) -> list[Comparison]:
    """Compare the gradients of a layer, in both of its ways; `gradcheck` explains the arguments."""
    if x is None:
        d = layer.width_in
        if d is None:
            raise ValueError(f"gradcheck cannot tell how wide x is for {layer!r}; pass x.")
        x = rng.standard_normal((4, d))
    _check_float64("x", x)
    if not x.ndim:
        raise ValueError("x has shape (), expected (N, ...): one entry per example.")
    if params is None:
        params = _drawn_params(layer, x, rng)
    _check_float64("params", params.flat)
    check_same_place([("x", x), ("params", params.flat)])
    if noise is None:
        noise = layer.noise(rng, tuple(x.shape))
    noise = noise_beside(params, noise)

    def train(params: Parameters, x: Array) -> tuple[Array, Residuals]:
        return layer.forward_train(params, x, noise)

    comparisons = _compare_backward(layer, train, params, x, noise, rng, h)
    if _overrides(layer, "forward_train"):
        comparisons += _compare_backward(layer, layer.forward, params, x, None, rng, h)
    if loss is not None:
        comparisons += _compare_value_and_grad(layer, loss, params, x, t, noise, rng, h)
    return comparisons


def _compare_backward(
    layer: Layer,
    forward: Callable[[Parameters, Array], tuple[Array, Residuals]],
    params: Parameters,
    x: Array,
    noise: Any,
    rng: np.random.Generator,
    h: float,
) -> list[Comparison]:
    before = _copies({"x": x, "params": params.flat, "params.running": params.running})
    before |= _copies({f"noise {i}": leaf for i, leaf in enumerate(_tree.leaves(noise))})
    y, residuals = forward(params, x)
    _check_unwritten(before, "forward")
    _check_float64("y", y)
    if tuple(y.shape) != tuple(layer.output_shape(tuple(x.shape))):
        raise GradcheckError(
            f"forward gives y of shape {tuple(y.shape)}, but output_shape says "
            f"{tuple(layer.output_shape(tuple(x.shape)))}."
        )
    weights = rng.standard_normal(tuple(y.shape))
    dy = _beside(weights, x)
    before |= _copies({"dy": dy})
    dx, grads = layer.backward(params, residuals, dy)
    _check_unwritten(before, "backward")
    _check_like("dx", dx, x)
    analytic = {"x": _copy(dx)} | _named_gradients("backward", params, grads)
    again, _ = layer.backward(params, residuals, dy)
    if not np.array_equal(_copy(again), analytic["x"], equal_nan=True):
        raise GradcheckError("a second backward gives another dx: it writes into the residuals.")

    numeric = {"x": _differences(lambda at: forward(params, _beside(at, x))[0], x, weights, h)}
    numeric |= _named_differences(lambda p: forward(p, x)[0], params, weights, h)
    comparisons = [Comparison(n, "backward", analytic[n], numeric[n]) for n in analytic]
    if _overrides(layer, "backward_params"):
        grads = layer.backward_params(params, residuals, dy)
        _check_unwritten(before, "backward_params")
        comparisons += [
            Comparison(name, "backward_params", gradient, numeric[name])
            for name, gradient in _named_gradients("backward_params", params, grads).items()
        ]
    return comparisons


def _compare_value_and_grad(
    layer: Layer,
    loss: Loss,
    params: Parameters,
    x: Array,
    t: Array | None,
    noise: Any,
    rng: np.random.Generator,
    h: float,
) -> list[Comparison]:
    y, _ = layer.forward_train(params, x, noise)
    targets = _drawn_targets(loss, y, rng) if t is None else t
    compute = value_and_grad(layer, loss, running=True)
    _, grads, _ = compute(params, x, targets, noise=noise)
    numeric = _named_differences(
        lambda p: compute(p, x, targets, noise=noise)[0], params, np.ones(()), h
    )
    return [
        Comparison(name, "value_and_grad", gradient, numeric[name])
        for name, gradient in _named_gradients("value_and_grad", params, grads).items()
    ]


def compare_loss(
    loss: Loss, y: Array | None, t: Array | None, rng: np.random.Generator, h: float
) -> list[Comparison]:
    """Compare the gradient of a loss, with and without sample weights."""
    if y is None:
        y = rng.standard_normal((4, 3))
    _check_float64("x", y)
    check_predictions(y)
    targets = _drawn_targets(loss, y, rng) if t is None else t
    sample_weight = _beside(rng.uniform(0.5, 2.0, size=y.shape[0]), y)
    dvalue = float(rng.uniform(1.5, 2.5))
    comparisons = []
    for weights in (None, sample_weight):

        def value(at: Any, weights: Array | None = weights) -> Array:
            return loss.forward(_beside(at, y), targets, sample_weight=weights)[0]

        before = _copies({"y": y, "t": targets, "sample_weight": weights})
        _, residuals = loss.forward(y, targets, sample_weight=weights)
        _check_unwritten(before, "forward")
        dy = loss.backward(residuals, dvalue)
        _check_unwritten(before, "backward")
        _check_like("dy", dy, y)
        numeric = _differences(value, y, np.asarray(dvalue), h)
        comparisons.append(Comparison("y", "backward", _copy(dy), numeric))
    return comparisons


def _overrides(layer: Layer, method: str) -> bool:
    return getattr(type(layer), method) is not getattr(Layer, method)


def _drawn_params(layer: Layer, x: Array, rng: np.random.Generator) -> Parameters:
    params = layer.init(rng, xp=namespace(x), dtype="float64", device=device_of(x))
    # Away from the starting values: a gradient that forgets a gain of 1 would look right there.
    shifted = {
        name: _beside(_copy(vector) + rng.uniform(0.0, 0.5, size=vector.shape), x)
        for name, vector in (("flat", params.flat), ("running", params.running))
        if vector is not None
    }
    return params.replace(**shifted)


def _drawn_targets(loss: Loss, y: Array, rng: np.random.Generator) -> Array:
    """Draw targets of the first kind that the loss accepts."""
    n, k = y.shape
    drawn = (
        rng.standard_normal((n, k)),
        rng.uniform(0.0, 1.0, (n, k)),
        rng.dirichlet(np.ones(k), n),
        rng.integers(0, k, n),
    )
    for targets in drawn:
        t = _beside(targets, y)
        try:
            loss.check_targets(t, k)
        except (TypeError, ValueError):
            continue
        return t
    raise ValueError(f"gradcheck cannot guess targets that {loss!r} accepts; pass t.")


def _differences(f: Callable[[Any], Array], at: Array, weights: Any, h: float) -> Any:
    """Differentiate sum(weights * f) at every entry of `at`; f takes a NumPy array."""
    start = _copy(at)
    numeric = np.empty(start.shape)
    for index in np.ndindex(start.shape):
        above, below = start.copy(), start.copy()
        above[index] += h
        below[index] -= h
        change = _copy(f(above)) - _copy(f(below))
        numeric[index] = np.sum(weights * change) / (above[index] - below[index])
    return numeric


def _named_differences(
    f: Callable[[Parameters], Array], params: Parameters, weights: Any, h: float
) -> dict[str, Any]:
    flat = _differences(
        lambda at: f(params.replace(flat=_beside(at, params.flat))), params.flat, weights, h
    )
    return {
        entry.name: flat[entry.start : entry.stop].reshape(entry.shape)
        for entry in params.layout.entries
        if entry.trainable
    }


def _named_gradients(source: str, params: Parameters, grads: Grads) -> dict[str, Any]:
    trainable = {e.name: e for e in params.layout.entries if e.trainable}
    if isinstance(grads, Parameters):
        grads = grads.named()
    if grads.keys() != trainable.keys():
        raise GradcheckError(
            f"{source} gives gradients of {', '.join(grads) or 'nothing'}, but the parameters "
            f"are {', '.join(trainable) or 'none'}."
        )
    for name in trainable:
        _check_like(f"{source}: the gradient of {name}", grads[name], params[name])
    return {name: _copy(grads[name]) for name in trainable}


def _check_float64(name: str, array: Array) -> None:
    check_array(name, array)
    if dtype_name(array) != "float64":
        raise TypeError(
            f"gradcheck needs float64, but {name} is {dtype_name(array)}: differences in fewer "
            "digits cannot tell a wrong gradient from rounding."
        )


def _check_like(name: str, array: Array, reference: Array) -> None:
    if tuple(array.shape) != tuple(reference.shape):
        raise GradcheckError(
            f"{name} has shape {tuple(array.shape)}, expected {tuple(reference.shape)}."
        )
    if array.dtype != reference.dtype:
        raise GradcheckError(
            f"{name} is {dtype_name(array)}, expected {dtype_name(reference)}, "
            "as everything it is computed from."
        )


def _copies(arrays: dict[str, Array | None]) -> dict[str, tuple[Array, Any]]:
    return {name: (a, _copy(a)) for name, a in arrays.items() if a is not None}


def _check_unwritten(before: dict[str, tuple[Array, Any]], call: str) -> None:
    for name, (array, copy) in before.items():
        if not np.array_equal(_copy(array), copy, equal_nan=True):
            raise GradcheckError(f"{call} writes into {name}; it must compute a new array.")


def _copy(array: Array) -> Any:
    return np.array(to_host(array))


def _beside(host: Any, array: Array) -> Array:
    return from_host(host, namespace(array), device=device_of(array))
