"""Many steps in a call on NumPy are those of the step, bit for bit, whatever network they train."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled import many_steps, numpy_loop
from anyprop.compiled.compile import compiled_loop
from anyprop.compiled.numba_dialect import NoKernelError
from anyprop.compiled.operation import NoOperationError, address_of, operations
from anyprop.layers.base import Layer
from anyprop.repeatable.stand_in import TraceError
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

XP = ap.get_namespace("numpy")
NET, LOSS = ap.MLP([4, 5, K]), ap.SoftmaxCrossEntropy()
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, -3.7, 1e-30, 3e38, np.inf, -np.inf, np.nan]


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    numpy_loop.kept.objects.clear()


@pytest.fixture
def at_once(monkeypatch):
    """Compile from the first step, and refuse to do any of them one by one."""

    def refuse(*args, **kwargs):
        raise AssertionError("a step was done by itself")

    monkeypatch.setattr(numpy_loop, "PATIENCE", 0)
    monkeypatch.setattr(numpy_loop, "make_plan", refuse)


def _labels(rng, n, k):
    return rng.integers(0, k, n)


def _data(net, *, n=20, dtype="float32", t=_labels, weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    k = net.output_shape((1, net.width_in))[1]
    x = rng.standard_normal((n, net.width_in)).astype(dtype)
    weight = rng.random(n).astype(dtype) if weighted else None
    rows = [rng.permutation(n)[:size] for size in (6, 6, 6, 5, 5, 6, 1)]
    return {"x": x, "t": t(rng, n, k), "sample_weight": weight}, rows


def _in_calls(rows, most):
    """Group batches of one size that follow each other."""
    calls = []
    for one in rows:
        if calls and len(calls[-1]) < most and len(calls[-1][0]) == len(one):
            calls[-1].append(one)
        else:
            calls.append([one])
    return calls


def _assert_equal(step, params, data, rows, *, most=3, state=None, runs=2):
    """Compare many at once with the step itself; a later run may have what the one before compiled."""
    for _ in range(runs):
        loop = _assert_run(step, params, data, rows, most, state)
        step, params = replace(step), params.replace(flat=0.5 * params.flat)
    return loop


def _assert_run(step, params, data, rows, most, state):
    state = step.optimizer.init(params) if state is None else state
    loop, ours = compiled_loop(step, XP, most), (params.copy(), state.copy())
    losses, expected = [], []
    for call in _in_calls(rows, most):
        *ours, values = loop(*ours, data, call)
        losses += values
    theirs = params, state
    for one in rows:
        batch = {name: None if array is None else array[one] for name, array in data.items()}
        batch["x"] = batch["x"].astype(params.flat.dtype)
        with np.errstate(all="ignore"):
            *theirs, value = step(*theirs, **batch)
        expected.append(float(value))
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(ours[0].flat, theirs[0].flat)
    if params.running is not None:
        np.testing.assert_array_equal(ours[0].running, theirs[0].running)
    for name, slot in theirs[1].slots.items():
        np.testing.assert_array_equal(ours[1].slots[name].flat, slot.flat)
    assert ours[1].step == theirs[1].step
    return loop


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [c for c in LAYER_CASES if c.layer.specs()], ids=str)
def test_every_network(case, dtype, at_once):
    net, loss = case.layer, ap.MeanSquaredError()
    data, rows = _data(net, dtype=dtype, t=lambda rng, n, k: rng.random((n, k)).astype(dtype))
    if net.noise(np.random.default_rng(0), (1, net.width_in)) is None:
        _assert_equal(ap.make_step(net, loss, ap.RMSProp()), net.init(8, dtype=dtype), data, rows)


@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss(case, weighted, at_once):
    data, rows = _data(NET, t=case.t, weighted=weighted)
    _assert_equal(ap.make_step(NET, case.loss, ap.SGD()), NET.init(8), data, rows)


CLIPPED = {
    "weight_decay": 0.1,
    "decay_biases": False,
    "clip_value": 0.05,
    "clip_norm": 0.1,
    "clip_global_norm": 0.1,
}


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
@pytest.mark.parametrize("options", [{}, CLIPPED], ids=["plain", "clipped-and-decayed"])
def test_every_optimizer(name, options, at_once):
    data, rows = _data(NET)
    step = ap.make_step(NET, LOSS, replace(OPTIMIZER_CASES[name], **options))
    _assert_equal(step, NET.init(8), data, rows)


@pytest.mark.parametrize("optimizer", [ap.RMSProp, ap.AdamW])
def test_schedules_and_lr_scale(optimizer, at_once):
    opt = optimizer(lr=lambda step: 0.1 / (1 + step), weight_decay=0.1)
    data, rows = _data(NET)
    params = NET.init(8)
    state = opt.init(params)._replace(lr_scale=0.25, step=7)
    _assert_equal(ap.make_step(NET, LOSS, opt), params, data, rows, state=state)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_however_many_are_done_in_a_call(most, at_once):
    net = ap.MLP([4, 5, K], norm="batch", activation="tanh")
    data, rows = _data(net)
    step = ap.make_step(net, LOSS, ap.Adam(), accumulate=2)
    _assert_equal(step, net.init(8), data, rows, most=most)


@pytest.mark.parametrize("k", [2, 31, 40, 150])
def test_rows_of_any_length(k, at_once):
    """NumPy reduces longer rows than a loop does."""
    net = ap.MLP([4, k])
    data, rows = _data(net)
    _assert_equal(ap.make_step(net, LOSS, ap.SGD()), net.init(8), data, rows)


def test_networks_of_one_output(at_once):
    net = ap.MLP([1, 3, 1], activation="gelu")
    data, rows = _data(net, t=lambda rng, n, k: rng.integers(0, 2, (n, 1)).astype("float32"))
    _assert_equal(ap.make_step(net, ap.SigmoidCrossEntropy(), ap.SGD()), net.init(8), data, rows)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[::-1],
        lambda x: np.hstack([x, x])[:, :4],
        lambda x: np.repeat(x, 3, axis=0)[::3],
        lambda x: (100 * x).astype("uint8"),
    ],
    ids=["backwards", "columns", "rows", "uint8"],
)
def test_data_in_any_rows(change, at_once):
    data, rows = _data(NET)
    data["x"] = change(data["x"])
    data["x"].flags.writeable = False
    _assert_equal(ap.make_step(NET, LOSS, ap.SGD()), NET.init(8), data, rows)


class InArrays(ap.RMSProp):
    """An optimizer whose numbers are arrays."""

    def numbers(self, state):
        lr, scalars = super().numbers(state)
        return np.asarray(lr, "float32"), {k: np.asarray(s, "float32") for k, s in scalars.items()}


@pytest.mark.parametrize("refused", ["columns", "numbers"])
def test_what_a_loop_refuses_it_leaves_as_it_was(refused):
    data, rows = _data(NET)
    opt, params = InArrays() if refused == "numbers" else ap.RMSProp(), NET.init(8)
    state, before = opt.init(params), params.flat.copy()
    if refused == "columns":
        data["x"] = np.asfortranarray(data["x"])
    with pytest.raises(TraceError):
        compiled_loop(ap.make_step(NET, LOSS, opt), XP, 3)(params, state, data, rows[:2])
    np.testing.assert_array_equal(params.flat, before)


def test_fit_goes_on_without_a_loop_that_refuses():
    data, _ = _data(NET)
    given, options = (np.asfortranarray(data["x"]), data["t"]), {"epochs": 2, "batch_size": 6}
    ours, theirs = (
        ap.fit(NET, NET.init(8), given, loss=LOSS, optimizer=ap.Adam(), compile=c, **options)
        for c in (True, False)
    )
    np.testing.assert_array_equal(ours.params.flat, theirs.params.flat)


def test_small_networks_are_compiled_when_they_have_done_many_steps(monkeypatch):
    monkeypatch.setattr(numpy_loop, "PATIENCE", 4)
    compiled = []
    inner = many_steps.ManySteps.run
    monkeypatch.setattr(
        many_steps.ManySteps, "run", lambda self, *args: compiled.append(args) or inner(self, *args)
    )
    data, rows = _data(NET)
    step = ap.make_step(NET, LOSS, ap.Adam())
    _assert_equal(step, NET.init(8), data, [rows[0]] * 7, most=2, runs=1)
    assert len(compiled) == 2  # of the seven steps the last three


@pytest.mark.parametrize(
    ("sizes", "loss", "soon"),
    [
        ([4, 7, K], LOSS, True),
        ([4, 9, K], LOSS, False),  # sums of longer rows are other loops
        ([4, K, K], LOSS, False),  # and so are those of layers that are alike
        ([4, 5, 6, K], LOSS, False),
        ([4, 5, K], ap.SoftmaxCrossEntropy(label_smoothing=0.1), False),
    ],
    ids=str,
)
def test_loops_that_are_there_are_used_soon(sizes, loss, soon, monkeypatch):
    monkeypatch.setattr(numpy_loop, "_left", {})
    monkeypatch.setattr(numpy_loop, "SOON", 2)
    monkeypatch.setattr(numpy_loop, "PATIENCE", 0)
    data, rows = _data(NET)
    _assert_equal(ap.make_step(NET, LOSS, ap.Adam()), NET.init(8), data, [rows[0]], most=2)

    monkeypatch.setattr(numpy_loop, "PATIENCE", 1000)
    compiled, inner = [], many_steps.ManySteps.run
    monkeypatch.setattr(
        many_steps.ManySteps, "run", lambda self, *args: compiled.append(args) or inner(self, *args)
    )
    net = ap.MLP(sizes)
    data, rows = _data(net)
    step = ap.make_step(net, loss, ap.Adam(lr=0.1))
    _assert_equal(step, net.init(8), data, [rows[0]] * 6, most=2)
    assert bool(compiled) is soon


def test_the_steps_of_several_runs_count(monkeypatch):
    monkeypatch.setattr(numpy_loop, "_left", {})
    monkeypatch.setattr(numpy_loop, "SOON", 1)
    monkeypatch.setattr(numpy_loop, "PATIENCE", 5)
    compiled, inner = [], many_steps.ManySteps.run
    monkeypatch.setattr(
        many_steps.ManySteps, "run", lambda self, *args: compiled.append(args) or inner(self, *args)
    )
    data, rows = _data(NET)
    # All but the first five steps, and the first one of the last run.
    for lr, wanted in ((0.1, 0), (0.2, 1), (0.3, 3)):
        step = ap.make_step(NET, LOSS, ap.Adam(lr))
        _assert_equal(step, NET.init(8), data, [rows[0]] * 3, most=1, runs=1)
        assert len(compiled) == wanted


def _recorded(monkeypatch):
    """Return a list that grows with each recording."""
    recorded, inner = [], numpy_loop.recorded_step
    monkeypatch.setattr(
        numpy_loop, "recorded_step", lambda *args: recorded.append(args) or inner(*args)
    )
    return recorded


def test_equal_runs_share_what_is_compiled(at_once, monkeypatch):
    recorded = _recorded(monkeypatch)
    data, rows = _data(NET)
    for k in range(3):
        net = ap.MLP([4, 5, K])
        step = ap.make_step(net, ap.SoftmaxCrossEntropy(), ap.AdamW(weight_decay=0.1))
        _assert_equal(step, net.init(k), data, rows, runs=1)
        assert len(recorded) == 3  # one for each size


def test_runs_that_take_turns_leave_each_others_arrays_alone(at_once):
    data, rows = _data(NET)
    step = ap.make_step(NET, LOSS, ap.AdamW(weight_decay=0.1))
    ours, theirs = [], []
    for k in range(2):
        params = NET.init(k)
        state = step.optimizer.init(params)
        ours.append((compiled_loop(step, XP, 3), params.copy(), state.copy()))
        theirs.append((params, state))
    for one in rows:
        for k in range(2):
            loop, *now = ours[k]
            ours[k] = loop, *loop(*now, data, [one])[:2]
            theirs[k] = step(*theirs[k], data["x"][one], data["t"][one])[:2]
    for (_, params, state), (wanted, after) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(params.flat, wanted.flat)
        np.testing.assert_array_equal(state.slots["v"].flat, after.slots["v"].flat)
        assert state.step == len(rows)


class OwnLoss(ap.SoftmaxCrossEntropy):
    """What a class of the user's does may be another thing each time."""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"optimizer": ap.Adam(beta1=0.5)}),
        ({}, {"loss": ap.SoftmaxCrossEntropy(label_smoothing=0.1)}),
        ({}, {"net": ap.MLP([4, 5, K], activation="tanh")}),
        ({}, {"dtype": "float64"}),
        ({}, {"weighted": True}),
        ({"loss": OwnLoss()}, {"loss": OwnLoss()}),
    ],
    ids=str,
)
def test_other_runs_share_nothing(first, second, at_once, monkeypatch):
    recorded = _recorded(monkeypatch)
    for changes in (first, second):
        made = {"net": NET, "loss": LOSS, "optimizer": ap.Adam()} | changes
        dtype, weighted = made.pop("dtype", "float32"), made.pop("weighted", False)
        data, rows = _data(NET, dtype=dtype, weighted=weighted)
        params = made["net"].init(8, dtype=dtype)
        _assert_equal(ap.make_step(**made), params, data, [rows[0]] * 4, runs=1)
    assert len(recorded) == 2


