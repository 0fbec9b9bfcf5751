"""The step as a CUDA graph, on stand-ins for CuPy's arrays, kernels, streams and graphs.

They show what is launched, on which memory and when, and compute what a GPU should. The tests with
`--backend cupy` show on a GPU that it does.
"""

from __future__ import annotations

import gc
import threading
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop.backend import namespace
from anyprop.layers.base import Layer
from anyprop.optimizers.base import Optimizer
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from fake_cupy import put, put_params, put_state
from rules import Remembering

pytestmark = pytest.mark.needs("cc")
NET = ap.MLP([4, 5, K])
LOSS = ap.SoftmaxCrossEntropy()
COPIES = ["copy", "copy"]


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def _batches(net, count, *, n=6, dtype="float32", t=None, seed=0):
    rng = np.random.default_rng(seed)
    k = net.output_shape((1, net.width_in))[1]
    for _ in range(count):
        x = rng.standard_normal((n, net.width_in)).astype(dtype)
        yield x, rng.integers(0, k, n) if t is None else t(rng, n, k), net.noise(rng, x.shape)


def _compare(net, loss, opt, *, dtype="float32", steps=3, n=6, t=None, weight=None, **options):
    """Train with the step, and with its graph on the device, from equal starts."""
    step = ap.make_step(net, loss, opt, **options)
    params = net.init(8, dtype=dtype)
    state = opt.init(params)
    ours, our_state = put_params(params), put_state(state)
    graph = ap.compile(step)
    rtol = 2e-5 if dtype == "float32" else 1e-12
    close = {"rtol": rtol, "atol": rtol / 10}
    for x, target, noise in _batches(net, steps, n=n, dtype=dtype, t=t):
        with np.errstate(all="ignore"):
            params, state, wanted = step(
                params, state, x, target, noise=noise, sample_weight=weight
            )
        put_noise = ap._tree.map_leaves(put, noise)
        ours, our_state, value = graph(
            ours, our_state, put(x), put(target), noise=put_noise, sample_weight=put(weight)
        )
        pairs = [(value, wanted), (ours.flat, params.flat)]
        pairs += [(our_state.slots[name].flat, slot.flat) for name, slot in state.slots.items()]
        if params.running is not None:
            pairs.append((ours.running, params.running))
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_allclose(np.asarray(a), b, **close)
        assert our_state.step == state.step


@pytest.mark.parametrize("case", [c for c in LAYER_CASES if c.layer.specs()], ids=str)
def test_every_network(case, device):
    _compare(
        case.layer, ap.MeanSquaredError(), ap.RMSProp(), t=lambda rng, n, k: rng.random((n, k))
    )
    assert device.log.count("launch") == 3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_every_loss(case, weighted, device):
    weight = np.arange(6, dtype="float32") if weighted else None
    _compare(NET, case.loss, ap.SGD(), t=case.t, weight=weight)
    assert device.log.count("launch") == 3


@pytest.mark.parametrize("n", [1, K])
@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_rows_and_columns_are_told_apart(case, n, device):
    """A vector with a number for each row may be as long as one with a number for each column."""
    weight = np.arange(1, n + 1, dtype="float32")
    _compare(NET, case.loss, ap.SGD(), n=n, t=case.t, weight=weight)
    assert device.log.count("launch") == 3


CLIPPED = {"clip_value": 0.05, "clip_norm": 0.1, "clip_global_norm": 0.1}


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_every_optimizer(name, device):
    options = CLIPPED | {"weight_decay": 0.1, "decay_biases": False}
    _compare(NET, LOSS, replace(OPTIMIZER_CASES[name], **options), steps=4, dtype="float64")
    assert device.log.count("launch") == 4


def test_a_product_is_not_stored_where_its_factors_lie(device):
    """Here all matrices are of one size, so that any buffer would do."""
    square = ap.Sequential(*(ap.Affine(6, 6, bias=False) for _ in range(4)))
    _compare(square, ap.MeanSquaredError(), ap.SGD(), t=lambda rng, n, k: rng.random((n, k)))
    assert device.log.count("launch") == 3


