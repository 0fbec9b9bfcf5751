"""How long a training step takes, roughly: an estimate, not a benchmark; for that see `benchmarks/`."""

from __future__ import annotations

import statistics
import time
import warnings

import numpy as np

from anyprop.compiled.compile import compile
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.network import MLP
from anyprop.optimizers.rmsprop import RMSProp
from anyprop.step import make_step
from anyprop.testing.place import Place

_STEPS, _UNTIMED, _SECONDS = 40, 3, 3.0


def step_seconds(place: Place) -> float:
    """Time the steps of a 64-64-10 network with batches of 100 rows of float32, compiled.

    The median of 40 steps, or of as many as 3 seconds allow; each ends when its loss has been read.
    """
    rng = np.random.default_rng(1)
    net, opt = MLP([64, 64, 10]), RMSProp()
    x = place.asarray(rng.standard_normal((100, 64)), "float32")
    t = place.asarray(rng.integers(0, 10, 100))
    params = net.init(8, xp=place.xp, device=place.device)
    state = opt.init(params)
    step = compile(make_step(net, SoftmaxCrossEntropy(), opt))
    times: list[float] = []
    began = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):
        for i in range(_UNTIMED + _STEPS):
            start = time.perf_counter()
            params, state, value = step(params, state, x, t)
            float(value)
            times += [time.perf_counter() - start]
            if i >= _UNTIMED and time.perf_counter() - began > _SECONDS:
                break
    return statistics.median(times[_UNTIMED:])
