"""The compiled step does what the step does, in fewer allocations."""

from __future__ import annotations

import copy
import gc
import threading
import tracemalloc
import warnings
import weakref
from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled import on_jax
from anyprop.compiled.compile import compile_gradient
from anyprop.compiled.numba_dialect import get_kernel
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.repeatable.jaxprs import jitted
from anyprop.step import Step
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

TRAINABLE = [case for case in LAYER_CASES if case.layer.specs()]
NET = ap.MLP([4, 5, K])


def _problem(net, loss, opt, *, dtype="float32", n=6, t=None, xp=None, seed=0):
    """Return a step and two equal starts for it, and a function that draws batches."""
    rng = np.random.default_rng(seed)
    params = net.init(8, dtype=dtype, xp=xp)
    k = net.output_shape((1, net.width_in))[1]

    def batch(n=n):
        x = rng.standard_normal((n, net.width_in)).astype(dtype)
        noise = noise_beside(params, net.noise(rng, x.shape))
        targets = rng.integers(0, k, n) if t is None else t(rng, n, k)
        x, targets = ap.from_host(x, xp), ap.from_host(targets, xp)
        return {"x": x, "t": targets, "noise": noise}

    return ap.make_step(net, loss, opt), params, opt.init(params), batch


def _copied(params, state):
    """Copy what will be donated."""
    slots = {name: slot.copy() for name, slot in state.slots.items()}
    return params.copy(), state._replace(slots=slots)


def _assert_equal(step, params, state, batches, *, exact=True, **kwargs):
    compiled = ap.compile(step)
    ours, theirs = _copied(params, state), (params, state)
    for batch in batches:
        *ours, value = compiled(*ours, **batch, **kwargs)
        with np.errstate(all="ignore"):
            *theirs, expected = step(*theirs, **batch, **kwargs)
        pairs = [(value, expected), (ours[0].flat, theirs[0].flat)]
        pairs += [(ours[1].slots[n].flat, s.flat) for n, s in theirs[1].slots.items()]
        if theirs[0].running is not None:
            pairs.append((ours[0].running, theirs[0].running))
        for a, b in pairs:
            a, b = ap.to_host(a), ap.to_host(b)
            assert a.dtype == b.dtype
            if exact:
                np.testing.assert_array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert int(ours[1].step) == int(theirs[1].step)
    return ours


@pytest.fixture(params=["arena", "fused"])
def form(request, monkeypatch):
    """The two forms of a plan: NumPy's calls alone, and whatever can be fused in numba's loops."""
    loops = []
    if request.param == "fused":
        monkeypatch.setattr("anyprop.compiled.numba_dialect.SMALLEST", 1)
        monkeypatch.setattr("anyprop.compiled.numpy_plan.get_kernel", _noted(loops))
    yield request.param
    assert bool(loops) == (request.param == "fused")


def _noted(loops):
    def get(source):
        loops.append(source)
        return get_kernel(source)

    return get


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", TRAINABLE, ids=str)
def test_every_network_equals_its_step_bit_for_bit(case, dtype, form):
    loss = ap.MeanSquaredError()
    step, params, state, batch = _problem(
        case.layer, loss, ap.RMSProp(), dtype=dtype, t=lambda rng, n, k: rng.random((n, k))
    )
    _assert_equal(step, params, state, [batch() for _ in range(4)])


@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss_equals_its_step_bit_for_bit(case, weighted, form):
    step, params, state, batch = _problem(NET, case.loss, ap.SGD(), t=case.t)
    weights = {"sample_weight": np.arange(6, dtype="float32")} if weighted else {}
    _assert_equal(step, params, state, [batch() for _ in range(4)], **weights)


@dataclass(frozen=True)
class Options:
    weight_decay: float = 0.1
    decay_biases: bool = False
    clip_value: float = 0.05
    clip_norm: float = 0.1
    clip_global_norm: float = 0.1


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
@pytest.mark.parametrize("options", [None, Options()], ids=["plain", "clipped-and-decayed"])
def test_every_optimizer_equals_its_step_bit_for_bit(name, options, form):
    opt = OPTIMIZER_CASES[name]
    if options is not None:
        opt = replace(opt, **vars(options))
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), opt)
    _assert_equal(step, params, state, [batch() for _ in range(8)])


@pytest.mark.parametrize("optimizer", [ap.RMSProp, ap.AdamW])
def test_schedules_and_lr_scale_are_followed(optimizer, form):
    opt = optimizer(lr=lambda step: 0.1 / (1 + step), weight_decay=0.1)
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), opt)
    params, state = _assert_equal(step, params, state, [batch() for _ in range(4)])
    state = state._replace(lr_scale=0.25)
    _assert_equal(step, params, state, [batch() for _ in range(2)])


