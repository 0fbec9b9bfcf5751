"""Many steps by CUDA graphs that take their batches by themselves, on stand-ins."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop import backend
from anyprop.backend import namespaces, transfer
from anyprop.compiled import on_cupy
from anyprop.compiled.compile import compiled_loop
from anyprop.compiled.on_cupy import GraphLoop
from anyprop.layers.base import Layer
from anyprop.repeatable.stand_in import TraceError
from anyprop.testing.loss_cases import K
from anyprop.training import _how, reader
from fake_cupy import put, put_params, put_state

pytestmark = pytest.mark.needs("cc")
NET = ap.MLP([4, 5, K], norm="batch")
LOSS = ap.SoftmaxCrossEntropy()


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def _labels(rng, n):
    return rng.integers(0, K, n)


def _one_hot(rng, n):
    return np.eye(K, dtype="float32")[_labels(rng, n)]


def _rows(rng, n, sizes):
    return [rng.permutation(n)[:size] for size in sizes]


def _start(opt, n=20, t=_labels, weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, NET.width_in)).astype("float32")
    weight = rng.random(n).astype("float32") if weighted else None
    params = NET.init(8)
    data = {"x": x, "t": t(rng, n), "sample_weight": weight}
    return ap.make_step(NET, LOSS, opt), params, opt.init(params), data, rng


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [_labels, _one_hot])
def test_the_steps_are_those_of_the_step(t, weighted, device):
    opt = ap.Adam(lr=lambda step: 0.1 / (1 + step))
    step, params, state, data, rng = _start(opt, t=t, weighted=weighted)
    loop, ours, our_state = GraphLoop(step, 4), put_params(params), put_state(state)
    there = {name: put(array) for name, array in data.items()}
    for sizes in ((6,), (6, 6, 6, 6), (3, 3), (6, 6)):
        batches = _rows(rng, 20, sizes)
        ours, our_state, values = loop(ours, our_state, there, batches)
        wanted = []
        for rows in batches:
            batch = {k: None if a is None else a[rows] for k, a in data.items()}
            params, state, value = step(params, state, **batch)
            wanted.append(value)
        assert values.shape == (len(batches),)
        np.testing.assert_allclose(values.view(np.ndarray), wanted, rtol=1e-5)
        pairs = [(ours.flat, params.flat), (ours.running, params.running)]
        pairs += [(our_state.slots[name].flat, slot.flat) for name, slot in state.slots.items()]
        for a, b in pairs:
            np.testing.assert_allclose(a.view(np.ndarray), b, rtol=2e-5, atol=1e-6)
        assert our_state.step == state.step
    assert device.log.count("begin capture") == 2


def test_what_a_call_does(device):
    """It copies parameters and state in and out, and the rows and numbers of all steps once."""
    step, params, state, data, rng = _start(ap.RMSProp())
    loop, there = GraphLoop(step, 3), {name: put(array) for name, array in data.items()}
    params, state = put_params(params), put_state(state)
    params, state, _ = loop(params, state, there, _rows(rng, 20, (6,)))
    begin, end = device.log.index("begin capture"), device.log.index("end capture")
    captured = device.log[begin + 1 : end]
    assert captured[0] == "anyprop_gather"
    assert captured[-1] == "anyprop_store"
    assert captured.count("anyprop_gather") == 1
    assert "allocate" not in captured
    device.log.clear()
    loop(params, state, there, _rows(rng, 20, (6, 6, 6)))
    vectors = 3  # parameters, running statistics, and the rule's slot
    copies = ["copy"] * vectors
    # at last, a copy of the losses, which the caller keeps
    assert device.log == ["copy", "copy", *copies, *["launch"] * 3, *copies, "allocate"]


def test_other_data_are_read_where_they_lie(device):
    step, params, state, data, rng = _start(ap.SGD())
    loop, (rows,) = GraphLoop(step, 1), _rows(rng, 20, (6,))
    ours, our_state = put_params(params), put_state(state)
    other = {name: None if a is None else a[::-1].copy() for name, a in data.items()}
    for of_run in (data, other):
        there = {name: put(array) for name, array in of_run.items()}
        ours, our_state, value = loop(ours, our_state, there, [rows])
        params, state, wanted = step(params, state, of_run["x"][rows], of_run["t"][rows])
        np.testing.assert_allclose(value.view(np.ndarray), [wanted], rtol=1e-5)


def test_values_of_earlier_calls_stay(device):
    step, params, state, data, rng = _start(ap.RMSProp(lr=0.1))
    loop, there = GraphLoop(step, 1), {name: put(array) for name, array in data.items()}
    params, state, kept = put_params(params), put_state(state), []
    for rows in _rows(rng, 20, (6,) * 4):
        params, state, values = loop(params, state, there, [rows])
        kept.append(values)
    assert len(set(np.concatenate([values.view(np.ndarray) for values in kept]).tolist())) == 4


def test_what_cannot_be_captured_is_left_to_single_steps(device):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    device.refuse = RuntimeError("cudaErrorStreamCaptureUnsupported")
    ours = put_params(params)
    with pytest.raises(TraceError, match="cudaErrorStreamCaptureUnsupported"):
        GraphLoop(step, 1)(ours, put_state(state), there, _rows(rng, 20, (6,)))
    np.testing.assert_array_equal(ours.flat.view(np.ndarray), params.flat)


@pytest.fixture
def one_device(monkeypatch):
    """The stand-ins have no devices, on which CuPy would create arrays."""
    for module in (namespaces, transfer):
        monkeypatch.setattr(module, "on_device", lambda xp, device: contextlib.nullcontext())


def test_a_run_of_fit(device, one_device):
    opt, epochs = ap.Adam(), 3
    _, params, _, data, _ = _start(opt)
    options = {"loss": LOSS, "optimizer": opt, "epochs": epochs, "batch_size": 6}
    wanted = ap.fit(NET, params, (data["x"], data["t"]), **options, compile=False)
    ours = ap.fit(NET, put_params(params), (put(data["x"]), put(data["t"])), **options)
    np.testing.assert_allclose(ours.history.losses, wanted.history.losses, rtol=1e-5)
    assert device.log.count("begin capture") == 2  # batches of 6, and one of 2 in each epoch
    assert device.log.count("launch") == 4 * epochs + 2  # and the first step of each, on copies
    # but for the checks of the data, and of each graph by its first step, losses are read once in an
    # epoch
    assert device.log[device.log.index("launch") :].count("read") == epochs + 2


def test_it_is_for_one_process(device):
    step = ap.make_step(NET, LOSS, ap.SGD())
    xp = backend.namespace(put(np.ones(2)))
    assert isinstance(compiled_loop(step, xp, 5), GraphLoop)
    parallel = ap.distributed.make_data_parallel_step(
        NET, LOSS, ap.SGD(), ap.distributed.SerialCommunicator()
    )
    assert compiled_loop(parallel, xp, 5) is None


def test_without_cublaslt_there_is_none():
    with fake_cupy.installed(products=False):
        step = ap.make_step(NET, LOSS, ap.SGD())
        assert compiled_loop(step, backend.namespace(put(np.ones(2))), 5) is None


def test_a_graph_whose_first_step_is_wrong_changes_nothing(device):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    device.spoiled, ours = "product", put_params(params)
    with (
        pytest.warns(RuntimeWarning, match="one by one, since the .* off by"),
        pytest.raises(TraceError, match="off by"),
    ):
        GraphLoop(step, 1)(ours, put_state(state), there, _rows(rng, 20, (6,)))
    np.testing.assert_array_equal(ours.flat.view(np.ndarray), params.flat)


def test_a_mistake_in_what_makes_a_graph_is_no_reason_to_do_without(device, monkeypatch):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    monkeypatch.setattr("anyprop.compiled.cuda_graph.Launches", None)
    with pytest.raises(TypeError, match="NoneType") as told:
        GraphLoop(step, 1)(put_params(params), put_state(state), there, _rows(rng, 20, (6,)))
    assert not isinstance(told.value, TraceError)


def test_the_articles_step_takes_fifteen_nodes(device):
    """One gathers, eight are products; the loss takes three, two ReLUs one each, the update one."""
    net, opt, rng = ap.MLP([784, 200, 200, 10]), ap.RMSProp(), np.random.default_rng(0)
    params = net.init(8)
    x, t = rng.random((100, 784), dtype="float32"), rng.integers(0, 10, 100)
    data = {"x": put(x), "t": put(t), "sample_weight": None}
    loop = GraphLoop(ap.make_step(net, LOSS, opt), 3)
    ours, state = put_params(params), put_state(opt.init(params))
    ours, state, _ = loop(ours, state, data, [np.arange(100)])
    begin, end = device.log.index("begin capture"), device.log.index("end capture")
    assert end - begin - 1 == 15
    device.log.clear()
    loop(ours, state, data, [np.arange(100)] * 3)
    assert device.log.count("launch") == 3
    assert {"copy", "launch", "allocate"} == set(device.log)


def test_steps_in_a_row_are_few_launches(device):
    """Sixteen are captured one after another, once there are so many; the others run one by one."""
    opt = ap.Adam(lr=lambda step: 0.1 / (1 + step))
    step, params, state, data, rng = _start(opt)
    loop, ours, our_state = GraphLoop(step, 40), put_params(params), put_state(state)
    there = {name: put(array) for name, array in data.items()}
    captured = 0
    for count, launches in ((15, 15), (16, 1), (37, 2 + 5), (32, 2)):
        batches = _rows(rng, 20, (6,) * count)
        device.log.clear()
        ours, our_state, values = loop(ours, our_state, there, batches)
        captured += device.log.count("begin capture")
        proofs = count == 15
        assert device.log.count("launch") == launches + proofs
        wanted = []
        for rows in batches:
            params, state, value = step(params, state, data["x"][rows], data["t"][rows])
            wanted.append(value)
        np.testing.assert_allclose(values.view(np.ndarray), wanted, rtol=1e-4)
        np.testing.assert_allclose(ours.flat.view(np.ndarray), params.flat, rtol=1e-3, atol=1e-5)
        assert our_state.step == state.step
    assert captured == 2


def test_a_capture_of_many_that_fails_changes_nothing(device):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    loop, ours, our_state = GraphLoop(step, 40), put_params(params), put_state(state)
    ours, our_state, _ = loop(ours, our_state, there, _rows(rng, 20, (6,)))
    before = np.array(ours.flat.view(np.ndarray))
    device.refuse = RuntimeError("cudaErrorMemoryAllocation")
    with pytest.raises(TraceError, match="cudaErrorMemoryAllocation"):
        loop(ours, our_state, there, _rows(rng, 20, (6,) * 16))
    np.testing.assert_array_equal(ours.flat.view(np.ndarray), before)
    assert device.capturing is None


def _fit(data, params, net, **options):
    options = {"loss": LOSS, "optimizer": ap.Adam(lr=0.05), "epochs": 2, "batch_size": 5} | options
    return ap.fit(net, params, data, **options)


def _numbers(result):
    arrays = [result.params.flat, result.params.running]
    arrays += [result.state.slots[name].flat for name in sorted(result.state.slots)]
    return [np.array(array.view(np.ndarray)) for array in arrays]


def test_runs_of_equal_networks_share_a_graph_and_nothing_else(device, one_device):
    """The second has other data, at other addresses, and other parameters."""
    found = []
    for seed in (0, 1):
        _, _, _, data, _ = _start(ap.Adam(), seed=seed)
        net = ap.MLP([4, 5, K], norm="batch")
        start, on_host = net.init(seed), (data["x"], data["t"])
        result = _fit(tuple(map(put, on_host)), put_params(start), net)
        wanted = _fit(on_host, start, net, compile=False)
        np.testing.assert_allclose(result.history.losses, wanted.history.losses, rtol=1e-4)
        for a, b in zip(_numbers(result), _numbers(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        found.append((result, _numbers(result)))
    assert device.log.count("begin capture") == 1
    (first, before), _ = found
    for a, b in zip(_numbers(first), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": ap.Adam(lr=0.05, beta1=0.8)},
        {"loss": ap.SoftmaxCrossEntropy(label_smoothing=0.1)},
        {"batch_size": 4},
        {"accumulate": 2},
        {"report_every": 3},
    ],
    ids=str,
)
def test_runs_that_differ_share_no_graph(options, device, one_device):
    _, params, _, data, _ = _start(ap.Adam())
    on_host = data["x"], data["t"]
    there = tuple(map(put, on_host))
    _fit(there, put_params(params), NET)
    before = device.log.count("begin capture")
    result = _fit(there, put_params(params), NET, **options)
    assert device.log.count("begin capture") > before
    wanted = _fit(on_host, params, NET, compile=False, **options)
    np.testing.assert_allclose(result.history.losses, wanted.history.losses, rtol=1e-4)


def test_a_schedule_of_another_run_is_its_own(device, one_device):
    """Two functions are never equal, whatever they compute."""
    _, params, _, data, _ = _start(ap.SGD())
    on_host = data["x"], data["t"]
    for base in (0.1, 0.3):
        options = {"optimizer": ap.SGD(lr=lambda step, base=base: base / (1 + step))}
        result = _fit(tuple(map(put, on_host)), put_params(params), NET, **options)
        wanted = _fit(on_host, params, NET, compile=False, **options)
        np.testing.assert_allclose(result.history.losses, wanted.history.losses, rtol=1e-4)


@dataclass(frozen=True)
class Listing(Layer):
    """A layer that holds a list, which may change."""

    factors: list

    def forward(self, params, x):
        return self.factors[0] * x, None

    def backward(self, params, residuals, dy):
        return self.factors[0] * dy, {}


def test_a_graph_of_what_may_change_goes_with_its_loop(device):
    net = ap.Sequential(ap.Affine(4, K), Listing([2.0]))
    step, (_, _, _, data, rng) = ap.make_step(net, LOSS, ap.SGD()), _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    loop, params = GraphLoop(step, 1), put_params(net.init(8))
    loop(params, put_state(ap.SGD().init(net.init(8))), there, _rows(rng, 20, (6,)))
    assert device.products.living
    del loop
    gc.collect()
    assert not device.products.living


def _graphs_left(device, loops):
    """Create a graph in each of several loops, drop the loops, and count the graphs that stay."""
    _, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    for k in range(loops):
        loop = GraphLoop(ap.make_step(NET, LOSS, ap.SGD(lr=0.1 + k)), 1)
        loop(put_params(params), put_state(state), there, _rows(rng, 20, (6,)))
    del loop
    gc.collect()
    return list(device.products.living.values()).count("handle")


@pytest.mark.parametrize(("loops", "left"), [(1, 1), (3, 3), (12, 8)])
def test_the_last_graphs_are_kept(loops, left, device, monkeypatch):
    monkeypatch.setattr(on_cupy.kept, "most_bytes", 2**40)
    assert _graphs_left(device, loops) == left


def test_no_more_memory_is_kept_than_is_set(device, monkeypatch):
    """The stand-in reports for each graph that its buffers take 32 MiB."""
    assert _graphs_left(device, 12) == 7
    monkeypatch.setattr(on_cupy.kept, "most_bytes", 2**20)
    on_cupy.kept.objects.clear()
    assert _graphs_left(device, 2) == 0


def test_data_are_not_held(device):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    gone = weakref.ref(there["x"])
    loop = GraphLoop(step, 20)
    loop(put_params(params), put_state(state), there, _rows(rng, 20, (6,) * 16))
    del there
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "view",
    [lambda x: np.asfortranarray(x), lambda x: x[::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2]],
    ids=["by columns", "backwards", "every other column"],
)
def test_rows_are_taken_however_the_data_lie(view, device):
    step, params, state, data, rng = _start(ap.SGD(), t=_one_hot)
    loop, (rows,) = GraphLoop(step, 1), _rows(rng, 20, (6,))
    there = {name: put(array) for name, array in data.items()}
    x, t = (view(data[name]).view(fake_cupy.Array) for name in ("x", "t"))
    there |= {"x": x, "t": t}
    _, _, value = loop(put_params(params), put_state(state), there, [rows])
    _, _, wanted = step(params, state, view(data["x"])[rows], view(data["t"])[rows])
    np.testing.assert_allclose(value.view(np.ndarray), [wanted], rtol=1e-5)


def test_each_thread_has_its_own_graph(device):
    step, params, state, data, rng = _start(ap.SGD())
    there = {name: put(array) for name, array in data.items()}
    batches = _rows(rng, 20, (6,))

    def train():
        GraphLoop(step, 1)(put_params(params), put_state(state), there, batches)

    train()
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert device.log.count("begin capture") == 2


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_x_of_a_smaller_dtype_is_cast_where_a_batch_is_gathered(dtype, device, one_device):
    x, t = np.arange(80).reshape(20, 4).astype(dtype), np.arange(20) % K
    narrow, cast = (
        _fit((put(x.astype(kind)), put(t)), put_params(NET.init(8)), NET)
        for kind in (dtype, "float32")
    )
    assert narrow.history.losses == cast.history.losses
    for ours, theirs in zip(_numbers(narrow), _numbers(cast), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert device.log.count("begin capture") == 2  # one for each


def test_x_that_no_kernel_reads_is_left_to_single_steps(device):
    step, params, state, data, rng = _start(ap.SGD())
    data["x"] = data["x"].astype("float16")
    there = {name: put(array) for name, array in data.items()}
    with pytest.raises(TraceError, match="kernels read no arrays of float16"):
        GraphLoop(step, 1)(put_params(params), put_state(state), there, _rows(rng, 20, (6,)))


@pytest.mark.parametrize(
    "options", [{}, *({"pinned": True, "ahead": n} for n in (0, 1, 3))], ids=str
)
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("batches", [1, 2, 100])
def test_a_source_trains_as_arrays_do(batches, many, options, device, one_device, monkeypatch):
    """A step at a time, or by a graph that finds each portion at an address of its own."""
    if many:  # which fit does not do yet
        monkeypatch.setattr(_how, "name_of", lambda xp: "a backend whose portions loops read")
    rng = np.random.default_rng(0)
    x, t = rng.integers(0, 255, (20, 4)).astype("uint8"), _labels(rng, 20)
    monkeypatch.setattr(reader, "SIZE", batches * 5 * (4 + 8))
    monkeypatch.setattr(transfer, "get_device", lambda xp, device: None)
    monkeypatch.setattr(reader, "device_of", lambda array: array.device)
    ours, theirs = (
        _fit(data, put_params(NET.init(8)), NET, epochs=3)
        for data in (ap.Source((x, t), **options), (put(x), put(t)))
    )
    assert ours.history.losses == theirs.history.losses
    for one, other in zip(_numbers(ours), _numbers(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    # One graph for all portions; one that takes its batches by itself serves both runs.
    assert device.log.count("begin capture") == (1 if many else 2)
