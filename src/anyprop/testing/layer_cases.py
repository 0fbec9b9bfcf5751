"""Every layer, with a case for each of its options, and some networks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import anyprop as ap
from anyprop.layers.base import Layer

WIDTH = 4


@dataclass(frozen=True)
class LayerCase:
    """A layer; x is any rows of its width."""

    id: str
    layer: Layer

    @property
    def d(self) -> int:
        return self.layer.width_in or WIDTH

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
    ap.Rescale(0.5),
    ap.Rescale(2.0, -1.0),
    ap.Rescale((0.5, 1.0, -2.0, 4.0), 0.25),
    ap.Rescale((0.5, 1.0, -2.0, 4.0), (0.0, 1.0, -1.0, 3.0)),
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
    rescale_first=ap.Sequential(
        ap.Rescale((0.5, 1.0, -2.0, 4.0), (0.0, 1.0, -1.0, 3.0)), *ap.MLP([4, 3, 2]).layers
    ),
    rescale_between=ap.Sequential(
        ap.Affine(4, 3), ap.Rescale((0.5, 1.0, -2.0), 0.25), ap.Tanh(), ap.Affine(3, 2)
    ),
    mlp=ap.MLP([4, 5, 3, 2]),
    mlp_without_hidden=ap.MLP([4, 2]),
    mlp_batch_norm_dropout=ap.MLP([4, 5, 3, 2], "elu", norm="batch", dropout=0.3),
    mlp_layer_norm_residual=ap.MLP([4, 3, 3, 3, 2], "gelu", norm="layer", residual=True),
    mlp_everything=ap.MLP([3, 3, 3], "silu", norm="batch", dropout=0.2, residual=True),
)