def test_large_networks_are_compiled_from_the_first_step(monkeypatch):
    monkeypatch.setattr("anyprop.compiled.numba_dialect.SMALLEST", 1)
    monkeypatch.setattr(numpy_loop, "make_plan", None)
    data, rows = _data(NET)
    _assert_equal(ap.make_step(NET, LOSS, ap.SGD()), NET.init(8), data, rows)


def _fails(error):
    def fail(*args):
        raise error("not here")

    return fail


@pytest.mark.parametrize(
    ("name", "error"), [("get_kernel", NoKernelError), ("operations", NoOperationError)]
)
def test_where_they_cannot_be_compiled_steps_are_done_one_by_one(name, error, monkeypatch):
    monkeypatch.setattr(numpy_loop, "PATIENCE", 2)
    monkeypatch.setattr(many_steps, name, _fails(error))
    data, rows = _data(NET)
    _assert_equal(ap.make_step(NET, LOSS, ap.Adam()), NET.init(8), data, rows)


@dataclass(frozen=True)
class Turned(Layer):
    """A layer that adds a constant of three dimensions, in an order for which there is no loop."""

    def forward(self, params, x):
        return x + np.ones((5, 2), x.dtype).T[:1], None

    def backward(self, params, residuals, dy):
        return dy * np.ones((5, 2), dy.dtype).T[:1], {}


