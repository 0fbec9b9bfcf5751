"""Numbers at the edge of what a dtype holds: the results are those of float64 wherever they can be.

NumPy's warnings are errors in this suite, so nothing may overflow on the way either.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import dtype_name
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.testing.loss_cases import LOSS_CASES, K, LossCase
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from anyprop.testing.place import Place
from arrays import assert_beside

NUMPY = Place("numpy")
DIGITS = {"float16": 2e-2, "float32": 1e-4}
activation = pytest.mark.parametrize(
    "case", [c for c in LAYER_CASES if not c.layer.specs()], ids=str
)
layer_of_weights = pytest.mark.parametrize(
    "case", [c for c in LAYER_CASES if c.layer.specs()], ids=str
)
single_layer = pytest.mark.parametrize(
    "case",
    [c for c in LAYER_CASES if not isinstance(c.layer, (ap.Sequential, ap.Residual))],
    ids=str,
)
every_loss = pytest.mark.parametrize("case", LOSS_CASES, ids=str)
every_optimizer = pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)


def _narrow(backend) -> list[str]:
    """List the dtypes below float64; array-api-strict keeps to the standard, which has no float16."""
    return ["float32"] if backend.name == "array_api_strict" else ["float16", "float32"]


def _layer(case: LayerCase, backend, x, dtype: str) -> list[np.ndarray]:
    """y and dx of a training step, which keep the dtype, in float64."""
    params = case.params(backend, dtype)
    noise = case.layer.noise(np.random.default_rng(1), x.shape)
    x = backend.asarray(x, dtype)
    y, residuals = case.layer.forward_train(params, x, noise_beside(params, noise))
    dy = np.random.default_rng(2).standard_normal(tuple(y.shape))
    dx, _ = case.layer.backward(params, residuals, backend.asarray(dy, dtype))
    assert_beside(y, x)
    assert_beside(dx, x)
    return [backend.to_numpy(a).astype("float64") for a in (y, dx)]


def _assert_as_in_float64(narrow: list[np.ndarray], wide: list[np.ndarray], dtype: str) -> None:
    for result, expected in zip(narrow, wide, strict=True):
        scale = 1.0 + np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        np.testing.assert_allclose(result / scale, expected / scale, atol=DIGITS[dtype])


def _assert_layer_is_as_in_float64(case: LayerCase, backend, x, dtype: str) -> None:
    x = x[:, : case.d]
    _assert_as_in_float64(_layer(case, backend, x, dtype), _layer(case, NUMPY, x, "float64"), dtype)


@activation
def test_an_activation_of_large_numbers(case, backend):
    for dtype in _narrow(backend):
        largest = float(np.finfo(dtype).max) / 4
        for size in (1e4, largest**0.5, largest):
            x = size * np.asarray([[1.0, -1.0, 0.0, 0.5], [-1.0] * 4, [1.0] * 4])
            x[0, 3] = 2.0
            _assert_layer_is_as_in_float64(case, backend, x, dtype)


@layer_of_weights
def test_a_layer_with_weights_of_large_numbers(case, backend):
    """A norm squares its inputs: they may be as large as the root of the largest number."""
    for dtype in _narrow(backend):
        size = min(1e4, float(np.finfo(dtype).max) ** 0.5 / 4)
        x = size * np.asarray([[1.0, -1.0, 0.0, 0.5], [-1.0] * 4, [1.0] * 4])
        _assert_layer_is_as_in_float64(case, backend, x, dtype)


@single_layer
def test_a_layer_of_the_smallest_numbers(case, backend):
    """JAX treats subnormal numbers as 0, so those are left out."""
    for dtype in _narrow(backend):
        smallest = float(np.finfo(dtype).smallest_normal)
        x = smallest * np.asarray([[1.0] * 4, [-1.0] * 4, [0.0] * 4])
        _assert_layer_is_as_in_float64(case, backend, x, dtype)


def _loss(case: LossCase, backend, y, t, weights, dtype: str) -> list[np.ndarray]:
    """The value and dy, which keep the dtype, in float64."""
    y = backend.asarray(y, dtype)
    weights = None if weights is None else backend.asarray(weights, dtype)
    value, residuals = case.loss.forward(y, backend.asarray(t), sample_weight=weights)
    dy = case.loss.backward(residuals)
    assert_beside(value, y)
    assert_beside(dy, y)
    return [backend.to_numpy(a).astype("float64") for a in (value, dy)]


@every_loss
def test_a_loss_of_large_predictions_over_many_rows(case, backend, rng):
    """The mean exists where the sum over the batch is above the largest number."""
    for dtype in _narrow(backend):
        size = 1e4
        if isinstance(case.loss, ap.MeanSquaredError):
            size = min(size, float(np.finfo(dtype).max) ** 0.5 / 2)
        y = np.asarray([[size, -size, 0.0, 1.0], [-size] * K, [size] * K, [3.0, 2.0, size, size]])
        if isinstance(case.loss, ap.PoissonNLL):
            y = np.minimum(y, 8.0)
        y, t = np.tile(y, (50, 1)), np.tile(case.t(rng, 4, K).T, 50).T
        for weights in (None, rng.uniform(0.5, 2.0, len(y))):
            _assert_as_in_float64(
                _loss(case, backend, y, t, weights, dtype),
                _loss(case, NUMPY, y, t, weights, "float64"),
                dtype,
            )


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"])
def test_labels_may_use_the_whole_range_of_their_dtype(kind, backend, rng):
    largest = min(int(np.iinfo(kind).max), 300)
    k = largest + 1
    y = backend.asarray(rng.standard_normal((2, k)))
    labels = np.asarray([0, largest], dtype=kind)
    if backend.name == "torch" and kind in ("uint16", "uint32"):
        labels = labels.astype("int64")  # torch cannot compare them
    loss, t = ap.SoftmaxCrossEntropy(), backend.asarray(labels)
    loss.check_targets(t, k)
    value, residuals = loss.forward(y, t)
    one_hot = backend.asarray(np.eye(k)[[0, largest]])
    expected, expected_residuals = loss.forward(y, one_hot)
    assert float(value) == float(expected)
    np.testing.assert_array_equal(
        backend.to_numpy(loss.backward(residuals)),
        backend.to_numpy(loss.backward(expected_residuals)),
    )


@pytest.mark.parametrize("label", [-1, 4, 2**31, 2**62, -(2**63)])
def test_a_label_out_of_range_makes_the_loss_nan_and_is_named(label, backend, rng):
    y, t = backend.asarray(rng.standard_normal((3, K))), backend.asarray(np.asarray([0, label, 3]))
    loss = ap.SoftmaxCrossEntropy()
    assert np.isnan(float(loss.forward(y, t)[0]))
    with pytest.raises(ValueError, match=f"label {label} is out of range"):
        loss.check_targets(t, K)


def _half(backend, host):
    return backend.asarray(host, "float16")


@pytest.mark.parametrize("mean", [0.0, 100.0, 1000.0])
@pytest.mark.parametrize("std", [1.0, 10.0, 200.0])
@pytest.mark.parametrize("norm", [ap.BatchNorm, ap.LayerNorm])
def test_norms_of_many_numbers_in_float16(norm, mean, std, backend, rng):
    """The oracle is NumPy in float64, of the numbers that float16 holds."""
    if "float16" not in _narrow(backend):
        return
    axis = 0 if norm is ap.BatchNorm else 1
    shape = (4000, 3) if axis == 0 else (3, 4000)
    host = (mean + std * rng.standard_normal(shape)).astype("float16")
    layer, wide = norm(shape[1]), host.astype("float64")
    params = layer.init(dtype="float16", xp=backend.xp)
    y, residuals = layer.forward_train(params, _half(backend, host), None)
    centred = wide - wide.mean(axis=axis, keepdims=True)
    expected = centred / np.sqrt(wide.var(axis=axis, keepdims=True) + layer.eps)
    np.testing.assert_allclose(backend.to_numpy(y), expected, atol=1e-2)
    dy = rng.uniform(0.0, 1.0, shape).astype("float16")
    _, grads = layer.backward(params, residuals, _half(backend, dy))
    for name, sums in (("beta", dy.astype("float64")), ("gamma", dy * expected)):
        assert dtype_name(grads[name]) == "float16"
        np.testing.assert_allclose(
            backend.to_numpy(grads[name]), sums.sum(axis=0), rtol=2e-3, atol=0.1
        )
    if axis == 0:
        updated = layer.updated_running(params, residuals)
        with np.errstate(over="ignore"):
            var = 0.9 + 0.1 * wide.var(axis=0, ddof=1)
        np.testing.assert_allclose(backend.to_numpy(updated["var"]), var, rtol=2e-3)


@pytest.mark.parametrize("norm", [ap.BatchNorm, ap.LayerNorm])
def test_a_variance_near_the_largest_number(norm, backend, rng):
    """Its sum over a thousand squares is above it, and so are single squares."""
    shape = (1000, 2) if norm is ap.BatchNorm else (2, 1000)
    axis = 0 if norm is ap.BatchNorm else 1
    host = (1e19 * rng.standard_normal(shape)).astype("float32")
    layer, wide = norm(shape[1]), host.astype("float64")
    params = layer.init(xp=backend.xp, device=backend.device)
    y, _ = layer.forward_train(params, backend.asarray(host), None)
    expected = (wide - wide.mean(axis=axis, keepdims=True)) / wide.std(axis=axis, keepdims=True)
    np.testing.assert_allclose(backend.to_numpy(y), expected, atol=1e-4)


def test_the_bias_of_many_rows_in_float16(backend):
    """Added up one by one in 16 bits, a sum of 0.01 ends at 32."""
    if "float16" not in _narrow(backend):
        return
    layer, x = ap.Affine(1, 2), _half(backend, np.ones((5000, 1)))
    params = layer.init(dtype="float16", xp=backend.xp)
    _, residuals = layer.forward(params, x)
    grads = layer.backward_params(params, residuals, _half(backend, np.full((5000, 2), 0.01)))
    np.testing.assert_allclose(backend.to_numpy(grads["b"]), 50.0, rtol=2e-3)


@every_loss
def test_weights_whose_sum_overflows(case, backend, rng):
    """The mean is that of weights of 1."""
    for dtype, weight in (("float16", 60_000.0), ("float32", 1e38)):
        if dtype not in _narrow(backend):
            continue
        y, t = rng.standard_normal((2000, K)).astype(dtype), case.t(rng, 2000, K)
        t = t.astype(dtype).astype("float64") if t.dtype.kind == "f" else t
        value, dy = _loss(case, backend, y, t, np.full(2000, weight), dtype)
        expected, slope = _loss(case, NUMPY, y, t, None, "float64")
        np.testing.assert_allclose(value, expected, rtol=2e-3)
        np.testing.assert_allclose(2000 * dy, 2000 * slope, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 3}], ids=["whole", "parts"])
def test_steps_with_weights_whose_sum_overflows(dtype, options, backend, rng):
    """float16 has the loss of float64 to three digits, and parts have that of the whole."""
    if dtype not in _narrow(backend):
        return
    x, t = rng.standard_normal((2000, 3)), rng.integers(0, 2, 2000)
    net, opt = ap.MLP([3, 4, 2]), ap.SGD(lr=0.1)
    loss = ap.SoftmaxCrossEntropy(class_weight=[50.0, 50.0])

    def after(place, dtype, **options):
        params = net.init(seed=8, dtype=dtype, xp=place.xp, device=place.device)
        weights = place.asarray(np.full(2000, 50.0), dtype)
        step = ap.make_step(net, loss, opt, **options)
        new, _, value = step(
            params,
            opt.init(params),
            place.asarray(x, dtype),
            place.asarray(t),
            sample_weight=weights,
        )
        moved = place.to_numpy(new.flat).astype("float64") - place.to_numpy(params.flat)
        return float(value), moved

    value, moved = after(backend, dtype, **options)
    expected, wanted = after(NUMPY, "float64")
    assert value == pytest.approx(expected, rel=2e-3)
    np.testing.assert_allclose(moved, wanted, atol=1e-3)
    assert np.abs(wanted).max() > 0.01


def test_evaluate_counts_rows_that_float16_cannot(backend):
    """65,535 of 70,001 are right, and float16 holds neither number."""
    if "float16" not in _narrow(backend):
        return
    n = 70_001
    net, labels = ap.Affine(1, 2), (np.arange(n) >= 65_535).astype("int64")
    params = net.init(weights="zeros", dtype="float16", xp=backend.xp)
    data = (_half(backend, np.ones((n, 1))), backend.asarray(labels))
    result = ap.evaluate(net, params, data, loss=ap.SoftmaxCrossEntropy(), batch_size=n)
    assert result.accuracy == 65_535 / n
    assert result.loss == pytest.approx(np.log(2.0), rel=1e-3)


INF = np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "y", "t", "value", "dy"),
    [
        (ap.SoftmaxCrossEntropy(), [-INF, 0, 0], 1, np.log(2), [0, -0.5, 0.5]),
        (ap.SoftmaxCrossEntropy(), [-INF, 0, 0], [0, 1, 0], np.log(2), [0, -0.5, 0.5]),
        (ap.SoftmaxCrossEntropy(), [-INF, 0, 0], [0, 0.5, 0.5], np.log(2), [0, 0, 0]),
        (ap.SoftmaxCrossEntropy(), [-INF, 0, 0], 0, INF, [-1, 0.5, 0.5]),
        (ap.SoftmaxCrossEntropy(0.3), [-INF, 0, 0], 1, INF, [-0.1, -0.3, 0.4]),
        (ap.SoftmaxCrossEntropy(class_weight=[0, 1, 1]), [-INF, 0, 0], 0, 0, [0, 0, 0]),
        (ap.SigmoidCrossEntropy(), [-INF, INF], [0, 1], 0, [0, 0]),
        (ap.SigmoidCrossEntropy(), [INF, 0], [0, 1], INF, [0.5, -0.25]),
        (ap.SigmoidCrossEntropy(), [INF, 0], [0.5, 1], INF, [0.25, -0.25]),
        (ap.PoissonNLL(), [-INF, 0], [0, 0], 0.5, [0, 0.5]),
        (ap.PoissonNLL(deviance=True), [-INF, 0], [0, 0], 0.5, [0, 0.5]),
        (ap.PoissonNLL(), [-INF, 0], [1, 0], INF, [-0.5, 0.5]),
        (ap.PoissonNLL(), [INF, 0], [1, 0], INF, [INF, 0.5]),
    ],
)
def test_nothing_times_infinity_is_nothing(loss, y, t, value, dy, dtype, backend):
    targets = backend.asarray([t], "int64" if isinstance(t, int) else dtype)
    found, residuals = loss.forward(backend.asarray([y], dtype), targets)
    np.testing.assert_allclose(backend.to_numpy(found), value, rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(loss.backward(residuals)), [dy], atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("bad", [INF, -INF, np.nan])
@every_loss
def test_a_row_of_weight_0_is_not_there(case, bad, backend, rng):
    y, t = rng.standard_normal((4, K)), case.t(rng, 4, K)
    weights = np.asarray([1.0, 0.0, 2.0, 0.5])
    expected, slope = _loss(case, NUMPY, y[[0, 2, 3]], t[[0, 2, 3]], weights[[0, 2, 3]], "float64")
    y[1] = bad
    value, dy = _loss(case, backend, y, t, weights, "float64")
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(dy[[0, 2, 3]], slope, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(dy[1], 0.0)


P = np.asarray([1.0, -2.0, 0.0, 3.0])


def _for(opt, dtype: str):
    """The optimizer, with an eps that float16 can tell from 0."""
    if dtype == "float16" and hasattr(opt, "eps"):
        return dataclasses.replace(opt, eps=max(opt.eps, 1e-4))
    return opt


def _updated(opt, backend, dtype: str, gradients) -> tuple:
    p = backend.asarray(P, dtype)
    state = opt.init(p)
    for g in gradients:
        p, state = opt.update(p, backend.asarray(g, dtype), state)
    return backend.to_numpy(p), [backend.to_numpy(slot) for slot in state.slots.values()]


@every_optimizer
def test_gradients_that_are_all_zero(opt, backend):
    """From the start on, and after others."""
    opt = dataclasses.replace(opt, weight_decay=0.0)
    for dtype in _narrow(backend):
        p, _ = _updated(_for(opt, dtype), backend, dtype, [0.0 * P] * 5)
        np.testing.assert_array_equal(p, P.astype(dtype))
        p, slots = _updated(_for(opt, dtype), backend, dtype, [P] + [0.0 * P] * 50)
        for array in (p, *slots):
            assert np.isfinite(array).all()
        assert p[2] == 0.0


@every_optimizer
def test_gradients_of_every_size(opt, backend):
    """Squares are formed of them: up to the root of the largest number they must not overflow."""
    for dtype in _narrow(backend):
        limits = np.finfo(dtype)
        smallest, largest = float(limits.smallest_subnormal), float(limits.max) ** 0.5 / 8
        sizes = np.asarray([smallest, largest, smallest, smallest**0.5])
        signs = np.asarray([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
        p, slots = _updated(_for(opt, dtype), backend, dtype, [sizes * sign for sign in signs] * 3)
        for array in (p, *slots):
            assert np.isfinite(array).all()


def test_an_eps_that_float16_takes_for_zero_is_refused(backend):
    if "float16" not in _narrow(backend):
        return
    half = backend.asarray(P, "float16")
    with pytest.raises(ValueError, match=r"Adam: eps=1e-08 is too small for float16"):
        ap.Adam().init(half)
    for make in (ap.SGD, ap.Momentum, ap.Lion, ap.Rprop):
        make().init(half)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_eps_named_where_one_is_too_small_is_accepted_and_hardly_larger_than_needed(dtype):
    p, told = np.asarray(P, dtype), r"give an eps of at least (\S+)\.$"
    with pytest.raises(ValueError, match=told) as error:
        ap.Adam(eps=1e-320).init(p)
    eps = float(re.search(told, str(error.value))[1])
    ap.Adam(eps=eps).init(p)
    with pytest.raises(ValueError, match="is too small"):
        ap.Adam(eps=0.9 * eps).init(p)


def test_rprop_sees_the_signs_of_gradients_of_any_size(backend):
    opt = ap.Rprop(lr=0.01, step_min=1e-4)
    signs = np.asarray([[1.0, 1.0, -1.0, 0.0], [1.0, -1.0, -1.0, 0.0], [1.0, 1.0, 1.0, -1.0]])
    for dtype in _narrow(backend):
        limits = np.finfo(dtype)
        expected, slots = _updated(opt, backend, dtype, signs)
        assert len(set(slots[1].tolist())) > 1
        for size in (float(limits.smallest_normal), float(limits.max)):
            actual, of_size = _updated(opt, backend, dtype, size * signs)
            np.testing.assert_array_equal(actual, expected)
            np.testing.assert_array_equal(of_size[1], slots[1])


def test_a_limit_beyond_the_dtype_clips_nothing(backend):
    for dtype in _narrow(backend):
        largest = float(np.finfo(dtype).max)
        g = np.asarray([largest, -1.0, 0.5, 0.0])
        plain = _updated(ap.SGD(lr=1e-3), backend, dtype, [g])[0]
        clipped = _updated(ap.SGD(lr=1e-3, clip_value=1e3 * largest), backend, dtype, [g])[0]
        np.testing.assert_array_equal(clipped, plain)


def test_a_slot_that_starts_beyond_the_dtype_is_refused(backend):
    for dtype in _narrow(backend):
        largest = float(np.finfo(dtype).max)
        p = backend.asarray(P, dtype)
        with pytest.raises(ValueError, match=f"AdaGrad: the slot h starts at .* largest {dtype}"):
            ap.AdaGrad(eps=1e-3, initial_accumulator=1.1 * largest).init(p)
        ap.AdaGrad(eps=1e-3, initial_accumulator=largest).init(p)


@every_optimizer
def test_steps_that_are_counted_in_an_array_are_counted_in_16_bits_too(opt, backend):
    """A schedule that is traced has the step there; 70,000 is beyond float16."""
    if "float16" not in _narrow(backend):
        return
    opt, p = _for(opt, "float16"), backend.asarray(P, "float16")
    for step in (0, 3, 300, 70_000):
        state = opt.init(p)._replace(step=step)
        counted = state._replace(step=backend.asarray(np.asarray(float(step)), "float32"))
        expected = opt.update(p, 0.5 * p, state)[0]
        actual = opt.update(p, 0.5 * p, counted)[0]
        np.testing.assert_allclose(backend.to_numpy(actual), backend.to_numpy(expected), rtol=4e-3)
