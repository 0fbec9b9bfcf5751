"""The compiled step on a GPU, with CuPy's own arrays, kernels and graphs: `pytest --backend cupy`.

These have not been run yet. Warnings are errors, so a step that could not be captured fails here.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled import cuda_products
from anyprop.compiled.cuda_graph import Launches
from anyprop.compiled.cuda_products import Products
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from anyprop.training.pace import OneByOne

pytestmark = pytest.mark.needs("cupy")
NET = ap.MLP([4, 5, K])
LOSS = ap.SoftmaxCrossEntropy()


def put(array):
    return None if array is None else ap.from_host(array, "cupy")


def _compare(net, loss, opt, *, dtype="float32", t=None, steps=4, weight=None, **options):
    step = ap.make_step(net, loss, opt, **options)
    compiled, rng = ap.compile(step), np.random.default_rng(0)
    params = net.init(8, xp="cupy", dtype=dtype)
    state = opt.init(params)
    ours, our_state = params.copy(), state.copy()
    k = net.output_shape((1, net.width_in))[1]
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-11}
    for n in (6, 6, 5, 6)[:steps]:
        x = rng.standard_normal((n, net.width_in)).astype(dtype)
        noise = noise_beside(params, net.noise(rng, x.shape))
        targets = rng.integers(0, k, n) if t is None else t(rng, n, k)
        batch = {"x": put(x), "t": put(targets), "noise": noise}
        batch["sample_weight"] = None if weight is None else put(weight(rng, n).astype(dtype))
        params, state, wanted = step(params, state, **batch)
        ours, our_state, value = compiled(ours, our_state, **batch)
        np.testing.assert_allclose(ap.to_host(value), ap.to_host(wanted), **close)
        np.testing.assert_allclose(ap.to_host(ours.flat), ap.to_host(params.flat), **close)
        for name, slot in state.slots.items():
            ours_too = ap.to_host(our_state.slots[name].flat)
            np.testing.assert_allclose(ours_too, ap.to_host(slot.flat), **close)
        if params.running is not None:
            running = ap.to_host(ours.running), ap.to_host(params.running)
            np.testing.assert_allclose(*running, **close)


@pytest.mark.parametrize("case", [c for c in LAYER_CASES if c.layer.specs()], ids=str)
def test_every_network(case):
    _compare(case.layer, ap.MeanSquaredError(), ap.RMSProp(), t=_numbers)


def _numbers(rng, n, k):
    return rng.random((n, k)).astype("float32")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_every_loss(case, weighted):
    weight = (lambda rng, n: rng.random(n)) if weighted else None
    _compare(NET, case.loss, ap.SGD(), t=case.t, weight=weight)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_every_optimizer(name, dtype):
    opt = replace(OPTIMIZER_CASES[name], weight_decay=0.1, clip_value=0.05, clip_global_norm=0.1)
    _compare(NET, LOSS, opt, dtype=dtype)


@pytest.mark.parametrize(
    "net",
    [
        ap.MLP([1, 1, 1]),
        ap.MLP([3, 5, 7, 2]),  # no vector of it is at a round address
        ap.MLP([64, 64, 64]),  # all do
        ap.MLP([64, 64, 64], residual=True),
        ap.MLP([784, 200, 200, 10]),
        ap.MLP([256, 1024, 1024, 256], dropout=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts(net, dtype):
    def t(rng, n, k):
        return rng.random((n, k)).astype(dtype)

    _compare(net, ap.MeanSquaredError(), ap.SGD(lr=0.01), dtype=dtype, t=t)


def test_accumulated_steps():
    _compare(ap.MLP([4, 5, K], norm="batch", dropout=0.2), LOSS, ap.Adam(), accumulate=3)


def test_schedules():
    _compare(NET, LOSS, ap.AdamW(lr=lambda step: 0.1 / (1 + step)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_take_bias_and_relu_with_them(dtype, monkeypatch):
    """Where cuBLASLt cannot do it, kernels follow the products, and results are the same."""
    taken, rectified = [], Products.rectified

    def watched(*args):
        taken.append(rectified(*args))
        return taken[-1]

    monkeypatch.setattr(Products, "rectified", watched)
    _compare(ap.MLP([8, 64, 64, K]), LOSS, ap.SGD(), dtype=dtype, steps=2)
    assert len(taken) == 2
    print("epilogues that were taken:", [launch is not None for launch in taken])


def _start(net, opt, n=32, dtype="float32"):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((n, net.width_in)).astype(dtype), rng.integers(0, K, n)
    params = net.init(8, xp="cupy", dtype=dtype)
    return ap.compile(ap.make_step(net, LOSS, opt)), params, opt.init(params), put(x), put(t)


def test_nan_is_not_rectified_away():
    step, params, state, x, t = _start(ap.MLP([4, 64, K]), ap.SGD())
    _, _, value = step(params, state, x * float("nan"), t)
    assert np.isnan(float(value))


def test_how_many_launches_the_article_takes(monkeypatch):
    """As on the stand-ins; and a kernel for each ReLU and each sum that is not part of a product."""
    made, init = [], Launches.__init__

    def watched(self, *args):
        init(self, *args)
        made.append(len(self._launches))

    monkeypatch.setattr(Launches, "__init__", watched)
    rng, opt = np.random.default_rng(0), ap.RMSProp()
    net = ap.MLP([784, 200, 200, 10])
    params = net.init(8, xp="cupy")
    x, t = rng.random((100, 784), dtype="float32"), rng.integers(0, 10, 100)
    ap.compile(ap.make_step(net, LOSS, opt))(params, opt.init(params), put(x), put(t))
    print("launches:", made)
    assert 13 <= made[0] <= 13 + 2 + 3


@pytest.fixture
def busy():
    """Keep the current stream of the GPU busy for about a second, or until the test is over."""
    import cupy

    spin = cupy.RawKernel(
        """extern "C" __global__ void spin(long long ns) {
            unsigned long long began, now;
            asm volatile("mov.u64 %0, %globaltimer;" : "=l"(began));
            do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - began < ns);
        }""",
        "spin",
    )
    spin((1,), (1,), (np.int64(1),))
    cupy.cuda.get_current_stream().synchronize()

    def start():
        spin((1,), (1,), (np.int64(1_000_000_000),))
        return cupy.cuda.get_current_stream().record()

    return start


def test_a_step_waits_for_nothing(busy):
    step, params, state, x, t = _start(NET, ap.Adam(lr=lambda step: 0.1 / (1 + step)))
    params, state, _ = step(params, state, x, t)
    over = busy()
    for _ in range(10):
        params, state, _ = step(params, state, x, t)
    assert not over.done


def test_memory_stays_the_same():
    import cupy

    step, params, state, x, t = _start(ap.MLP([256, 256, K]), ap.Adam())
    for _ in range(10):
        params, state, _ = step(params, state, x, t)
    used, (free, _) = cupy.get_default_memory_pool().used_bytes(), cupy.cuda.runtime.memGetInfo()
    for _ in range(1000):
        params, state, _ = step(params, state, x, t)
    assert cupy.get_default_memory_pool().used_bytes() == used
    assert cupy.cuda.runtime.memGetInfo()[0] == free


def test_a_dropped_step_gives_its_memory_back():
    import cupy

    def train():
        step, params, state, x, t = _start(ap.MLP([1024, 1024, K]), ap.SGD(), n=4096)
        step(params, state, x, t)

    def left():
        gc.collect()
        cupy.get_default_memory_pool().free_all_blocks()
        return cupy.cuda.runtime.memGetInfo()[0]

    train()  # what CUDA and its libraries load once
    before = left()
    train()
    assert before - left() < 2**20


def test_on_a_stream_of_the_callers():
    import cupy

    with cupy.cuda.Stream(non_blocking=True) as stream:
        _compare(NET, LOSS, ap.RMSProp())
        stream.synchronize()


def test_on_several_threads():
    failed = []

    def train():
        try:
            _compare(ap.MLP([8, 64, 64, K]), LOSS, ap.Adam())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@dataclass(frozen=True)
class Peeking(Layer):
    """A layer that looks at a number, which no recording can repeat."""

    def forward(self, params, x):
        return (x if float(ap.to_host(x).max()) > -9 else 2.0 * x), None

    def backward(self, params, residuals, dy):
        return dy, {}


def test_what_cannot_be_captured_says_so_once_and_runs():
    step, params, state, x, t = _start(ap.Sequential(ap.Affine(4, K), Peeking()), ap.SGD())
    with pytest.warns(RuntimeWarning, match="without a CUDA graph"):
        params, state, first = step(params, state, x, t)
    for _ in range(20):
        params, state, value = step(params, state, x, t)
    assert float(value) < float(first)


def test_without_cublaslt_the_update_is_one_kernel(monkeypatch):
    monkeypatch.setattr(cuda_products, "is_available", lambda: False)
    with pytest.warns(RuntimeWarning, match="needs cuBLASLt"):
        _compare(NET, LOSS, ap.Adam())


def test_values_of_earlier_steps_stay():
    step, params, state, x, t = _start(NET, ap.RMSProp(lr=0.1))
    values = []
    for _ in range(5):
        params, state, value = step(params, state, x, t)
        values.append(value)
    assert len({float(value) for value in values}) == 5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", ["labels", "rows"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_of_fit(dropout, targets, weighted, monkeypatch):
    """Without dropout, graphs gather its batches, and nothing else takes a batch."""
    rng, net = np.random.default_rng(0), ap.MLP([4, 5, K], dropout=dropout)
    x, labels = rng.standard_normal((64, 4)).astype("float32"), rng.integers(0, K, 64)
    t = labels if targets == "labels" else np.eye(K, dtype="float32")[labels]
    weight = put(rng.random(64).astype("float32")) if weighted else None
    losses = {}
    for compiled in (False, True):
        if compiled and not dropout:
            monkeypatch.setattr(OneByOne, "take", None)
        result = ap.fit(
            net,
            net.init(8, xp="cupy"),
            (put(x), put(t)),
            loss=LOSS,
            optimizer=ap.Adam(),
            sample_weight=weight,
            epochs=3,
            batch_size=10,
            compile=compiled,
        )
        losses[compiled] = result.history.losses
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)