def test_what_has_no_loop_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(numpy_loop, "PATIENCE", 0)
    net = ap.Sequential(ap.Affine(4, 5), Turned(), ap.Affine(5, K))
    data, rows = _data(net)
    _assert_equal(ap.make_step(net, LOSS, ap.Adam()), net.init(8), data, rows)


def test_without_numba_there_is_no_loop(monkeypatch):
    monkeypatch.setattr("anyprop.compiled.compile.is_installed", lambda: False)
    assert compiled_loop(ap.make_step(NET, LOSS, ap.SGD()), XP, 3) is None


def _run(function, given, out):
    for operation in operations(function, given, out):
        call = operation.bound
        call.function(*call.arguments)
    return out


def _bits(array):
    return array.shape, array.dtype, array.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_products_are_numpys_to_the_bit(n, dtype, rng):
    """Of every shape and order: NumPy has a function of BLAS, or a loop, for each kind."""
    for m, k, turned, also in [
        (m, k, i, j) for m in (1, 3, 40) for k in (1, 7) for i in (0, 1) for j in (0, 1)
    ]:
        a = rng.standard_normal((n, m) if turned else (m, n)).astype(dtype)
        b = rng.standard_normal((k, n) if also else (n, k)).astype(dtype)
        a, b = a.T if turned else a, b.T if also else b
        for left, right in ((a, b), (a[0], b), (a, b[:, 0]), (a[0], b[:, 0]), (a, a.T)):
            wanted = np.asarray(left @ right)
            assert _bits(_run(np.matmul, [left, right], np.empty_like(wanted))) == _bits(wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ufunc", [np.add, np.maximum])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (300, 7), (4, 300), (3, 8)], ids=str)
def test_reductions_are_numpys_to_the_bit(shape, axis, ufunc, dtype, rng):
    for x in (rng.standard_normal(shape), rng.choice(SPECIAL, shape)):
        x = x.astype(dtype)
        with np.errstate(all="ignore"):
            wanted = np.asarray(ufunc.reduce(x, axis=axis))
        ours = _run(ufunc.reduce, [x, axis, None, False], np.empty_like(wanted))
        np.testing.assert_array_equal(ours, wanted)
        np.testing.assert_array_equal(np.signbit(ours), np.signbit(wanted))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_are_numpys_to_the_bit(dtype, rng):
    x = np.concatenate([rng.standard_normal(1000), SPECIAL]).astype(dtype)
    with np.errstate(all="ignore"):
        for ufunc in (np.exp, np.log, np.log1p, np.expm1, np.tanh, np.sqrt, np.isfinite):
            wanted = ufunc(x)
            assert _bits(_run(ufunc, [x], np.empty_like(wanted))) == _bits(wanted)
        for ufunc, given in ((np.multiply, [x, 0.3]), (np.power, [2, x]), (np.add, [x, x])):
            wanted = ufunc(*given)
            assert _bits(_run(ufunc, given, np.empty_like(wanted))) == _bits(wanted)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (np.linalg.norm, [np.ones(3)]),
        (np.exp, [np.ones((3, 4)).T]),
        (np.add, [np.ones((3, 4)), np.ones(4)]),
        (np.add, [np.ones(3, "int32"), np.ones(3, "float32")]),
        (np.matmul, [np.ones((2, 3, 4)), np.ones((4, 3))]),
        (np.add.reduce, [np.ones((2, 3, 4)), 1, None]),
    ],
)
def test_what_has_no_address_is_refused(function, given):
    with np.errstate(all="ignore"), pytest.raises(NoOperationError):
        list(operations(function, given, np.empty(np.shape(given[0]))))


@pytest.mark.parametrize(
    "make", [np.zeros, lambda n: np.zeros(n)[2:], lambda n: np.zeros((n, n)).T]
)
def test_addresses_are_those_that_numpy_gives(make):
    array = make(5)
    assert address_of(array) == array.ctypes.data