def test_accumulated_steps(device):
    _compare(ap.MLP([4, 5, K], norm="batch", dropout=0.2), LOSS, ap.Adam(), accumulate=3)
    assert device.log.count("launch") == 3


def test_schedules(device):
    _compare(NET, LOSS, ap.AdamW(lr=lambda step: 0.1 / (1 + step)))
    assert device.log.count("launch") == 3


def test_what_a_call_does(device):
    """The first one captures; all copy the batch, write the numbers, and launch the graph."""
    step = ap.compile(ap.make_step(NET, LOSS, ap.RMSProp()))
    params = put_params(NET.init(8))
    state = put_state(ap.RMSProp().init(NET.init(8)))
    first, second = ((put(x), put(t)) for x, t, _ in _batches(NET, 2))
    params, state, _ = step(params, state, *first)
    begin, end = device.log.index("begin capture"), device.log.index("end capture")
    assert "allocate" not in device.log[begin:end]
    assert (
        device.log[begin - len(device.log[begin + 1 : end]) : begin] == device.log[begin + 1 : end]
    )
    assert (
        device.log[begin:end].count("product") == 1 + 2
    )  # one bias is where cuBLASLt accepts none
    assert device.log[begin:end].count("summed") == 1
    assert device.log[begin:end].count("rectified") == 1
    assert device.log.count("begin capture") == 1
    device.log.clear()
    step(params, state, *second)
    # and one array of one number, for the value that the caller keeps
    assert device.log == [*COPIES, "anyprop_numbers", "launch", "allocate"]


def test_elementwise_calls_become_few_kernels(device):
    step = ap.compile(ap.make_step(NET, LOSS, ap.Adam(weight_decay=0.1)))
    (x, t, _), *_ = _batches(NET, 1)
    step(put_params(NET.init(8)), put_state(ap.Adam().init(NET.init(8))), put(x), put(t))
    updates = [k for k in device.made if "sqrt" in k.operation]
    assert len(updates) == 1
    assert len(updates[0].outs) == 3


def _captured(device, net, *, accumulate=1, dtype="float32", x=None):
    """Compare a graph's step with the step; return what was captured, and the loss."""
    step = ap.make_step(net, ap.MeanSquaredError(), ap.SGD(), accumulate=accumulate)
    ((drawn, t, _),) = _batches(net, 1, t=lambda rng, n, k: rng.random((n, k)))
    x = (drawn if x is None else x).astype(dtype)
    params = net.init(8, dtype=dtype)
    state = ap.SGD().init(params)
    with np.errstate(all="ignore"):
        wanted, _, value = step(params, state, x, t)
    ours, _, our_value = ap.compile(step)(put_params(params), put_state(state), put(x), put(t))
    np.testing.assert_allclose(np.asarray(our_value), value, rtol=2e-5)
    np.testing.assert_allclose(np.asarray(ours.flat), wanted.flat, rtol=2e-5, atol=1e-6)
    assert device.log.count("launch") == 1
    begin, end = device.log.index("begin capture"), device.log.index("end capture")
    return device.log[begin + 1 : end], our_value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("epilogue", "count", "summed"),
    [("keeps NaN", 2, 3), ("drops NaN", 0, 3), ("no sums", 2, 0), ("refused", 0, 0)],
)
def test_products_take_bias_and_relu_and_sums_with_them(epilogue, count, summed, dtype, device):
    device.epilogue = epilogue
    captured, _ = _captured(device, ap.MLP([4, 8, 8, 2]), dtype=dtype)
    assert captured.count("rectified") == count
    assert captured.count("summed") == summed
    assert captured.count("sum") == 3 - summed
    assert captured.count("product") == 3 + 2 + 3 - count - summed