def test_accumulated_steps_equal_theirs(form):
    net, loss, opt = ap.MLP([4, 5, K], norm="batch"), ap.SoftmaxCrossEntropy(), ap.RMSProp()
    _, params, state, batch = _problem(net, loss, opt)
    step = ap.make_step(net, loss, opt, accumulate=3)
    _assert_equal(step, params, state, [batch() for _ in range(3)])


@dataclass(frozen=True)
class Masked(Layer):
    """A layer with an array of its own, which is not an argument of the step."""

    d: int

    def forward(self, params, x):
        return x * np.arange(self.d, dtype=x.dtype), None

    def backward(self, params, residuals, dy):
        return dy * np.arange(self.d, dtype=dy.dtype), {}


def test_arrays_from_outside_the_step_are_constants(form):
    net = ap.Sequential(ap.Affine(4, 5), Masked(5), ap.Tanh(), ap.Affine(5, K))
    step, params, state, batch = _problem(net, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    _assert_equal(step, params, state, [batch() for _ in range(3)])


@pytest.mark.parametrize("constant", [1.0, np.full((), 2.0, np.float32)], ids=["number", "array"])
def test_a_step_whose_value_is_a_constant_runs_as_it_is(constant):
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.SGD(lr=0.1))

    def gradient(*args, **options):
        return constant, *step.gradient(*args, **options)[1:]

    one = Step(gradient, step.optimizer)
    compiled, given = ap.compile(one), batch()
    with pytest.warns(RuntimeWarning, match="it returns .*, which it does not compute"):
        after, _, value = compiled(params.copy(), state, **given)
    assert value == constant
    np.testing.assert_array_equal(after.flat, one(params, state, **given)[0].flat)


def test_a_value_may_be_an_argument():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.SGD(lr=0.1))

    def gradient(params, x, t, *, sample_weight, noise):
        return sample_weight, *step.gradient(params, x, t)[1:]

    compiled = ap.compile(Step(gradient, step.optimizer))
    values = []
    for k in range(3):
        weight = np.full((), float(k))
        params, state, value = compiled(params, state, **batch(), sample_weight=weight)
        weight[...] = -1.0
        values.append(value)
    assert values == [0.0, 1.0, 2.0]


def test_other_batch_sizes_are_planned_too():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    _assert_equal(step, params, state, [batch(n) for n in (6, 1, 6, 3, 0, 6)])


def test_what_is_not_writable_or_contiguous_is_copied():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    spread = np.repeat(params.flat, 2)[::2]
    spread.flags.writeable = False
    before = spread.copy()
    given = batch()
    given["x"] = np.asfortranarray(given["x"])
    given["x"].flags.writeable = False
    _assert_equal(step, params.replace(flat=spread), state, [given])
    step = ap.compile(step)
    step(params.replace(flat=spread), state, **given)
    np.testing.assert_array_equal(spread, before)


def test_parameters_and_state_are_donated_and_the_batch_is_not():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    given = batch()
    kept = copy.deepcopy(given)
    compiled = ap.compile(step)
    new, after, _ = compiled(params, state, **given)
    assert new.flat is params.flat
    assert after.slots["h"].flat is state.slots["h"].flat
    for name in ("x", "t"):
        np.testing.assert_array_equal(given[name], kept[name])


def test_values_of_earlier_steps_stay():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=0.1))
    compiled, values, seen = ap.compile(step), [], []
    for _ in range(5):
        params, state, value = compiled(params, state, **batch())
        values.append(value)
        seen.append(float(value))
    assert [float(value) for value in values] == seen
    assert len(set(seen)) == 5


def test_other_parameters_of_the_same_layout_are_taken_over():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    compiled, given = ap.compile(step), batch()
    compiled(*_copied(params, state), **given)
    other, other_state = NET.init(9), ap.RMSProp().init(params)
    expected, _, value = step(other, other_state, **given)
    new, _, ours = compiled(*_copied(other, other_state), **given)
    assert ours == value
    np.testing.assert_array_equal(new.flat, expected.flat)


def test_steps_allocate_nothing_that_stays():
    step, params, state, batch = _problem(
        ap.MLP([64, 64, K]), ap.SoftmaxCrossEntropy(), ap.RMSProp(), n=64
    )
    compiled, given = ap.compile(step), batch()

    def run(n):
        nonlocal params, state
        for _ in range(n):
            params, state, _ = compiled(params, state, **given)

    run(3)
    tracemalloc.start()
    try:
        run(5)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        run(200)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    activation = 64 * 64 * 4  # bytes; Python's own lists of free tuples grow by less
    assert after - before < activation
    assert peak - before < 2 * activation


