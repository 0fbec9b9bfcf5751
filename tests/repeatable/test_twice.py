"""A step that is not a function of its arguments runs as it is, with one warning."""

from __future__ import annotations

import functools
import itertools
import random
import re
import time
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import namespace
from anyprop.compiled import program
from anyprop.compiled.trace import Recording
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.repeatable import jaxprs
from anyprop.repeatable.ours import is_constant, is_ours
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

COMPILED = ("numpy", "jax", "torch")
LATE = 3
"""So many calls must have gone before a counter takes effect, which is after all recordings."""

CALLS = 0
LOG: list[int] = []
GENERATOR = np.random.default_rng(5)
TURNS = itertools.count()


class Scaling(Layer):
    """A layer that multiplies by what a method computes."""

    def __init__(self):
        self.start()

    def start(self):
        """Return what the layer holds."""

    def forward(self, params, x):
        factor = self.factor()
        return x * factor, factor

    def backward(self, params, residuals, dy):
        return dy * residuals, {}


def late(calls):
    return 0.5 if calls > LATE else 1.0


class Warming(Scaling):
    def start(self):
        self.calls = 0

    def factor(self):
        self.calls += 1
        return min(self.calls / 10.0, 1.0)


class Counting(Scaling):
    def start(self):
        self.calls = 0

    def factor(self):
        self.calls += 1
        return late(self.calls)


class CountingLazily(Scaling):
    def factor(self):
        self.calls = getattr(self, "calls", 0) + 1
        return late(self.calls)


class CountingInALazyList(Scaling):
    def factor(self):
        if not hasattr(self, "calls"):
            self.calls = [0]
        self.calls[0] += 1
        return late(self.calls[0])


class CountingInSlots(Scaling):
    __slots__ = ("calls",)

    def start(self):
        self.calls = 0

    def factor(self):
        self.calls += 1
        return late(self.calls)


@dataclass(frozen=True)
class Frozen(Scaling):
    calls: int = 0

    def factor(self):
        object.__setattr__(self, "calls", self.calls + 1)
        return late(self.calls)


class CountingOfTheClass(Scaling):
    calls = 0

    def __init__(self):
        type(self).calls = 0

    def factor(self):
        type(self).calls += 1
        return late(self.calls)


class CountingGlobally(Scaling):
    def start(self):
        global CALLS
        CALLS = 0

    def factor(self):
        global CALLS
        CALLS += 1
        return late(CALLS)


class CountingInANewGlobal(Scaling):
    def start(self):
        globals().pop("NEW_CALLS", None)

    def factor(self):
        global NEW_CALLS
        try:
            NEW_CALLS += 1
        except NameError:
            NEW_CALLS = 1
        return late(NEW_CALLS)


class LoggingGlobally(Scaling):
    def start(self):
        LOG.clear()

    def factor(self):
        LOG.append(0)
        return late(len(LOG))


class CountingInAnArray(Scaling):
    def start(self):
        self.calls = np.zeros(1)

    def factor(self):
        self.calls += 1
        return late(self.calls[0])


class CountingInADict(Scaling):
    def start(self):
        self.calls = {"forward": 0}

    def factor(self):
        self.calls["forward"] += 1
        return late(self.calls["forward"])


class CountingElsewhere(Scaling):
    def start(self):
        self.kept = SimpleNamespace(calls=0)

    def factor(self):
        self.kept.calls += 1
        return late(self.kept.calls)


def counting_in_a_closure():
    calls = 0

    class Closed(Scaling):
        def factor(self):
            nonlocal calls
            calls += 1
            return late(calls)

    return Closed()


def counting_in_a_partial_function():
    def factor(calls, step):
        calls[0] += step
        return late(calls[0])

    layer = Scaling()
    layer.factor = functools.partial(factor, [0], step=1)
    return layer


def counting_in_a_function():
    def factor():
        factor.calls += 1
        return late(factor.calls)

    factor.calls = 0
    layer = Scaling()
    layer.factor = factor
    return layer