@pytest.mark.parametrize("epilogue", ["keeps NaN", "drops NaN"])
def test_nan_is_not_rectified_away(epilogue, device):
    device.epilogue = epilogue
    _, value = _captured(device, ap.MLP([4, 8, 2]), x=np.full((6, 4), np.nan))
    assert np.isnan(value.view(np.ndarray))


@dataclass(frozen=True)
class Hinge(Layer):
    """A ReLU that keeps what it was given."""

    def forward(self, params, x):
        return namespace(x).maximum(x, 0.0), x

    def backward(self, params, residuals, dy):
        return dy * namespace(dy).astype(residuals > 0.0, dy.dtype), {}


@pytest.mark.parametrize(
    "net",
    [
        ap.MLP([3, 5, 5, 2]),  # their biases are at addresses that epilogues do not accept
        ap.MLP([4, 8, 8, 2], activation="tanh"),
        ap.MLP([4, 8, 8, 2], activation="leaky_relu"),
        ap.MLP([4, 8, 8, 2], norm="layer"),
        ap.Sequential(ap.Affine(4, 8, bias=False), ap.ReLU(), ap.Affine(8, 2)),
        ap.Sequential(ap.Affine(4, 8), Hinge(), ap.Affine(8, 2)),
    ],
    ids=str,
)
def test_what_is_no_bias_and_relu_stays_a_kernel(net, device):
    captured, _ = _captured(device, net)
    assert "rectified" not in captured
    assert "misaligned" not in device.log


@dataclass(frozen=True)
class Shifted(Layer):
    """Its vector of parameters counts backwards, so its gradient is a view that does."""

    d: int

    def specs(self):
        return {"c": ap.Spec((self.d,), 0.0)}

    def forward(self, params, x):
        return x + params.c[::-1], None

    def backward(self, params, residuals, dy):
        return dy, {"c": namespace(dy).sum(dy, axis=0)[::-1]}


@pytest.mark.parametrize(
    ("net", "copies"),
    [
        (ap.MLP([64, 64, 64]), 0),
        (ap.MLP([64, 64, 64], residual=True), 0),
        (ap.MLP([8, 8, 2]), 0),  # the second matrix is at 4 * 72 bytes
        (ap.Sequential(ap.Affine(64, 64), Shifted(64)), 1),
    ],
    ids=str,
)
def test_gradients_are_computed_in_their_places(net, copies, device):
    captured, _ = _captured(device, net)
    assert captured.count("anyprop_copy") == copies


def test_gradients_of_parts_are_computed_in_their_places(device):
    captured, _ = _captured(device, ap.MLP([64, 64, 64]), accumulate=2)
    assert "anyprop_copy" not in captured


def _start(opt, n=1, **kwargs):
    step = ap.make_step(NET, LOSS, opt)
    params = NET.init(8)
    state = opt.init(params)
    batches = [(x, t) for x, t, _ in _batches(NET, n, **kwargs)]
    return step, params, state, batches


def test_parameters_and_state_are_donated_and_values_stay(device):
    step, params, state, batches = _start(ap.RMSProp(lr=0.1), 4)
    graph, ours, our_state = ap.compile(step), put_params(params), put_state(state)
    values, seen = [], []
    for x, t in batches:
        new, after, value = graph(ours, our_state, put(x), put(t))
        assert new.flat is ours.flat
        assert after.slots["h"].flat is our_state.slots["h"].flat
        ours, our_state = new, after
        values.append(value)
        seen.append(float(value.view(np.ndarray)))
    assert len(set(seen)) == 4
    np.testing.assert_array_equal([value.view(np.ndarray) for value in values], seen)


def test_other_parameters_of_the_same_layout_are_taken_over(device):
    step, params, state, ((x, t),) = _start(ap.RMSProp())
    graph = ap.compile(step)
    graph(put_params(params), put_state(state), put(x), put(t))
    other = NET.init(9)
    new, _, value = graph(put_params(other), put_state(state), put(x), put(t))
    wanted, _, expected = step(other, state, x, t)
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(new.flat), wanted.flat, rtol=1e-5)
    assert device.log.count("begin capture") == 1


