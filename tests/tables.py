"""Every layer and every loss that the contract tests and the oracles run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import anyprop as ap
from anyprop.backend import device_of, dtype_name, namespace
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss

WIDTH = 4


@dataclass(frozen=True)
class LayerCase:
    """A layer; x is any rows of its width."""

    id: str
    layer: Layer

    @property
    def d(self) -> int:
        return getattr(self.layer, "d", None) or WIDTH

    def x(self, rng: np.random.Generator, n: int = 5) -> np.ndarray:
        return rng.standard_normal((n, self.d))

    def params(self, backend: Any, dtype: str = "float64") -> Any:
        """Parameters away from their starting values, so that no gain is 1 and no shift 0."""
        params = self.layer.init(8, xp=backend.xp, dtype=dtype, device=backend.device)
        shift = np.random.default_rng(9)
        vectors = {"flat": params.flat, "running": params.running}
        return params.replace(**{
            name: backend.asarray(
                backend.to_numpy(vector) + shift.uniform(0.1, 0.5, vector.shape), dtype
            )
            for name, vector in vectors.items()
            if vector is not None
        })  # fmt: skip

    def __str__(self) -> str:
        return self.id


def _cases(*layers: Layer, **named: Layer) -> list[LayerCase]:
    cases = [LayerCase(repr(layer), layer) for layer in layers]
    return cases + [LayerCase(name, layer) for name, layer in named.items()]


LAYER_CASES = _cases(
    ap.Affine(4, 3),
    ap.Affine(4, 3, bias=False),
    ap.Affine(1, 1),
    ap.ReLU(),
    ap.LeakyReLU(),
    ap.LeakyReLU(0.3),
    ap.LeakyReLU(0.0),
    ap.ELU(),
    ap.ELU(0.5),
    ap.ELU(2.0),
    ap.GELU(),
    ap.SiLU(),
    ap.Sigmoid(),
    ap.Tanh(),
    ap.Softplus(),
    ap.Softmax(),
    ap.Identity(),
    ap.Dropout(0.4),
    ap.Dropout(0.0),
    ap.BatchNorm(4),
    ap.BatchNorm(4, momentum=0.0, eps=0.1),
    ap.LayerNorm(4),
    ap.LayerNorm(4, eps=0.1),
    ap.Residual(ap.Affine(4, 4)),
    ap.Residual(ap.Tanh()),
    residual_of_all=ap.Residual(
        ap.Sequential(ap.BatchNorm(4), ap.ReLU(), ap.Affine(4, 3), ap.Dropout(0.3), ap.Affine(3, 4))
    ),
    sequential=ap.Sequential(ap.Affine(4, 3), ap.ReLU(), ap.Affine(3, 2)),
    sequential_without_parameters=ap.Sequential(ap.Tanh(), ap.Softmax()),
    sequential_that_starts_without_parameters=ap.Sequential(
        ap.Tanh(), ap.Dropout(0.2), ap.Affine(4, 3), ap.Identity()
    ),
    sequential_in_sequential=ap.Sequential(
        ap.Sequential(ap.Affine(4, 3), ap.Tanh()),
        ap.Sequential(ap.Sequential(ap.BatchNorm(3))),
        ap.Sequential(ap.SiLU(), ap.Affine(3, 2)),
    ),
    mlp=ap.MLP([4, 5, 3, 2]),
    mlp_without_hidden=ap.MLP([4, 2]),
    mlp_batch_norm_dropout=ap.MLP([4, 5, 3, 2], "elu", norm="batch", dropout=0.3),
    mlp_layer_norm_residual=ap.MLP([4, 3, 3, 3, 2], "gelu", norm="layer", residual=True),
    mlp_everything=ap.MLP([3, 3, 3], "silu", norm="batch", dropout=0.2, residual=True),
)


@dataclass(frozen=True)
class LossCase:
    """A loss, and how its targets are drawn for predictions of shape (n, k)."""

    id: str
    loss: Loss
    t: Callable[[np.random.Generator, int, int], np.ndarray]

    def __str__(self) -> str:
        return self.id


K = 4


def labels(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.integers(0, k, n)


def one_hot(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return np.eye(k)[labels(rng, n, k)]


def distributions(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.dirichlet(np.ones(k), n)


def yes_or_no(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.integers(0, 2, (n, k))


def shares(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.uniform(0.0, 1.0, (n, k))


def reals(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.standard_normal((n, k))


def counts(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
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


class Plain:
    """A backend by name, for what the fixture `backend` does not decide."""

    device = None

    def __init__(self, name: str) -> None:
        self.name, self.xp = name, ap.get_namespace(name)

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        return ap.from_host(np.array(values, dtype=dtype), self.xp)

    def to_numpy(self, array: Any) -> np.ndarray:
        return ap.to_host(array)


def assert_beside(array: Any, reference: Any, dtype: str | None = None) -> None:
    """Fail unless an array has another's namespace, device and dtype (or the dtype named)."""
    assert namespace(array) is namespace(reference)
    assert device_of(array) == device_of(reference)
    assert dtype_name(array) == (dtype or dtype_name(reference))


def with_gaps(backend: Any, host: np.ndarray) -> Any:
    """Make an array of the given numbers that does not lie contiguously in memory."""
    spread = np.zeros(tuple(2 * n for n in host.shape), dtype=host.dtype)
    spread[(slice(None, None, 2),) * host.ndim] = host
    return backend.asarray(spread)[(slice(None, None, 2),) * host.ndim]


def other_backends_array(backend: Any, host: np.ndarray) -> Any:
    """Make an array that does not belong to the backend under test."""
    return ap.from_host(host, "array_api_strict" if backend.name == "numpy" else "numpy")