def test_thousands_of_steps_keep_nothing(form):
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    compiled, given = ap.compile(step), batch()

    def run(n):
        nonlocal params, state
        for _ in range(n):
            params, state, _ = compiled(params, state, **given)

    run(100)
    tracemalloc.start()
    try:
        run(100)
        before, _ = tracemalloc.get_traced_memory()
        run(3000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 3000  # bytes: less than one for each step


def test_a_dropped_step_gives_its_memory_back(form):
    net = ap.MLP([64, 256, K])
    step, params, state, batch = _problem(net, ap.SoftmaxCrossEntropy(), ap.SGD(), n=256)
    given, buffers = batch(), 256 * 256 * 4
    # Two batch sizes, so that a plan of each is kept; and once before, for all that is kept for good.
    smaller = {name: None if a is None else a[:128] for name, a in given.items()}

    def train():
        compiled = ap.compile(step)
        ours = _copied(params, state)
        for arrays in (given, smaller, given):
            *ours, _ = compiled(*ours, **arrays)
        return compiled

    train()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        compiled = train()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        assert held - before > buffers
        del compiled
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < buffers / 10


def test_the_plans_of_a_thread_end_with_it():
    step, params, state, batch = _problem(
        ap.MLP([64, 256, K]), ap.SoftmaxCrossEntropy(), ap.SGD(), n=256
    )
    compiled, given = ap.compile(step), batch()
    ours, dropped = _copied(params, state), []

    def train():
        # A copy is made of what is not contiguous, and lives as long as the plan that writes to it.
        flat = np.repeat(params.flat, 2)[::2]
        new, _, _ = compiled(params.replace(flat=flat), ours[1], **given)
        dropped.append(weakref.ref(new))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    gc.collect()
    assert dropped[0]() is None


def test_buffers_are_used_again_within_a_step():
    deep = ap.MLP([64] * 12, "silu")
    step, params, state, batch = _problem(
        deep, ap.MeanSquaredError(), ap.RMSProp(), n=256, t=lambda rng, n, k: rng.random((n, k))
    )
    given = batch()
    ap.compile(step)(*_copied(params, state), **given)  # which imports what it needs

    def kept():
        tracemalloc.start()
        try:
            compiled = ap.compile(step)
            compiled(params, state, **given)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    # What the forward pass saves, x and y of every layer, and not its 10 intermediate results.
    # Python may keep something for itself meanwhile, but not twice.
    assert min(kept(), kept()) < 11 * 5 * 256 * 64 * 4


def test_the_first_call_needs_no_more_memory_than_the_plan():
    step, params, state, batch = _problem(
        ap.MLP([64, 256, 256, K], "silu"), ap.SoftmaxCrossEntropy(), ap.Adam(), n=64
    )
    given = batch()
    ap.compile(step)(*_copied(params, state), **given)  # which imports and compiles what it needs
    tracemalloc.start()
    try:
        compiled = ap.compile(step)
        compiled(params, state, **given)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The step itself would hold parameters, both slots and everything between them in new memory.
    assert peak - kept < 2 * params.flat.nbytes


def test_each_thread_has_its_own_plans():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=0.01))
    compiled, batches = ap.compile(step), [batch() for _ in range(200)]
    wanted, wanted_state = params, state
    for given in batches:
        wanted, wanted_state, _ = step(wanted, wanted_state, **given)
    starts = [_copied(params, state) for _ in range(4)]
    results = [None] * 4
    barrier = threading.Barrier(4)

    def train(i):
        p, s = starts[i]
        barrier.wait()
        for given in batches:
            p, s, _ = compiled(p, s, **given)
        results[i] = p.flat

    threads = [threading.Thread(target=train, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for flat in results:
        np.testing.assert_array_equal(flat, wanted.flat)


@pytest.mark.parametrize("numba", [True, False])
def test_small_networks_get_loops_when_they_have_done_many_steps(numba, monkeypatch):
    loops = []
    monkeypatch.setattr("anyprop.compiled.on_numpy.PATIENCE", 3)
    monkeypatch.setattr("anyprop.compiled.numpy_plan.get_kernel", _noted(loops))
    if not numba:
        monkeypatch.setattr("anyprop.compiled.numba_dialect.is_installed", lambda: False)
    opt = ap.RMSProp(momentum=0.9, weight_decay=0.1, decay_biases=False)
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), opt)
    compiled, ours, theirs = ap.compile(step), (params.copy(), state.copy()), (params, state)
    counts = []
    for _ in range(8):
        one = batch()
        *ours, value = compiled(*ours, **one)
        *theirs, expected = step(*theirs, **one)
        assert value == expected
        counts.append(len(loops))
    np.testing.assert_array_equal(ours[0].flat, theirs[0].flat)
    assert counts[2] == 0
    assert counts[3] == counts[7] > 0