class Drawing(Scaling):
    def start(self):
        np.random.seed(3)

    def factor(self):
        return float(np.random.rand())


class DrawingRarely(Scaling):
    """What it draws has no effect in the first steps."""

    def start(self):
        np.random.seed(2)
        self.threshold = np.random.random_sample(LATE + 4).max() - 1e-12
        np.random.seed(2)

    def factor(self):
        return 0.5 if np.random.random_sample() >= self.threshold else 1.0


class DrawingFromPython(Scaling):
    def start(self):
        random.seed(3)

    def factor(self):
        return random.random()


class DrawingFromItsOwn(Scaling):
    def start(self):
        self.rng = np.random.default_rng(3)

    def factor(self):
        return float(self.rng.random())


class DrawingFromARandomState(Scaling):
    def start(self):
        self.rng = np.random.RandomState(3)

    def factor(self):
        return 1.0 + 0.5 * (self.rng.rand() > 2.0 * self.rng.rand())


class DrawingGlobally(Scaling):
    def start(self):
        GENERATOR.bit_generator.state = np.random.default_rng(5).bit_generator.state

    def factor(self):
        return float(GENERATOR.random())


class DrawingFromPythonsOwn(Scaling):
    def start(self):
        self.rng = random.Random(3)

    def factor(self):
        return self.rng.random()


KINDS = [
    *(Warming, Counting, CountingLazily, CountingInALazyList, CountingInSlots, Frozen),
    *(CountingOfTheClass, CountingGlobally, LoggingGlobally, CountingInAnArray, CountingInADict),
    *(CountingElsewhere, CountingInANewGlobal, Drawing, DrawingRarely),
    *(counting_in_a_closure, counting_in_a_function, counting_in_a_partial_function),
    *(DrawingFromPython, DrawingFromItsOwn, DrawingFromARandomState, DrawingGlobally),
    DrawingFromPythonsOwn,
]


def _fitted(backend, layer, compile, *, loss=None, optimizer=None, **options):
    """Train a network that holds a layer; return the result and the warnings."""
    rng = np.random.default_rng(0)
    net = ap.Sequential(ap.Affine(4, 5), layer, ap.Tanh(), ap.Affine(5, K))
    x = rng.standard_normal((20, 4)).astype("float32")
    data = ap.from_host(x, backend.name), ap.from_host(rng.integers(0, K, 20), backend.name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = ap.fit(
            *(net, net.init(8, xp=backend.name), data),
            loss=loss or ap.SoftmaxCrossEntropy(),
            optimizer=optimizer or ap.RMSProp(0.01),
            batch_size=8,
            compile=compile,
            torch_backend="eager" if compile and backend.name == "torch" else None,
            **options,
        )
    return result, [str(warning.message) for warning in told]


def _assert_equal(backend, ours, theirs):
    assert ours.history.losses == theirs.history.losses
    np.testing.assert_array_equal(
        ap.to_host(ours.params.flat), ap.to_host(theirs.params.flat), strict=True
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_layer_that_draws_or_counts_trains_as_it_is_written(backend, kind):
    ours, told = _fitted(backend, kind(), True, epochs=3)
    theirs, silent = _fitted(backend, kind(), False, epochs=3)
    _assert_equal(backend, ours, theirs)
    assert not silent
    assert len(told) == (backend.name in COMPILED)
    for text in told:
        assert "recorded twice, it is not the same: " in text
        assert "noise(rng, shape)" in text


def test_forward_is_called_in_each_of_fifty_steps(backend):
    layer = Warming()
    ours, told = _fitted(backend, layer, True, steps=50)
    theirs, _ = _fitted(backend, Warming(), False, steps=50)
    _assert_equal(backend, ours, theirs)
    assert layer.calls == 50
    assert len(told) == (backend.name in COMPILED)


class Ticking(Scaling):
    def factor(self):
        return 1.0 + time.perf_counter_ns() % 10**9 * 1e-12


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Warming, r"call \d+ of \d+, .*mul.* has .*0\.1\b.* the first time and .*0\.2\b.* the sec"),
        (
            Counting,
            r"it changes Counting\.calls, which is 1 after the first and 2 after the second",
        ),
        (CountingInADict, r"it changes CountingInADict\.calls\['forward'\], which is 1 after"),
        (CountingGlobally, "it changes the global CALLS, which is 1 after"),
        (counting_in_a_closure, "it changes the variable calls of counting_in_a_closure"),
        (DrawingRarely, r"it draws from np\.random \(look at DrawingRarely"),
        (DrawingFromARandomState, r"it draws from DrawingFromARandomState\.rng"),
        (Ticking, r"call \d+ of \d+, .*mul"),
    ],
)
def test_the_warning_says_what_differed(backend, kind, what):
    if backend.name not in COMPILED:
        pytest.skip("its step always runs as it is")
    _, told = _fitted(backend, kind(), True, steps=2)
    assert len(told) == 1
    with pytest.warns(RuntimeWarning, match=what):
        warnings.warn(told[0], RuntimeWarning, stacklevel=1)


