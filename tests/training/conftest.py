"""A small classification problem, the same numbers on every backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import anyprop as ap


@dataclass(frozen=True)
class Problem:
    backend: Any
    net: Any
    x: Any
    t: Any
    loss: Any
    optimizer: Any

    @property
    def data(self):
        return self.x, self.t

    def params(self, seed=8, dtype="float64"):
        return self.net.init(seed=seed, xp=self.backend.xp, dtype=dtype, device=self.backend.device)

    def fit(self, params=None, data=None, **options):
        params = self.params() if params is None else params
        data = self.data if data is None else data
        given = {"loss": self.loss, "optimizer": self.optimizer, "batch_size": 7, "seed": 3}
        return ap.fit(self.net, params, data, **{**given, **options})

    def with_(self, **changes):
        return replace(self, **changes)

    def numpy(self, array):
        return self.backend.to_numpy(array)


def make_problem(backend, n=30):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 4))
    t = (x[:, 0] * x[:, 1] > 0).astype("int64") + (x[:, 2] > 1)
    return Problem(
        backend,
        ap.MLP([4, 6, 3], activation="tanh"),
        backend.asarray(x),
        backend.asarray(t),
        ap.SoftmaxCrossEntropy(),
        ap.RMSProp(lr=0.02, rho=0.9),
    )


@pytest.fixture
def problem(backend):
    return make_problem(backend)
