"""What the losses that compare number by number say about targets."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap


@pytest.mark.parametrize(
    ("loss", "bad", "message"),
    [
        (ap.SigmoidCrossEntropy(), 1.5, r"t\[1, 2\] is 1.5; targets must be finite and in"),
        (ap.SigmoidCrossEntropy(), -0.1, r"in \[0, 1\]"),
        (ap.PoissonNLL(), -1.0, r"in \[0, inf\]"),
        (ap.MeanSquaredError(), np.nan, r"t\[1, 2\] is nan; targets must be finite\."),
        (ap.Huber(), np.inf, "must be finite"),
        (ap.MeanAbsoluteError(), -np.inf, "must be finite"),
    ],
)
def test_a_target_out_of_range_is_named(loss, bad, message, backend):
    t = np.zeros((3, 4))
    t[1, 2] = bad
    with pytest.raises(ValueError, match=message):
        loss.check_targets(backend.asarray(t), 4)


def test_a_row_of_labels_is_correct_if_all_of_them_are(backend):
    y = backend.asarray([[1.0, -1.0], [1.0, 1.0], [-2.0, -2.0], [0.0, 3.0]])
    t = backend.asarray([[1, 0], [1, 0], [0, 0], [0, 1]])
    right = ap.SigmoidCrossEntropy().correct(y, t)
    np.testing.assert_array_equal(backend.to_numpy(right), [True, False, True, True])


def test_a_confident_right_label_costs_its_small_probability_of_error(backend):
    """log(1 + exp(20)) - 20 in float32 would be 0 or 2e-6."""
    y, t = backend.asarray([[20.0, -20.0]], "float32"), backend.asarray([[1, 0]])
    value, _ = ap.SigmoidCrossEntropy().forward(y, t)
    assert float(value) == pytest.approx(np.exp(-20.0), rel=1e-5)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("inf"), float("nan")])
def test_huber_needs_a_positive_delta(delta):
    with pytest.raises(ValueError, match="Huber: delta must be a positive finite number"):
        ap.Huber(delta)


def test_rates_whose_sum_overflows_cost_infinitely_much_without_a_warning():
    y = np.full((1, 10), 88.5, np.float32)  # exp(y) is finite, its sum over the row is not
    value, _ = ap.PoissonNLL().forward(y, np.ones_like(y))
    assert np.isposinf(value)


@pytest.mark.parametrize("loss", [ap.MeanSquaredError(), ap.MeanAbsoluteError(), ap.Huber()])
def test_sixteen_bits_of_predictions_do_not_round_targets(loss):
    y, t = np.ones((2, 3), "float16"), np.full((2, 3), 1 + 2.0**-12)  # which float16 rounds to 1
    for dtype in ("float32", "float64"):
        dy = loss.backward(loss.forward(y, t.astype(dtype))[1])
        wanted = loss.backward(loss.forward(y.astype(dtype), t.astype(dtype))[1])
        np.testing.assert_array_equal(dy, wanted.astype("float16"), strict=True)
        assert (dy < 0).all()