class Varying(Layer):
    """A layer that does one of two things, in turns that nothing shows."""

    def __init__(self, *forms):
        self.forms = forms

    def forward(self, params, x):
        return self.forms[next(TURNS) % 2](x), None

    def backward(self, params, residuals, dy):
        return dy, {}


@pytest.mark.parametrize(
    ("forms", "what"),
    [
        ([lambda x: x * 2.0, lambda x: x + 2.0], "is (multiply|mul) the first time and add the"),
        ([lambda x: x * 2.0, lambda x: x * 2.0 * 2.0], "."),
        (
            [lambda x: x * 0.0, lambda x: x * -0.0],
            r"has .*0\..* the first time and .*0\..* the second",
        ),
        ([lambda x: x * 2.0, lambda x: x], "."),
        (
            [lambda x: x * namespace(x).ones(1, dtype=x.dtype), lambda x: x * (x[:1, :] * 0 + 1)],
            ".",
        ),
        ([lambda x: x[::-1, :] * 1.5, lambda x: x[:, ::-1] * 1.5], "."),
    ],
)
@pytest.mark.parametrize("xp", ["numpy", pytest.param("jax", marks=pytest.mark.needs("jax"))])
def test_every_difference_is_seen(xp, forms, what):
    if xp == "numpy" and "ones" in forms[0].__code__.co_names:
        forms[0] = lambda x: x * np.ones(1, "float32")
    net, opt = ap.Sequential(ap.Affine(4, K), Varying(*forms)), ap.SGD()
    params = net.init(8, xp=xp)
    x = ap.from_host(np.ones((5, 4), "float32"), xp)
    t = ap.from_host(np.zeros(5, "int64"), xp)
    step = ap.compile(ap.make_step(net, ap.SoftmaxCrossEntropy(), opt))
    with pytest.warns(RuntimeWarning, match=f"not the same: .*{what}"):
        step(params, opt.init(params), x, t)


def _as(dtype):
    return lambda x: namespace(x).astype(x, getattr(namespace(x), dtype))


