"""Losses against torch.nn.functional and optax, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from anyprop.testing.loss_cases import CLASS_WEIGHT, LOSS_CASES, K, distributions, labels

by_id = {case.id: case for case in LOSS_CASES}
EXTREME = [[0.0] * K, [1e4, -1e4, 0.0, 1.0], [-1e4] * K, [500.0, 499.0, -30.0, 20.0], [1e4] * K]


def _torch_loss(case, reduction: str):
    """The loss of `torch.nn.functional` that a case is, as a function of (y, t)."""
    import torch
    from torch.nn import functional

    loss = case.loss
    match loss:
        case ap.SoftmaxCrossEntropy():
            weight = None if loss.class_weight is None else torch.tensor(loss.class_weight)
            options = {
                "weight": None if weight is None else weight.double(),
                "label_smoothing": loss.label_smoothing,
            }
            return lambda y, t: functional.cross_entropy(y, t, reduction=reduction, **options)
        case ap.SigmoidCrossEntropy():
            function = functional.binary_cross_entropy_with_logits
        case ap.MeanSquaredError():
            function = functional.mse_loss
        case ap.MeanAbsoluteError():
            function = functional.l1_loss
        case ap.Huber():
            return lambda y, t: functional.huber_loss(y, t, reduction=reduction, delta=loss.delta)
        case ap.PoissonNLL():

            def poisson(y, t):
                losses = functional.poisson_nll_loss(y, t, full=False, reduction="none")
                if loss.deviance:  # what is above the loss of the rate t itself
                    losses = losses - functional.poisson_nll_loss(
                        t, t, log_input=False, eps=1e-300, reduction="none"
                    )
                return losses.mean() if reduction == "mean" else losses

            return poisson
    return lambda y, t: function(y, t, reduction=reduction)


def _torch_t(t: np.ndarray):
    import torch

    return torch.tensor(t if t.ndim == 1 else t.astype("float64"))


def _assert_same(case, y, t, weights, function) -> None:
    """Compare value and gradient with those of `function(y, t) -> value` in torch."""
    import torch

    value, residuals = case.loss.forward(y, t, sample_weight=weights)
    dy = case.loss.backward(residuals, 1.7)
    their_y = torch.tensor(y, requires_grad=True)
    theirs = function(their_y, _torch_t(t))
    (1.7 * theirs).backward()
    np.testing.assert_allclose(float(value), float(theirs.detach()), rtol=1e-12)
    np.testing.assert_allclose(dy, their_y.grad.numpy(), rtol=1e-10, atol=1e-14)


# torch divides the loss of weighted distributions by N; ours by the weights, as for labels.
every_loss = pytest.mark.parametrize(
    "case", [c for c in LOSS_CASES if c.id != "softmax-weighted-distributions"], ids=str
)


@pytest.mark.needs("torch")
@every_loss
def test_value_and_gradient_are_those_of_torch(case, rng):
    for scale in (1.0, 10.0):
        y = scale * rng.standard_normal((6, K))
        _assert_same(case, y, case.t(rng, 6, K), None, _torch_loss(case, "mean"))


@pytest.mark.needs("torch")
@every_loss
def test_extreme_predictions_are_those_of_torch(case, rng):
    y = np.asarray(EXTREME)
    if isinstance(case.loss, ap.PoissonNLL):
        y = np.minimum(y, 500.0)
    _assert_same(case, y, case.t(rng, len(y), K), None, _torch_loss(case, "mean"))


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    "case", [c for c in LOSS_CASES if getattr(c.loss, "class_weight", None) is None], ids=str
)
def test_sample_weights_weigh_the_rows_of_torch(case, rng):
    import torch

    weights = rng.uniform(0.5, 2.0, 6)
    rows = _torch_loss(case, "none")

    def weighted(y, t):
        losses = rows(y, t)
        losses = losses if losses.ndim == 1 else losses.mean(dim=1)
        w = torch.tensor(weights)
        return (w * losses).sum() / w.sum()

    _assert_same(case, rng.standard_normal((6, K)), case.t(rng, 6, K), weights, weighted)


@pytest.mark.needs("torch")
def test_sample_and_class_weights_multiply(rng):
    import torch

    case, weights = by_id["softmax-weighted"], rng.uniform(0.5, 2.0, 6)
    rows = _torch_loss(case, "none")  # c_t l: weighted, not yet divided

    def weighted(y, t):
        w = torch.tensor(weights)
        return (w * rows(y, t)).sum() / (w * torch.tensor(CLASS_WEIGHT).double()[t]).sum()

    _assert_same(case, rng.standard_normal((6, K)), labels(rng, 6, K), weights, weighted)


@pytest.mark.needs("torch")
def test_weighted_distributions_are_torchs_up_to_the_divisor(rng):
    import torch

    case, t = by_id["softmax-weighted-distributions"], distributions(rng, 6, K)
    total = (t * np.asarray(CLASS_WEIGHT)).sum()
    summed = _torch_loss(case, "sum")
    y = rng.standard_normal((6, K))
    _assert_same(case, y, t, None, lambda y, t: summed(y, t) / torch.tensor(total))


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    ("case", "name", "options"),
    [
        ("softmax-labels", "softmax_cross_entropy_with_integer_labels", {}),
        ("softmax-distributions", "softmax_cross_entropy", {}),
        ("sigmoid-yes_or_no", "sigmoid_binary_cross_entropy", {}),
        ("sigmoid-shares", "sigmoid_binary_cross_entropy", {}),
        ("mean_squared", "squared_error", {}),
        ("huber-narrow", "huber_loss", {"delta": 0.3}),
    ],
)
def test_value_and_gradient_are_those_of_optax(case, name, options, rng):
    import jax
    import optax

    case = by_id[case]
    y, t = rng.standard_normal((6, K)), case.t(rng, 6, K)
    value, residuals = case.loss.forward(y, t)

    def mean(y):
        return jax.numpy.mean(getattr(optax, name)(y, jax.numpy.asarray(t), **options))

    theirs, their_dy = jax.value_and_grad(mean)(jax.numpy.asarray(y))
    np.testing.assert_allclose(float(value), float(theirs), rtol=1e-12)
    np.testing.assert_allclose(case.loss.backward(residuals), their_dy, rtol=1e-10, atol=1e-14)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_backward_is_the_derivative_that_jax_finds_of_forward(case, rng):
    import jax

    y, t = (jax.numpy.asarray(a) for a in (rng.standard_normal((6, K)), case.t(rng, 6, K)))
    weights = jax.numpy.asarray(rng.uniform(0.5, 2.0, 6))
    _, residuals = case.loss.forward(y, t, sample_weight=weights)
    theirs = jax.grad(lambda y: case.loss.forward(y, t, sample_weight=weights)[0])(y)
    dy = case.loss.backward(residuals)
    np.testing.assert_allclose(np.asarray(dy), np.asarray(theirs), rtol=1e-10, atol=1e-14)