def test_lr_in_an_array_of_the_device(device):
    lr = put(np.float32(0.1))
    opt = ap.RMSProp(lr=lr)
    step, params, state, batches = _start(ap.RMSProp(lr=0.1), 2)
    graph, ours, our_state = (
        ap.compile(replace(step, optimizer=opt)),
        put_params(params),
        put_state(state),
    )
    for (x, t), number in zip(batches, (0.1, 0.01), strict=True):
        lr.view(np.ndarray)[...] = number
        step = replace(step, optimizer=ap.RMSProp(lr=number))
        params, state, _ = step(params, state, x, t)
        ours, our_state, _ = graph(ours, our_state, put(x), put(t))
        np.testing.assert_allclose(np.asarray(ours.flat), params.flat, rtol=1e-5, atol=1e-6)


def test_each_shape_and_each_thread_has_its_own_graph(device):
    step, params, state, _ = _start(ap.SGD())
    graph = ap.compile(step)

    def train():
        for n in (6, 3, 6):
            ((x, t, _),) = _batches(NET, 1, n=n)
            graph(put_params(params), put_state(state), put(x), put(t))

    train()
    assert device.log.count("begin capture") == 2
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert device.log.count("begin capture") == 4


def test_a_dropped_step_gives_back_what_it_holds(device):
    step, params, state, ((x, t),) = _start(ap.SGD())
    graph = ap.compile(step)
    graph(put_params(params), put_state(state), put(x), put(t))
    assert device.products.living
    del graph
    gc.collect()
    assert not device.products.living


@dataclass(frozen=True)
class Peeking(Layer):
    """A layer that looks at a number, which no recording can repeat."""

    def forward(self, params, x):
        return (x if np.asarray(x).max() > -9 else 2.0 * x), None

    def backward(self, params, residuals, dy):
        return dy, {}


@dataclass(frozen=True)
class Stacked(Layer):
    """A layer that multiplies stacks of matrices."""

    d: int

    def forward(self, params, x):
        xp = namespace(x)
        rows = xp.reshape(x, (x.shape[0], 1, self.d))
        ones = xp.reshape(xp.asarray(np.eye(self.d, dtype=x.dtype)), (1, self.d, self.d))
        return xp.reshape(xp.matmul(rows, ones), x.shape), None

    def backward(self, params, residuals, dy):
        return dy, {}


@pytest.mark.parametrize(
    ("net", "opt", "reason"),
    [
        (ap.Sequential(ap.Affine(4, K), Peeking()), ap.SGD(), "reads numbers from an array"),
        (NET, Remembering(), "returns an argument"),
        (ap.Sequential(ap.Affine(4, K), Stacked(K)), ap.SGD(), "not matrices"),
    ],
)
def test_what_cannot_be_captured_runs_without_a_graph(net, opt, reason, device):
    step = ap.make_step(net, ap.MeanSquaredError(), opt)
    params = net.init(8)
    state = opt.init(params)
    graph, ours, our_state = ap.compile(step), put_params(params), put_state(state)
    rows = [(x, t) for x, t, _ in _batches(net, 2, t=lambda rng, n, k: rng.random((n, k)))]
    for i, (x, t) in enumerate(rows):
        params, state, _ = step(params, state, x, t)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ours, our_state, _ = graph(ours, our_state, put(x), put(t))
        messages = [str(w.message) for w in told if w.category is RuntimeWarning]
        assert len(messages) == (i == 0)
        assert all(reason in m and "without a CUDA graph" in m for m in messages)
        np.testing.assert_allclose(np.asarray(ours.flat), params.flat, rtol=1e-5)
    assert "launch" not in device.log