DIFFERENCES = {
    "the number of calls": (
        [lambda x: x * 2.0, lambda x: x * 2.0 * 2.0],
        "it makes 1 calls the first time and 2 the second",
    ),
    "dtypes of results": (
        [_as("float64"), _as("float16")],
        "float64.* the first time and .*float16",
    ),
    "shapes of constants": (
        [lambda x: x * np.ones(1, "float32"), lambda x: x * np.ones((1, 1), "float32")],
        ".",
    ),
    "constants": (
        [lambda x: x + np.float32([1, 1, 1, 1]), lambda x: x + np.float32([1, 2, 1, 1])],
        r"has the constant .*1\., 1\..* the first time and the constant .*1\., 2\..* the second",
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_first_difference_of_two_recordings_is_said(name):
    forms, what = DIFFERENCES[name]
    x = Recording.given(np.ones((5, 4), "float32"))

    def recorded(form):
        with Recording() as recording:
            result = form(x)
        return recording.calls, result

    assert program.difference(recorded(forms[0]), recorded(forms[0])) is None
    assert re.search(what, program.difference(*map(recorded, forms)))


def _drawing(seed):
    import jax

    key = jax.random.key(seed)
    return lambda x: x * jax.random.uniform(key, x.shape, "float32")


def _branching(factor):
    import jax

    return lambda x: jax.lax.cond(x[0, 0] > 0.0, lambda: x * factor, lambda: x)


def _of_primitives(*shapes):
    """Return forms that call a primitive whose result has the shape that a function says."""
    from jax.extend.core import Primitive

    primitive = Primitive("own")
    primitive.def_abstract_eval(lambda x, *, shape: x.update(shape=shape()))
    return [lambda x, s=s: primitive.bind(x, shape=lambda: s) for s in shapes]


JAX_DIFFERENCES = {
    "keys": (
        lambda: [_drawing(3), _drawing(4)],
        r"has the constant .*3\].* and the constant .*4\].* the second",
    ),
    "branches": (lambda: [_branching(2.0), _branching(3.0)], "cond: branches is"),
    "results of a user's primitive": (
        lambda: _of_primitives((5, 4), (4, 5)),
        "has a result of another shape the second time",
    ),
}


@pytest.mark.needs("jax")
@pytest.mark.parametrize("name", [*DIFFERENCES, *JAX_DIFFERENCES])
def test_the_first_difference_of_what_jax_traces_is_said(name):
    import jax

    forms, what = DIFFERENCES.get(name) or JAX_DIFFERENCES[name]
    forms = forms() if callable(forms) else forms
    x = jax.numpy.ones((5, 4), "float32")

    def traced(form):
        return jax.make_jaxpr(lambda x: form(x))(x)

    assert jaxprs.difference(traced(forms[0]), traced(forms[0])) is None
    assert re.search(what, jaxprs.difference(*map(traced, forms)))


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("the number of calls", r"is output the first time and aten\.mul.* the second"),
        ("dtypes of results", "has .* the first time and .* the second"),
    ],
)
def test_the_first_difference_of_what_pytorch_traces_is_said(name, what):
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from anyprop.compiled.on_torch import difference

    forms, _ = DIFFERENCES[name]
    first, second, again = (make_fx(form)(torch.ones((5, 4))) for form in (*forms, forms[0]))
    assert re.search(what, difference(first, second))
    assert difference(first, again) is None


@dataclass(frozen=True)
class DrawingLoss(ap.SoftmaxCrossEntropy):
    def backward(self, residuals, dvalue=1.0):
        return super().backward(residuals, dvalue * (1.0 + np.random.rand()))


@dataclass(frozen=True)
class CountingRule(ap.SGD):
    def rule(self, xp):
        LOG.append(0)
        factor = late(len(LOG))
        return lambda p, g, lr, **others: (p - lr * factor * g,)


@dataclass(frozen=True)
class Skipping(ap.SGD):
    """It leaves every second step out, and counts the steps itself."""

    def apply(self, params, grads, slots, mask, numbers):
        LOG.append(0)
        updated, slots = super().apply(params, grads, slots, mask, numbers)
        return (updated if len(LOG) % 2 else params), slots

    def update(self, params, grads, state, **options):
        slots, mask, numbers = state.slots, state.decay_mask, self.numbers(state)
        params, slots = self.apply(params, grads, slots, mask, numbers)
        return params, state._replace(step=state.step + 1, slots=slots)


@dataclass(frozen=True)
class SkippingByTheState(ap.SGD):
    """It leaves every second step out, by the state's count of steps."""

    def numbers(self, state):
        lr, _ = super().numbers(state)
        lr = lr * (state.step % 2)
        return lr, {"lr": lr}