def _broken(source):
    raise ImportError("numba is broken")


@pytest.mark.parametrize(
    ("name", "without"), [("is_installed", lambda: False), ("_kernel", _broken)]
)
def test_where_numba_cannot_be_used_the_results_are_the_same(name, without, monkeypatch):
    monkeypatch.setattr("anyprop.compiled.numba_dialect.SMALLEST", 1)
    monkeypatch.setattr(f"anyprop.compiled.numba_dialect.{name}", without)
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp())
    _assert_equal(step, params, state, [batch() for _ in range(3)])


@dataclass(frozen=True)
class Peeking(Layer):
    """A layer that looks at a number, which no recording can repeat."""

    def forward(self, params, x):
        return (x if float(x[0, 0]) > 0 else 2.0 * x), None

    def backward(self, params, residuals, dy):
        return dy, {}


@dataclass(frozen=True)
class Catching(Layer):
    """A layer that has another way where it cannot look at a number, or an error of its own."""

    error: type | None = None

    def forward(self, params, x):
        try:
            return (x if float(x[0, 0]) > 0 else 2.0 * x), None
        except Exception as error:
            if self.error is not None:
                raise self.error("no number") from error
            return 3.0 * x, None

    def backward(self, params, residuals, dy):
        return dy, {}


@dataclass(frozen=True)
class Methodical(Layer):
    """A layer that uses a method of NumPy's arrays."""

    def forward(self, params, x):
        return x * abs(x.item(0)), None

    def backward(self, params, residuals, dy):
        return dy, {}


@dataclass(frozen=True)
class Asking(Layer):
    """A layer that asks which attributes an array has."""

    def forward(self, params, x):
        return (2.0 * x if hasattr(x, "strides") else x), None

    def backward(self, params, residuals, dy):
        return dy, {}


@dataclass(frozen=True)
class Cumulative(Layer):
    """A layer that uses a function without a planned form."""

    def forward(self, params, x):
        from anyprop.backend import namespace

        return namespace(x).cumulative_sum(x, axis=1), None

    def backward(self, params, residuals, dy):
        return dy, {}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Peeking(), "reads numbers"),
        (Catching(), "reads numbers"),
        (Catching(ValueError), "reads numbers"),
        (Methodical(), "uses item of an array"),
        (Asking(), "uses strides of an array"),
        (Cumulative(), "uses cumulative_sum"),
    ],
)
def test_what_cannot_be_planned_runs_as_it_is_with_one_warning(layer, reason):
    net = ap.Sequential(ap.Affine(4, K), layer)
    step, params, state, batch = _problem(net, ap.SoftmaxCrossEntropy(), ap.SGD())
    compiled, given = ap.compile(step), batch()
    expected, _, value = step(params, state, **given)
    with pytest.warns(RuntimeWarning, match=f"uncompiled: it {reason}"):
        new, _, ours = compiled(params, state, **given)
    assert ours == value
    np.testing.assert_array_equal(new.flat, expected.flat)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(params, state, **given)


def test_wrong_batches_raise_what_the_step_raises():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.SGD())
    compiled, given = ap.compile(step), batch()
    for wrong, error in (
        ({"x": given["x"].astype("float64")}, TypeError),
        ({"x": given["x"][:, :3]}, ValueError),
        ({"t": given["t"][:3]}, ValueError),
        ({"sample_weight": np.ones(5, dtype="float32")}, ValueError),
    ):
        with pytest.raises(error) as eager:
            step(params, state, **(given | wrong))
        with pytest.raises(error) as ours:
            compiled(params, state, **(given | wrong))
        assert str(ours.value) == str(eager.value)


def test_wrong_states_raise_what_the_step_raises():
    opt = ap.Adam()
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), opt)
    wide = opt.init(NET.init(8, dtype="float64"))
    given = batch()
    for wrong, error, match in (
        (wide, TypeError, "float32.*float64"),
        (ap.SGD().init(params), ValueError, "comes from another optimizer or other options"),
        (ap.AMSGrad().init(params), ValueError, "comes from another optimizer or other options"),
        (state._replace(lr_scale=-1.0), ValueError, "lr_scale must be"),
        (state._replace(decay_mask=params), ValueError, "decay_biases"),
    ):
        compiled, ours = ap.compile(step), _copied(params, state)
        for _ in range(2):  # before there is a plan, and after
            for run in (step, compiled):
                with pytest.raises(error, match=match):
                    run(ours[0], wrong, **given)
            *ours, _ = compiled(*ours, **given)
        assert ours[1].step == 2


