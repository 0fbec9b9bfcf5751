"""What every loss guarantees, on every backend."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import anyprop as ap
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.place import Place
from arrays import assert_beside, other_backends_array, with_gaps

every_loss = pytest.mark.parametrize("case", LOSS_CASES, ids=str)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def _batch(case, backend, rng, n: int = 5, dtype: str = "float64"):
    y = backend.asarray(rng.standard_normal((n, K)), dtype)
    return y, backend.asarray(case.t(rng, n, K))


def _run(case, backend, y, t, weights=None, dvalue=1.0) -> tuple[float, np.ndarray]:
    value, residuals = case.loss.forward(y, t, sample_weight=weights)
    return float(value), backend.to_numpy(case.loss.backward(residuals, dvalue))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@both_dtypes
@every_loss
def test_results_lie_beside_the_inputs_and_inputs_stay_as_they_are(
    case, dtype, weighted, backend, rng
):
    y, t = _batch(case, backend, rng, dtype=dtype)
    # weights of another dtype than y's follow y
    weights = backend.asarray(rng.uniform(0.5, 2.0, 5), "float32") if weighted else None
    inputs = [a for a in (y, t, weights) if a is not None]
    before = [backend.to_numpy(a).copy() for a in inputs]
    value, residuals = case.loss.forward(y, t, sample_weight=weights)
    dvalues = (2.5, backend.asarray(2.5, dtype))
    for dy in [case.loss.backward(residuals, dvalue) for dvalue in dvalues]:
        assert tuple(dy.shape) == tuple(y.shape)
        assert_beside(dy, y)
    assert tuple(value.shape) == ()
    assert_beside(value, y)
    for array, host in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), host)


@every_loss
def test_whole_numbers_as_predictions_are_refused(case, backend, rng):
    y, t = backend.asarray(np.ones((5, K), "int32")), backend.asarray(case.t(rng, 5, K))
    with pytest.raises(TypeError, match="floating dtype, not of int32; cast it to float32"):
        case.loss.forward(y, t)


@every_loss
def test_complex_targets_and_weights_are_refused(case, backend, rng):
    """A cast to real numbers would drop their imaginary parts."""
    y, t = _batch(case, backend, rng)
    complex_t = backend.asarray(np.full((5, K), 0.25 + 1j), "complex64")
    for call in (
        lambda: case.loss.forward(y, complex_t),
        lambda: case.loss.check_targets(complex_t, K),
    ):
        with pytest.raises(TypeError, match="t must be of a real dtype, not complex64"):
            call()
    weights = backend.asarray(np.ones(5), "complex64")
    with pytest.raises(TypeError, match="sample_weight must be of a real dtype, not complex64"):
        case.loss.forward(y, t, sample_weight=weights)


@every_loss
def test_gradients_are_those_of_central_differences(case, backend, rng):
    y, t = _batch(case, backend, rng)
    assert ap.gradcheck(case.loss, y, t=t).checked == 2 * 5 * K


@every_loss
def test_numbers_are_those_of_numpy(case, backend, rng):
    y, t = rng.standard_normal((5, K)), case.t(rng, 5, K)
    weights = rng.uniform(0.5, 2.0, 5)
    value, dy = _run(case, backend, *map(backend.asarray, (y, t, weights)))
    expected, expected_dy = _run(case, Place("numpy"), y, t, weights)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(dy, expected_dy, rtol=1e-12, atol=1e-14)


@every_loss
def test_memory_may_have_gaps(case, backend, rng):
    y, t, weights = rng.standard_normal((5, K)), case.t(rng, 5, K), rng.uniform(0.5, 2.0, 5)
    value, dy = _run(case, backend, *map(backend.asarray, (y, t, weights)))
    other, other_dy = _run(case, backend, *(with_gaps(backend, a) for a in (y, t, weights)))
    assert value == pytest.approx(other, rel=1e-13)
    np.testing.assert_allclose(dy, other_dy, rtol=1e-13)


@every_loss
def test_the_upstream_gradient_scales_dy(case, backend, rng):
    y, t = _batch(case, backend, rng)
    _, dy = _run(case, backend, y, t)
    for dvalue in (2.5, backend.asarray(2.5)):
        np.testing.assert_allclose(_run(case, backend, y, t, None, dvalue)[1], 2.5 * dy, rtol=1e-14)


@every_loss
def test_a_loss_can_be_used_twice_before_either_backward(case, backend, rng):
    batches = [_batch(case, backend, rng, n) for n in (5, 3)]
    alone = [_run(case, backend, *batch)[1] for batch in batches]
    kept = [case.loss.forward(*batch)[1] for batch in batches]
    for residuals, expected in zip(kept, alone, strict=True):
        for _ in range(2):
            dy = backend.to_numpy(case.loss.backward(residuals))
            np.testing.assert_array_equal(dy, expected)


@every_loss
def test_a_weight_counts_as_so_many_rows(case, backend, rng):
    y, t = rng.standard_normal((4, K)), case.t(rng, 4, K)
    times = [1, 0, 3, 2]
    repeated = [backend.asarray(np.repeat(a, times, axis=0)) for a in (y, t)]
    value, repeated_dy = _run(case, backend, *repeated)
    weights = backend.asarray(times, "float64")
    weighted, dy = _run(case, backend, backend.asarray(y), backend.asarray(t), weights)
    assert weighted == pytest.approx(value, rel=1e-12)
    assert not dy[1].any()
    rows = np.repeat(np.arange(4), times)
    summed = np.zeros_like(dy)
    np.add.at(summed, rows, repeated_dy)
    np.testing.assert_allclose(dy, summed, rtol=1e-12, atol=1e-15)


@every_loss
def test_weights_of_one_change_nothing(case, backend, rng):
    y, t = _batch(case, backend, rng)
    value, dy = _run(case, backend, y, t)
    weighted, weighted_dy = _run(case, backend, y, t, backend.asarray(np.ones(5)))
    assert weighted == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(weighted_dy, dy, rtol=1e-13)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@every_loss
def test_parts_of_a_batch_add_up_by_their_total_weights(case, weighted, backend, rng):
    y, t, weights = rng.standard_normal((7, K)), case.t(rng, 7, K), rng.uniform(0.5, 2.0, 7)
    dtype = backend.asarray(y).dtype

    def part(rows: slice) -> tuple[float, np.ndarray, float]:
        w = backend.asarray(weights[rows]) if weighted else None
        part_t = backend.asarray(t[rows])
        total = case.loss.total_weight(part_t, w, dtype=dtype)
        if hasattr(total, "dtype"):
            assert total.dtype == dtype
        return *_run(case, backend, backend.asarray(y[rows]), part_t, w), float(total)

    whole, whole_dy, whole_total = part(slice(0, 7))
    parts = [part(slice(0, 2)), part(slice(2, 2)), part(slice(2, 7))]
    assert sum(total for _, _, total in parts) == pytest.approx(whole_total, rel=1e-14)
    sums = sum(value * total for value, _, total in parts)
    assert sums / whole_total == pytest.approx(whole, rel=1e-12)
    dy = np.concatenate([dy * total for _, dy, total in parts]) / whole_total
    np.testing.assert_allclose(dy, whole_dy, rtol=1e-12, atol=1e-16)


@both_dtypes
@every_loss
def test_a_total_weight_has_the_dtype_asked_for(case, dtype, backend, rng):
    """Whatever the dtypes of targets and weights."""
    t, weights = backend.asarray(case.t(rng, 5, K)), backend.asarray(rng.uniform(0.5, 2.0, 5))
    total = case.loss.total_weight(t, weights, dtype=backend.asarray(0.0, dtype).dtype)
    assert_beside(total, weights, dtype)


@every_loss
def test_nothing_is_copied_that_has_its_dtype_already(case, rng, monkeypatch):
    """Targets and weights can be large."""
    xp = ap.get_namespace("numpy")
    convert, kept = xp.astype, []

    def spied(x, dtype, /, **options):
        converted = convert(x, dtype, **options)
        kept.append(x.dtype != dtype or converted is x)
        return converted

    monkeypatch.setattr(xp, "astype", spied)
    y, t = _batch(case, Place("numpy"), rng)
    weights = np.ones(5)
    case.loss.forward(y, t, sample_weight=weights)
    case.loss.total_weight(t, weights, dtype=y.dtype)
    case.loss.correct(y, t)
    assert kept
    assert all(kept)


@both_dtypes
@every_loss
def test_a_batch_of_no_rows_or_no_weight_contributes_nothing(case, dtype, backend, rng):
    for n, weights in ((0, None), (0, []), (3, [0.0, 0.0, 0.0])):
        y, t = _batch(case, backend, rng, n, dtype)
        w = None if weights is None else backend.asarray(weights, dtype)
        value, dy = _run(case, backend, y, t, w)
        assert value == 0.0
        assert dy.shape == (n, K)
        assert not dy.any()


@both_dtypes
@every_loss
def test_large_predictions_neither_overflow_nor_warn(case, dtype, backend, rng):
    """NumPy's warnings are errors in this suite."""
    y = np.asarray([[1e4, -1e4, 0.0, 1.0], [-1e4] * K, [1e4] * K, [3.0, 2.0, 1e4, 1e4]])
    if isinstance(case.loss, ap.PoissonNLL):
        y = -abs(y)  # a rate of exp(1e4) is infinite, which has a test of its own
    y, t = backend.asarray(y, dtype), backend.asarray(case.t(rng, 4, K))
    value, dy = _run(case, backend, y, t)
    assert math.isfinite(value)
    assert np.isfinite(dy).all()


