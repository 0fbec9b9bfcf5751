"""The compiled step on a GPU, with CuPy's own arrays, kernels and graphs: `pytest --backend cupy`.

Nobody has run these yet. Warnings are errors, so a step that could not be captured fails here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import anyprop as ap
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

pytestmark = pytest.mark.needs("cupy")
NET = ap.MLP([4, 5, K])


def _compare(net, loss, opt, *, dtype="float32", t=None, steps=4):
    step = ap.make_step(net, loss, opt)
    compiled, rng = ap.compile(step), np.random.default_rng(0)
    params = net.init(8, xp="cupy", dtype=dtype)
    state = opt.init(params)
    ours, our_state = params.copy(), state.copy()
    k = net.output_shape((1, net.d))[1]
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-11}
    for n in (6, 6, 5, 6)[:steps]:
        x = rng.standard_normal((n, net.d)).astype(dtype)
        noise = noise_beside(params, net.noise(rng, x.shape))
        targets = rng.integers(0, k, n) if t is None else t(rng, n, k).astype(dtype)
        batch = {"x": ap.from_host(x, "cupy"), "t": ap.from_host(targets, "cupy"), "noise": noise}
        params, state, wanted = step(params, state, **batch)
        ours, our_state, value = compiled(ours, our_state, **batch)
        np.testing.assert_allclose(ap.to_host(value), ap.to_host(wanted), **close)
        np.testing.assert_allclose(ap.to_host(ours.flat), ap.to_host(params.flat), **close)
        for name, slot in state.slots.items():
            ours_too = ap.to_host(our_state.slots[name].flat)
            np.testing.assert_allclose(ours_too, ap.to_host(slot.flat), **close)


@pytest.mark.parametrize("case", [c for c in LAYER_CASES if c.layer.specs()], ids=str)
def test_every_network(case):
    _compare(
        case.layer, ap.MeanSquaredError(), ap.RMSProp(), t=lambda rng, n, k: rng.random((n, k))
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_every_optimizer(name, dtype):
    opt = replace(OPTIMIZER_CASES[name], weight_decay=0.1, clip_value=0.05, clip_global_norm=0.1)
    _compare(NET, ap.SoftmaxCrossEntropy(), opt, dtype=dtype)


def test_values_of_earlier_steps_stay():
    opt = ap.RMSProp(lr=0.1)
    step = ap.compile(ap.make_step(NET, ap.SoftmaxCrossEntropy(), opt))
    params = NET.init(8, xp="cupy")
    state = opt.init(params)
    x = ap.from_host(np.eye(4, dtype="float32"), "cupy")
    t = ap.from_host(np.arange(4) % K, "cupy")
    values = []
    for _ in range(5):
        params, state, value = step(params, state, x, t)
        values.append(value)
    assert len({float(value) for value in values}) == 5


def test_a_run_of_fit():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((64, 4)).astype("float32"), rng.integers(0, K, 64)
    data = ap.from_host(x, "cupy"), ap.from_host(t, "cupy")
    results = [
        ap.fit(
            NET,
            NET.init(8, xp="cupy"),
            data,
            loss=ap.SoftmaxCrossEntropy(),
            optimizer=ap.Adam(),
            epochs=3,
            batch_size=10,
            compile=compiled,
        )
        for compiled in (True, False)
    ]
    ours, theirs = (result.history.losses for result in results)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