def test_parameters_without_running_statistics_are_refused_in_every_call(backend):
    net = ap.MLP([4, 5, K], norm="batch")
    step, params, state, batch = _problem(net, ap.SoftmaxCrossEntropy(), ap.SGD(), xp=backend.name)
    bare = ap.Parameters(params.layout, params.flat)
    compiled = ap.compile(step)
    parts = ap.make_step(net, ap.SoftmaxCrossEntropy(), ap.SGD(), accumulate=2)
    for call in (step, parts, compiled):
        for _ in range(2):  # also when a compiled step has seen the others
            with pytest.raises(ValueError, match="lack the running statistics of net; create them"):
                call(bare, state, **batch())
            call(params.copy(), state, **batch())


def test_only_steps_are_compiled():
    with pytest.raises(TypeError, match="takes a step from make_step"):
        ap.compile(lambda params, state, x, t: None)


@pytest.mark.parametrize("name", ["rmsprop-centered-momentum", "adam", "nadam", "lion"])
def test_other_backends_compute_the_same(backend, name):
    net = ap.MLP([4, 5, K], norm="batch", dropout=0.2)
    step, params, state, batch = _problem(
        net, ap.SoftmaxCrossEntropy(), OPTIMIZER_CASES[name], dtype="float64", xp=backend.name
    )
    _assert_equal(step, params, state, [batch() for _ in range(3)], exact=False)


@pytest.mark.needs("torch")
def test_pytorch_records_no_gradients_of_its_own():
    step, params, state, batch = _problem(NET, ap.SoftmaxCrossEntropy(), ap.RMSProp(), xp="torch")
    params.flat.requires_grad_()
    params, state, value = ap.compile(step)(params, state, **batch())
    assert not params.flat.requires_grad
    assert not value.requires_grad


def test_a_gradient_that_cannot_be_recorded_is_computed_uncompiled():
    net = ap.MLP([3, 2])
    params = net.init(seed=1)

    def gradient(params, batch):
        # A number that the recording does not have.
        return params.flat * float(params.flat[0]) + batch["x"][0, 0]

    compiled = compile_gradient(gradient, params.xp)
    batch = {"x": np.ones((2, 3), "float32")}
    with pytest.warns(RuntimeWarning, match=r"^the gradient is computed uncompiled: .+\.$"):
        first = compiled(params, batch)
    for found in (first, compiled(params, batch)):  # with one warning
        np.testing.assert_array_equal(found, gradient(params, batch))


def test_a_compiled_gradient_is_the_gradient(backend):
    net, loss = ap.MLP([3, 4, 2], activation="tanh"), ap.SoftmaxCrossEntropy()
    params = net.init(seed=1, xp=backend.xp, dtype="float64", device=backend.device)
    value_and_grad = ap.value_and_grad(net, loss)

    def gradient(params, batch):
        value, grads = value_and_grad(params, **batch)
        return value, grads.flat

    compiled, rng = compile_gradient(gradient, params.xp), np.random.default_rng(2)
    for n in (5, 5, 3):
        x = backend.asarray(rng.standard_normal((n, 3)))
        batch = {"x": x, "t": backend.asarray(rng.integers(0, 2, n))}
        for found, wanted in zip(compiled(params, batch), gradient(params, batch), strict=True):
            np.testing.assert_allclose(
                backend.to_numpy(found), backend.to_numpy(wanted), rtol=1e-12, atol=1e-15
            )


@dataclass(frozen=True)
class _Multiplied:
    """What returns the parameters, multiplied."""

    factor: float

    def __call__(self, params, batch):
        return params.flat * self.factor + batch["x"][0, 0]


def test_equal_gradients_are_traced_by_jax_once(monkeypatch):
    pytest.importorskip("jax")
    traced = []
    monkeypatch.setattr(on_jax, "is_constant", lambda function: True)
    monkeypatch.setattr(on_jax, "jitted", lambda *given: traced.append(given) or jitted(*given))
    params = ap.MLP([3, 2]).init(seed=1, xp="jax")
    batch = {"x": ap.from_host(np.ones((2, 3), "float32"), "jax")}
    functions = [_Multiplied(2.0), _Multiplied(2.0), _Multiplied(4.0)]
    for function in functions:
        found = compile_gradient(function, params.xp)(params, batch)
        np.testing.assert_allclose(found, function(params, batch), rtol=1e-6)
    assert [step for _, step in traced] == functions[1:]
