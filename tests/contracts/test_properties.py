"""Properties that hold for every shape, dtype and layout in memory, which Hypothesis draws."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes

import anyprop as ap
from anyprop import _tree
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.testing.loss_cases import LOSS_CASES, LossCase
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from anyprop.testing.place import Place

NUMPY = Place("numpy")
every_layer = pytest.mark.parametrize("case", LAYER_CASES, ids=str)
every_loss = pytest.mark.parametrize("case", LOSS_CASES, ids=str)
every_optimizer = pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)
examples = settings(max_examples=15)

dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)


def _gaps(a: np.ndarray) -> np.ndarray:
    return np.repeat(a, 2, axis=-1)[..., ::2]


def _reversed(a: np.ndarray) -> np.ndarray:
    backwards = (slice(None, None, -1),) * a.ndim
    return np.array(a[backwards])[backwards]


def _read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(bytearray(b"\0" + a.tobytes()), dtype=np.uint8)
    return np.ndarray(a.shape, a.dtype, buffer=raw[1:])


def _one_row(a: np.ndarray) -> np.ndarray:
    """Repeat the first row, whatever the others were."""
    return np.broadcast_to(a[:1], a.shape)


def _one_column(a: np.ndarray) -> np.ndarray:
    return np.broadcast_to(a[..., :1], a.shape)


EQUAL = {
    "contiguous": np.ascontiguousarray,
    "by columns": np.asfortranarray,
    "gaps": _gaps,
    "reversed": _reversed,
    "read-only": _read_only,
    "unaligned": _unaligned,
}
"""Ways to store the same numbers."""

layouts = st.sampled_from(sorted(EQUAL)).map(EQUAL.get)
batch_layouts = layouts | st.sampled_from([_one_row, _one_column])


def _copies(arrays: Any) -> list[np.ndarray]:
    return [np.array(a) for a in arrays]


def _assert_close(ours: Any, theirs: Any, dtype: str) -> None:
    # a batch norm of equal rows multiplies rounding by 1 / sqrt(eps), and its backward pass again
    tolerance = {"float32": 1e-3, "float64": 1e-11}[dtype]
    for one, other in zip(ours, theirs, strict=True):
        assert np.asarray(one).dtype == dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def _assert_same(arrays: Any, before: list[np.ndarray]) -> None:
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


# Layers


def _of_width(case: LayerCase, d: int) -> LayerCase:
    """The case with D = d, if nothing else in it fixes the width."""
    if isinstance(case.layer, (ap.Affine, ap.BatchNorm, ap.LayerNorm)):
        return LayerCase(case.id, dataclasses.replace(case.layer, d=d))
    return case


@st.composite
def layer_calls(draw: st.DrawFn, case: LayerCase) -> Any:
    """Draw a layer, its parameters, x, dy, what it draws itself, and whether it is in training."""
    d = draw(st.integers(1, 6))
    case = _of_width(case, d)
    d = case.layer.width_in or d
    n, dtype, training = draw(st.integers(0, 6)), draw(dtypes), draw(st.booleans())
    rng = np.random.default_rng(draw(seeds))
    params = case.params(NUMPY, dtype)
    params = params.replace(flat=draw(layouts)(params.flat))
    x = draw(batch_layouts)(rng.standard_normal((n, d)).astype(dtype))
    dy = draw(batch_layouts)(rng.standard_normal(case.layer.output_shape(x.shape)).astype(dtype))
    noise = noise_beside(params, case.layer.noise(rng, x.shape)) if training else None
    return case.layer, params, x, dy, noise, training


def _forward(layer: Any, params: Any, x: Any, noise: Any, training: bool) -> Any:
    return layer.forward_train(params, x, noise) if training else layer.forward(params, x)


def _layer_results(layer: Any, params: Any, x: Any, dy: Any, noise: Any, training: bool) -> list:
    y, residuals = _forward(layer, params, x, noise, training)
    dx, grads = layer.backward(params, residuals, dy)
    grads = grads.named() if isinstance(grads, ap.Parameters) else grads
    return [y, dx, *grads.values()]


@every_layer
@given(data=st.data())
@examples
def test_a_layer_does_not_mind_how_its_arrays_lie_and_leaves_them_alone(case, data):
    layer, params, x, dy, noise, training = data.draw(layer_calls(case))
    arrays = [x, dy, params.flat, *_tree.leaves(noise)]
    before = _copies(arrays)
    results = _layer_results(layer, params, x, dy, noise, training)
    _assert_same(arrays, before)
    plain = params.replace(flat=before[2])
    expected = _layer_results(layer, plain, before[0], before[1], noise, training)
    _assert_close(results, expected, x.dtype.name)


@every_layer
@given(data=st.data())
@examples
def test_backward_is_the_vector_jacobian_product_of_forward(case, data):
    """dy . J v = dx . v for every direction v of x and of the parameters."""
    layer, params, x, dy, noise, training = data.draw(layer_calls(case))
    params, dy = LayerCase("", layer).params(NUMPY), dy.astype("float64")
    rng = np.random.default_rng(data.draw(seeds))
    # other rows: where all are equal, a batch norm is so curved that differences say little
    x, vx = rng.standard_normal((2, *x.shape))
    vp = rng.standard_normal(params.flat.shape)

    def moved(h: float) -> Any:
        moved_params = params.replace(flat=params.flat + h * vp)
        return _forward(layer, moved_params, x + h * vx, noise, training)[0]

    h = 1e-6
    difference = np.sum(dy * (moved(h) - moved(-h))) / (2.0 * h)
    _, dx, *grads = _layer_results(layer, params, x, dy, noise, training)
    flat = np.concatenate([np.reshape(g, -1) for g in grads]) if grads else np.zeros(0)
    product = np.sum(dx * vx) + np.sum(flat * vp)
    assert product == pytest.approx(difference, rel=1e-4, abs=1e-5)


@every_layer
@given(data=st.data())
@examples
def test_rows_in_another_order_give_the_same_in_that_order(case, data):
    layer, params, x, dy, noise, training = data.draw(layer_calls(case))
    if noise is not None:
        return
    order = np.random.default_rng(data.draw(seeds)).permutation(len(x))
    y, dx, *grads = _layer_results(layer, params, x, dy, noise, training)
    expected = [y[order], dx[order], *grads]
    results = _layer_results(layer, params, x[order], dy[order], noise, training)
    _assert_close(results, expected, x.dtype.name)


# Losses


@st.composite
def loss_calls(draw: st.DrawFn, case: LossCase) -> Any:
    """Draw predictions, targets, weights or None, and dvalue."""
    weights = getattr(case.loss, "class_weight", None)
    k = len(weights) if weights else draw(st.integers(1, 6))
    n, dtype = draw(st.integers(0, 6)), draw(dtypes)
    rng = np.random.default_rng(draw(seeds))
    y = draw(batch_layouts)(rng.standard_normal((n, k)).astype(dtype))
    t = draw(layouts)(case.t(rng, n, k))
    weights = draw(st.none() | layouts.map(lambda to: to(rng.uniform(0.0, 2.0, n).astype(dtype))))
    return y, t, weights, draw(st.floats(-2.0, 2.0))


def _loss_results(loss: Any, y: Any, t: Any, weights: Any, dvalue: Any) -> list:
    value, residuals = loss.forward(y, t, sample_weight=weights)
    return [value, loss.backward(residuals, dvalue)]


@every_loss
@given(data=st.data())
@examples
def test_a_loss_does_not_mind_how_its_arrays_lie_and_leaves_them_alone(case, data):
    y, t, weights, dvalue = data.draw(loss_calls(case))
    arrays = [a for a in (y, t, weights) if a is not None]
    before = _copies(arrays)
    results = _loss_results(case.loss, y, t, weights, dvalue)
    _assert_same(arrays, before)
    expected = _loss_results(case.loss, *before, *([None] if weights is None else []), dvalue)
    _assert_close(results, expected, y.dtype.name)


@every_loss
@given(data=st.data())
@examples
def test_backward_is_the_gradient_of_the_loss_times_dvalue(case, data):
    y, t, weights, dvalue = data.draw(loss_calls(case))
    y = y.astype("float64")
    weights = None if weights is None else weights.astype("float64")
    v = np.random.default_rng(data.draw(seeds)).standard_normal(y.shape)
    h = 1e-6
    above, below = (
        _loss_results(case.loss, y + step * v, t, weights, dvalue)[0] for step in (h, -h)
    )
    _, dy = _loss_results(case.loss, y, t, weights, dvalue)
    assert np.sum(dy * v) == pytest.approx(dvalue * (above - below) / (2 * h), rel=1e-4, abs=1e-6)


@every_loss
@given(data=st.data())
@examples
def test_a_loss_does_not_depend_on_the_order_of_the_rows(case, data):
    y, t, weights, dvalue = data.draw(loss_calls(case))
    order = np.random.default_rng(data.draw(seeds)).permutation(len(y))
    value, dy = _loss_results(case.loss, y, t, weights, dvalue)
    reordered = None if weights is None else weights[order]
    results = _loss_results(case.loss, y[order], t[order], reordered, dvalue)
    _assert_close(results, [value, dy[order]], y.dtype.name)


# Optimizers


@every_optimizer
@given(data=st.data())
@examples
def test_an_update_goes_entry_by_entry_wherever_entries_lie(opt, data):
    """The same numbers as one vector, laid out plainly, give the same; nothing given changes."""
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    dtype = data.draw(dtypes)
    rng = np.random.default_rng(data.draw(seeds))
    donate = data.draw(st.booleans())
    p = data.draw(layouts)(rng.standard_normal(shape).astype(dtype))
    vector = p.reshape(-1).copy()
    state, plain = opt.init(p), opt.init(vector)
    for _ in range(3):
        g = data.draw(layouts | st.just(_one_column))(rng.standard_normal(shape).astype(dtype))
        laid_out = {name: data.draw(layouts)(slot) for name, slot in state.slots.items()}
        state = state._replace(slots=laid_out)
        given_arrays = [g, *([] if donate else [p, *laid_out.values()])]
        before = _copies(given_arrays)
        p, state = opt.update(p, g, state, donate=donate)
        _assert_same(given_arrays, before)
        vector, plain = opt.update(vector, g.reshape(-1).copy(), plain)
        assert p.shape == shape
        _assert_close([p.reshape(-1)], [vector], dtype)
        slots = [slot.reshape(-1) for slot in state.slots.values()]
        _assert_close(slots, plain.slots.values(), dtype)