@pytest.mark.parametrize("largest", [74.0, 90.0, 1e4])
def test_a_poisson_rate_without_bound_gives_an_infinite_loss_and_no_warning(largest, backend):
    y = backend.asarray([[largest] * K] * 100, "float32")
    value, residuals = ap.PoissonNLL().forward(y, backend.asarray(np.ones((100, K))))
    assert math.isinf(value) == (largest > 75.0)
    assert not np.isnan(backend.to_numpy(ap.PoissonNLL().backward(residuals))).any()


@pytest.mark.parametrize("shape", [(4, K), (5, K - 1), (5, 1), (5, K, 1), (1, 5)], ids=str)
@every_loss
def test_targets_of_another_shape_are_refused(case, shape, backend, rng):
    y, _ = _batch(case, backend, rng)
    with pytest.raises(ValueError, match=r"^t has shape .*, expected \(5, 4\)\.$"):
        case.loss.forward(y, backend.asarray(np.zeros(shape)))


@every_loss
def test_targets_of_one_number_a_row_are_refused_or_labels(case, backend, rng):
    """(N,) against (N, 1) would broadcast to (N, N)."""
    y = backend.asarray(rng.standard_normal((5, 1)))
    with pytest.raises((ValueError, TypeError), match=r"\(5, 1\)|labels must be integers"):
        case.loss.forward(y, backend.asarray(np.zeros(5)))