def test_what_follows_from_the_count_of_steps_is_computed_on_the_host(backend):
    results = [
        _fitted(backend, ap.ReLU(), compile, epochs=3, optimizer=SkippingByTheState(0.1))
        for compile in (True, False)
    ]
    (ours, told), (theirs, _) = results
    np.testing.assert_allclose(ours.history.losses, theirs.history.losses, rtol=1e-6)
    assert not told


@pytest.mark.parametrize(
    "made",
    [{"loss": DrawingLoss()}, {"optimizer": CountingRule(0.1)}, {"optimizer": Skipping(0.1)}],
    ids=["loss", "rule", "count"],
)
def test_losses_and_optimizers_too(backend, made):
    results = []
    for compile in (True, False):
        np.random.seed(4)
        LOG.clear()
        results.append(_fitted(backend, ap.ReLU(), compile, epochs=3, **made))
    (ours, told), (theirs, _) = results
    _assert_equal(backend, ours, theirs)
    assert len(told) == (backend.name in COMPILED)


@dataclass(frozen=True)
class Halving(ap.SGD):
    """It does half of each update, by `update` alone, which no compiled step calls."""

    def update(self, params, grads, state, **options):
        updated, state = super().update(params, grads, state)
        return params.replace(flat=0.5 * (params.flat + updated.flat)), state


@dataclass(frozen=True)
class HalvingAndClipping(Halving):
    def apply(self, params, grads, slots, mask, numbers):
        grads = grads.replace(flat=namespace(grads.flat).clip(grads.flat, -0.1, 0.1))
        return super().apply(params, grads, slots, mask, numbers)


@pytest.mark.parametrize("kind", [Halving, HalvingAndClipping])
def test_an_update_of_its_own_is_done_as_it_is_written(backend, kind):
    results = [
        _fitted(backend, ap.ReLU(), compile, epochs=3, optimizer=kind(0.1))
        for compile in (True, False)
    ]
    (ours, told), (theirs, _) = results
    _assert_equal(backend, ours, theirs)
    reason = f"the step runs uncompiled: {kind.__name__} has an update of its own"
    assert [text.startswith(reason) for text in told] == [True] * (backend.name in COMPILED)


class Remembering(Scaling):
    """It keeps arrays of the last call, which only that call reads, and what it drew at first."""

    drawn = None

    def __init__(self):
        self.last = [None]

    def forward(self, params, x):
        if self.drawn is None:
            self.drawn = float(np.random.rand())
        self.last[0] = x
        self.x, self.kept = x, {"y": [x * self.drawn]}
        return self.kept["y"][0], None

    def backward(self, params, residuals, dy):
        return dy * self.drawn, {}


def test_what_changes_nothing_is_compiled_and_no_array_of_a_recording_is_left(backend):
    results = []
    for compile in (True, False):
        np.random.seed(4)
        results.append(_fitted(backend, layer := Remembering(), compile, epochs=2))
        if compile and backend.name in ("numpy", "jax"):
            assert vars(layer) == {"drawn": layer.drawn, "last": [None]}
    assert layer.drawn == np.random.RandomState(4).rand()
    (ours, told), (theirs, _) = results
    assert not told
    np.testing.assert_allclose(ours.history.losses, theirs.history.losses, rtol=1e-5)


def test_nothing_changes_when_a_step_cannot_be_recorded(backend):
    class Peeking(Counting):
        def factor(self):
            return super().factor() + random.random()

        def forward(self, params, x):
            y, residuals = super().forward(params, x)
            return (y if float(y[0, 0]) < 1e9 else x), residuals

    results = []
    for compile in (True, False):
        random.seed(1)
        results.append(_fitted(backend, Peeking(), compile, epochs=2)[0])
    _assert_equal(backend, *results)


@pytest.mark.parametrize("case", [*LAYER_CASES, *LOSS_CASES], ids=str)
def test_a_layer_or_loss_of_ours_hides_nothing(case):
    net = case.layer if hasattr(case, "layer") else ap.MLP([4, K])
    loss = case.loss if hasattr(case, "loss") else ap.SoftmaxCrossEntropy()
    step = ap.make_step(net, loss, ap.SGD())
    net.init()  # after which it knows its layout
    assert is_ours(step)
    assert is_constant(step)


@pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)
def test_an_optimizer_of_ours_hides_nothing(opt):
    assert is_ours(ap.make_step(ap.MLP([4, K]), ap.SoftmaxCrossEntropy(), opt))


def test_whatever_is_the_user_s_is_looked_at():
    class Loss(ap.SoftmaxCrossEntropy):
        pass

    class Rate(ap.schedules.Schedule):
        pass

    net, loss = ap.MLP([4, K]), ap.SoftmaxCrossEntropy()
    warm = ap.schedules.Warmup(3, ap.schedules.Constant(0.1))
    assert is_ours(ap.make_step(net, loss, ap.SGD(warm)))
    own = [
        ap.make_step(ap.Sequential(ap.Affine(4, K), Counting()), loss, ap.SGD()),
        ap.make_step(ap.Residual(ap.Sequential(Counting())), loss, ap.SGD()),
        ap.make_step(net, Loss(), ap.SGD()),
        ap.make_step(net, loss, ap.SGD(lambda step: 0.1)),
        ap.make_step(net, loss, ap.SGD(Rate())),
        ap.make_step(net, loss, ap.SGD(GENERATOR.random)),
        ap.make_step(net, loss, ap.SGD(lr=ap.schedules.Warmup(3, Rate()))),
    ]
    assert [is_ours(step) for step in own] == [False] * len(own)


def _width(case):
    return case.layer.output_shape((1, case.d))[1]


def _targets(rng, n, k):
    return rng.integers(0, k, n)


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    ("net", "loss", "opt", "t"),
    [
        *(
            pytest.param(
                ap.Sequential(ap.Affine(4, case.d), case.layer, ap.Affine(_width(case), K)),
                *(ap.SoftmaxCrossEntropy(), ap.SGD(), _targets),
                id=str(case),
            )
            for case in LAYER_CASES
        ),
        *(
            pytest.param(ap.MLP([4, 5, K]), case.loss, ap.SGD(), case.t, id=str(case))
            for case in LOSS_CASES
        ),
        *(
            pytest.param(ap.MLP([4, 5, K]), ap.SoftmaxCrossEntropy(), opt, _targets, id=name)
            for name, opt in OPTIMIZER_CASES.items()
        ),
    ],
)
def test_ours_are_traced_to_the_same_by_jax(net, loss, opt, t, rng, monkeypatch):
    import jax

    # a step of ours alone is not compared; with a layer of the user's beside them all of them are
    monkeypatch.setattr("anyprop.repeatable.twice.is_ours", lambda step: False)

    from anyprop.repeatable.jaxprs import traced_twice

    params = net.init(8, xp="jax")
    x = rng.standard_normal((6, 4)).astype("float32")
    given = [ap.from_host(array, "jax") for array in (x, t(rng, 6, K))]
    step = ap.make_step(net, loss, opt)
    jax.eval_shape(
        traced_twice(lambda time, *args, **options: step(*args, **options), step),
        *(params, opt.init(params), *given),
        noise=noise_beside(params, net.noise(rng, x.shape)),
    )


@pytest.mark.needs("jax")
@pytest.mark.parametrize("kind", ["array", "key"])
def test_constants_that_jax_makes_anew_are_the_same(kind):
    import jax

    class Fixed(Scaling):
        def factor(self):
            if kind == "array":
                return jax.numpy.asarray(np.full(K, np.nan, "float32"))
            return jax.random.uniform(jax.random.key(3), (K,), "float32")

    net, opt = ap.Sequential(ap.Affine(4, K), Fixed()), ap.SGD()
    params = net.init(8, xp="jax")
    x, t = (ap.from_host(a, "jax") for a in (np.ones((5, 4), "float32"), np.zeros(5, "int64")))
    ap.compile(ap.make_step(net, ap.SoftmaxCrossEntropy(), opt))(params, opt.init(params), x, t)
