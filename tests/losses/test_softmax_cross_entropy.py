"""Labels, weights and smoothing of the softmax cross entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anyprop as ap


@pytest.mark.parametrize("class_weight", [None, (1.0, 2.0, 3.0)], ids=["plain", "weighted"])
@pytest.mark.parametrize("bad", [-1, 3, 255, -(2**31)])
def test_a_label_out_of_range_makes_the_loss_nan_and_raises_nothing(bad, class_weight, backend):
    loss = ap.SoftmaxCrossEntropy(class_weight=class_weight)
    y, t = backend.asarray(np.zeros((4, 3)), "float32"), backend.asarray([0, 2, bad, 1], "int64")
    value, residuals = loss.forward(y, t)
    assert math.isnan(float(value))
    of_rows = np.isnan(backend.to_numpy(loss.backward(residuals))).all(axis=1)
    # Class weights are a part of the divisor, and so of all rows.
    assert of_rows.tolist() == ([False, False, True, False] if class_weight is None else [True] * 4)
    with pytest.raises(ValueError, match=f"label {bad} is out of range.* 0..2"):
        loss.check_targets(t, 3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_labels_may_have_any_integer_dtype(dtype, backend):
    """300 classes do not fit into a byte, which must not make classes alias each other."""
    loss = ap.SoftmaxCrossEntropy()
    y = np.zeros((2, 300))
    y[0, 5], y[1, 100] = 50.0, 50.0
    t = backend.asarray([5, 100], dtype)
    value, residuals = loss.forward(backend.asarray(y), t)
    assert float(value) < 1e-15
    assert (backend.to_numpy(loss.backward(residuals)) < 0).sum() <= 2
    np.testing.assert_array_equal(backend.to_numpy(loss.correct(backend.asarray(y), t)), [1, 1])


def test_labels_one_hot_rows_and_booleans_agree(backend, rng):
    for loss in (
        ap.SoftmaxCrossEntropy(),
        ap.SoftmaxCrossEntropy(label_smoothing=0.3, class_weight=(1.0, 5.0, 0.5)),
    ):
        y, labels = backend.asarray(rng.standard_normal((4, 3))), np.asarray([0, 2, 2, 1])
        results = []
        for t in (labels, np.eye(3)[labels], np.eye(3, dtype=bool)[labels]):
            value, residuals = loss.forward(y, backend.asarray(t))
            results.append([float(value), *backend.to_numpy(loss.backward(residuals)).ravel()])
        np.testing.assert_allclose(results[1], results[0], rtol=1e-14)
        np.testing.assert_allclose(results[2], results[0], rtol=1e-14)


def test_the_loss_is_not_capped_where_the_probability_underflows(backend):
    y, t = backend.asarray([[0.0, 1000.0]], "float32"), backend.asarray([0])
    value, residuals = ap.SoftmaxCrossEntropy().forward(y, t)
    assert float(value) == 1000.0
    dy = backend.to_numpy(ap.SoftmaxCrossEntropy().backward(residuals))
    np.testing.assert_array_equal(dy, [[-1.0, 1.0]])


def test_correct_compares_the_largest_logit_with_the_target(backend):
    y = backend.asarray([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    loss = ap.SoftmaxCrossEntropy()
    for t in ([1, 1, 2], np.eye(3)[[1, 1, 2]]):
        right = loss.correct(y, backend.asarray(t))
        np.testing.assert_array_equal(backend.to_numpy(right), [True, False, True])


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "labels must be integers, not float64"),
        ([True, False], TypeError, "labels must be integers, not bool"),
        ([[0.5, 0.6, 0.5], [1.0, 0.0, 0.0]], ValueError, "rows that sum to 1"),
        ([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]], ValueError, "rows that sum to 1"),
        ([[0.5, 0.5], [1.0, 0.0]], ValueError, r"\(2, 2\), expected \(N,\) .* or \(N, 3\)"),
        (1, ValueError, "targets have shape"),
    ],
)
def test_check_targets_says_what_is_wrong(t, error, message, backend):
    with pytest.raises(error, match=message):
        ap.SoftmaxCrossEntropy().check_targets(backend.asarray(t), 3)


@pytest.mark.parametrize("t", [[0, 0], [0, 1]])
def test_labels_for_one_output_are_refused(t, backend):
    with pytest.raises(ValueError, match="one output gives one class, which is certain"):
        ap.SoftmaxCrossEntropy().check_targets(backend.asarray(t), 1)


def test_labels_that_are_no_integers_are_refused_by_forward_too(backend):
    y = backend.asarray(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="labels must be integers, not float64"):
        ap.SoftmaxCrossEntropy().forward(y, backend.asarray([0.0, 1.0]))
    with pytest.raises(ValueError, match="3 labels for 2 rows"):
        ap.SoftmaxCrossEntropy().forward(y, backend.asarray([0, 1, 2]))


def test_class_weights_must_match_the_classes(backend):
    loss = ap.SoftmaxCrossEntropy(class_weight=[1.0, 2.0])
    y, t = backend.asarray(np.zeros((2, 3))), backend.asarray([0, 1])
    for call in (lambda: loss.forward(y, t), lambda: loss.check_targets(t, 3)):
        with pytest.raises(ValueError, match="2 entries for 3 classes"):
            call()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing must be in"),
        ({"label_smoothing": "a"}, TypeError, "label_smoothing must be a number"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, TypeError, "class_weight must be a sequence"),
        ({"class_weight": 2.0}, TypeError, "class_weight must be a sequence"),
        ({"class_weight": [1.0, -1.0]}, ValueError, r"class_weight\[1\] must be zero or a"),
        ({"class_weight": [1.0, float("nan")]}, ValueError, r"class_weight\[1\] must be"),
        ({"class_weight": "12"}, TypeError, "class_weight must be a sequence"),
        ({"class_weight": [1.0, float("inf")]}, ValueError, r"class_weight\[1\] must be"),
        ({"class_weight": [0.0, 0.0]}, ValueError, "class_weight holds no weight above 0"),
        ({"class_weight": []}, ValueError, "class_weight holds no weight above 0"),
    ],
)
def test_impossible_settings_are_refused(options, error, message):
    with pytest.raises(error, match=f"^SoftmaxCrossEntropy: {message}"):
        ap.SoftmaxCrossEntropy(**options)


def test_class_weights_may_be_an_array_and_stay_a_value():
    loss = ap.SoftmaxCrossEntropy(class_weight=np.asarray([1.0, 2.0], dtype="float32"))
    assert loss == ap.SoftmaxCrossEntropy(class_weight=(1.0, 2.0))
    assert hash(loss) == hash(ap.SoftmaxCrossEntropy(class_weight=[1.0, 2.0]))