@pytest.mark.parametrize("shape", [(5,), (), (2, 5, K)], ids=str)
@every_loss
def test_predictions_that_are_no_rows_are_refused(case, shape, backend):
    y = backend.asarray(np.zeros(shape))
    with pytest.raises(ValueError, match=r"^predictions have shape .*, expected \(N, K\)\.$"):
        case.loss.forward(y, backend.asarray(np.zeros(shape)))


@pytest.mark.parametrize("shape", [(4,), (5, 1), (5, K)], ids=str)
@every_loss
def test_weights_of_another_shape_are_refused(case, shape, backend, rng):
    y, t = _batch(case, backend, rng)
    with pytest.raises(ValueError, match=r"^sample_weight has shape .*, expected \(5,\)\.$"):
        case.loss.forward(y, t, sample_weight=backend.asarray(np.ones(shape)))


@every_loss
def test_arrays_of_two_namespaces_are_refused(case, backend, rng):
    y, t = _batch(case, backend, rng)
    with pytest.raises(TypeError, match="together"):
        case.loss.forward(y, other_backends_array(backend, case.t(rng, 5, K)))
    with pytest.raises(TypeError, match="together"):
        case.loss.forward(y, t, sample_weight=other_backends_array(backend, np.ones(5)))
    if case.loss.correct(y, t) is not None:
        with pytest.raises(TypeError, match="together"):
            case.loss.correct(y, other_backends_array(backend, case.t(rng, 5, K)))


@every_loss
def test_check_targets_accepts_what_the_loss_is_for(case, backend, rng):
    assert case.loss.check_targets(backend.asarray(case.t(rng, 20, K)), K) is None


@every_loss
def test_check_targets_refuses_another_width(case, backend, rng):
    t = case.t(rng, 20, K)
    told = r"label . is out of range|entries for|^targets .* \(N, 2\)|^t has .* \(N, 2\)"
    with pytest.raises(ValueError, match=told):
        case.loss.check_targets(backend.asarray(t), 2)


@every_loss
def test_check_targets_refuses_numbers_that_are_not_finite(case, backend, rng):
    t = case.t(rng, 20, K)
    if t.ndim == 1:
        return
    for bad in (math.nan, math.inf, -math.inf):
        worse = t.astype("float64")
        worse[3, 2] = bad
        with pytest.raises(ValueError, match=r"t\[3, 2\] is|sum to 1"):
            case.loss.check_targets(backend.asarray(worse), K)


@every_loss
def test_correct_tells_of_each_row_or_has_no_meaning(case, backend, rng):
    y, t = _batch(case, backend, rng)
    right = case.loss.correct(y, t)
    if right is None:
        assert isinstance(
            case.loss, (ap.MeanSquaredError, ap.MeanAbsoluteError, ap.Huber, ap.PoissonNLL)
        )
        return
    assert_beside(right, y, "bool")
    assert tuple(right.shape) == (5,)


@every_loss
def test_a_loss_is_a_value(case):
    """Its text makes an equal one, which is what files and error messages rely on."""
    copy = eval(repr(case.loss), vars(ap))
    assert copy == case.loss
    assert hash(copy) == hash(case.loss)


@every_loss
def test_every_number_of_a_loss_is_checked(case):
    for option in dataclasses.fields(case.loss):
        if isinstance(getattr(case.loss, option.name), (bool, int, float)):
            told = f"{type(case.loss).__name__}: {option.name} must"
            with pytest.raises((TypeError, ValueError), match=told):
                dataclasses.replace(case.loss, **{option.name: math.nan})


@pytest.mark.needs("jax")
@every_loss
def test_jax_can_trace_it(case, rng):
    import jax

    y, t = _batch(case, Place("jax"), rng)
    weights = Place("jax").asarray(rng.uniform(0.5, 2.0, 5))

    def both(y, t, weights):
        value, residuals = case.loss.forward(y, t, sample_weight=weights)
        return value, case.loss.backward(residuals, value)

    for one, other in zip(both(y, t, weights), jax.jit(both)(y, t, weights), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12)