def test_a_capture_that_fails_changes_nothing(device):
    step, params, state, _ = _start(ap.RMSProp())
    step = ap.make_step(NET, ap.MeanSquaredError(), ap.RMSProp())
    ((x, t, _),) = _batches(NET, 1, t=lambda rng, n, k: rng.random((n, k)))
    device.refuse = RuntimeError("cudaErrorStreamCaptureUnsupported")
    graph = ap.compile(step)
    with pytest.warns(RuntimeWarning, match="RuntimeError: cudaErrorStreamCaptureUnsupported"):
        ours, _, _ = graph(put_params(params), put_state(state), put(x), put(t))
    wanted, _, _ = step(params, state, x, t)
    np.testing.assert_allclose(np.asarray(ours.flat), wanted.flat, rtol=1e-5)
    assert device.capturing is None


def test_wrong_batches_raise_what_the_step_raises(device):
    step, params, state, ((x, t),) = _start(ap.SGD())
    graph = ap.compile(step)
    ours, our_state = put_params(params), put_state(state)
    for wrong in ((x.astype("float64"), t), (x[:, :3], t)):
        with pytest.raises((TypeError, ValueError)) as eager:
            step(params, state, *wrong)
        with pytest.raises(type(eager.value)) as told:
            graph(ours, our_state, *map(put, wrong))
        assert str(told.value) == str(eager.value)
    graph(ours, our_state, put(x), put(t))
    with pytest.raises(TypeError, match="belongs to cupy, but x to numpy"):
        graph(ours, our_state, x, put(t))


def test_compile_takes_it_where_cublaslt_is_installed(device):
    step, params, state, ((x, t),) = _start(ap.SGD())
    ap.compile(step)(put_params(params), put_state(state), put(x), put(t))
    assert "launch" in device.log


def test_without_cublaslt_it_is_named_once():
    with fake_cupy.installed(products=False) as device:
        step = ap.make_step(NET, ap.MeanSquaredError(), ap.SGD())
        ((x, t, _),) = _batches(NET, 1, t=lambda rng, n, k: rng.random((n, k)))
        params = NET.init(8)
        state = ap.SGD().init(params)
        with pytest.warns(RuntimeWarning, match="needs cuBLASLt"):
            ours, _, _ = ap.compile(step)(put_params(params), put_state(state), put(x), put(t))
        np.testing.assert_allclose(
            np.asarray(ours.flat), step(params, state, x, t)[0].flat, rtol=1e-5
        )
        assert device.log == ["anyprop_update"]


@pytest.mark.parametrize(("spoiled", "what"), [("product", "loss"), ("summed", "gradient")])
def test_a_graph_whose_first_step_is_wrong_is_not_used(spoiled, what, device):
    """As if the library on some GPU computed something other than it documents."""
    step, params, state, ((x, t),) = _start(ap.Adam(lr=0.1))
    wanted, _, expected = step(params, state, x, t)
    device.spoiled = spoiled
    graph = ap.compile(step)
    with pytest.warns(RuntimeWarning, match=rf"the {what} of its first step is off by \d") as told:
        ours, after, value = graph(put_params(params), put_state(state), put(x), put(t))
    assert [warning.filename for warning in told] == [__file__]
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(ours.flat), wanted.flat, rtol=1e-5)
    assert after.step == 1


def test_a_rule_that_is_wrong_on_the_device_is_found(device, monkeypatch):
    step, params, state, ((x, t),) = _start(ap.RMSProp(lr=0.1))
    update = Optimizer.update

    def other_rule(self, params, grads, state, **options):
        params, state = update(self, params, grads, state, **options)
        return params.replace(flat=params.flat * 1.1), state

    monkeypatch.setattr(Optimizer, "update", other_rule)
    with pytest.warns(RuntimeWarning, match="the parameters of its first step is off by"):
        ap.compile(step)(put_params(params), put_state(state), put(x), put(t))


def test_a_mistake_in_what_makes_a_graph_is_no_reason_to_do_without(device, monkeypatch):
    step, params, state, ((x, t),) = _start(ap.SGD())
    monkeypatch.setattr("anyprop.compiled.cuda_graph.Launches", None)
    with pytest.raises(TypeError, match="NoneType"):
        ap.compile(step)(put_params(params), put_state(state), put(x), put(t))
