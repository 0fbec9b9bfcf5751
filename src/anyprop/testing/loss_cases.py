"""Every loss, with a case for each of its options and for each kind of target that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import anyprop as ap
from anyprop.losses.base import Loss


@dataclass(frozen=True)
class LossCase:
    """A loss, and how its targets are drawn for predictions of shape (n, k)."""

    id: str
    loss: Loss
    t: Callable[[np.random.Generator, int, int], Any]

    def __str__(self) -> str:
        return self.id


K = 4


def labels(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw classes."""
    return rng.integers(0, k, n)


def one_hot(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw classes as rows of 0 and 1."""
    return np.eye(k)[labels(rng, n, k)]


def distributions(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw rows of probabilities."""
    return rng.dirichlet(np.ones(k), n)


def yes_or_no(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw 0 or 1 for each entry."""
    return rng.integers(0, 2, (n, k))


def shares(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw numbers between 0 and 1."""
    return rng.uniform(0.0, 1.0, (n, k))


def reals(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw real numbers."""
    return rng.standard_normal((n, k))


def counts(rng: np.random.Generator, n: int, k: int) -> Any:
    """Draw counts."""
    return rng.poisson(2.0, (n, k))


CLASS_WEIGHT = (0.5, 2.0, 1.0, 0.25)

LOSS_CASES = [
    LossCase("softmax-labels", ap.SoftmaxCrossEntropy(), labels),
    LossCase("softmax-one_hot", ap.SoftmaxCrossEntropy(), one_hot),
    LossCase("softmax-distributions", ap.SoftmaxCrossEntropy(), distributions),
    LossCase("softmax-smoothed", ap.SoftmaxCrossEntropy(label_smoothing=0.1), labels),
    LossCase("softmax-weighted", ap.SoftmaxCrossEntropy(class_weight=CLASS_WEIGHT), labels),
    LossCase(
        "softmax-weighted-distributions",
        ap.SoftmaxCrossEntropy(class_weight=CLASS_WEIGHT),
        distributions,
    ),
    LossCase(
        "softmax-weighted-smoothed",
        ap.SoftmaxCrossEntropy(label_smoothing=0.2, class_weight=CLASS_WEIGHT),
        labels,
    ),
    LossCase("sigmoid-yes_or_no", ap.SigmoidCrossEntropy(), yes_or_no),
    LossCase("sigmoid-shares", ap.SigmoidCrossEntropy(), shares),
    LossCase("mean_squared", ap.MeanSquaredError(), reals),
    LossCase("mean_absolute", ap.MeanAbsoluteError(), reals),
    LossCase("huber", ap.Huber(), reals),
    LossCase("huber-narrow", ap.Huber(delta=0.3), reals),
    LossCase("poisson", ap.PoissonNLL(), counts),
    LossCase("poisson-deviance", ap.PoissonNLL(deviance=True), counts),
]
