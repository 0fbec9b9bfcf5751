"""Many steps in a call on JAX are those of the step, and no vector is copied between two of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled import on_jax
from anyprop.compiled.compile import compiled_loop
from anyprop.compiled.namespace import is_elementwise
from anyprop.layers.base import Layer
from anyprop.layout import Spec
from anyprop.repeatable import jaxprs
from anyprop.step import Step
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

pytestmark = pytest.mark.needs("jax")
NET, LOSS = ap.MLP([4, 5, K]), ap.SoftmaxCrossEntropy()
ROWS = [np.arange(20)[first : first + 6].astype("int32") for first in (0, 6, 12, 3, 9)]
CLIPPED = {
    "weight_decay": 0.1,
    "decay_biases": False,
    "clip_value": 0.05,
    "clip_norm": 0.1,
    "clip_global_norm": 0.1,
}


@pytest.fixture(autouse=True)
def in_parts(monkeypatch):
    """Compute small networks as large ones are."""
    monkeypatch.setattr("anyprop.compiled.on_jax.LARGE", 0)


def _data(net):
    rng = np.random.default_rng(0)
    k = net.output_shape((1, net.width_in))[1]
    x, t = rng.standard_normal((20, net.width_in)).astype("float32"), rng.integers(0, k, 20)
    weight = rng.random(20).astype("float32")
    return {"x": x, "t": t, "sample_weight": weight}


def _assert_equal(step, net, *, like="numpy"):
    """Compare many at once, in calls of different lengths, with the step itself."""
    host, ours, theirs = _data(net), net.init(8, xp="jax"), net.init(8, xp=like)
    beside = {name: ap.from_host(array, "jax") for name, array in host.items()}
    loop, losses = compiled_loop(step, ap.get_namespace("jax"), 3), []
    ours, state = (ours, step.optimizer.init(ours)), step.optimizer.init(theirs)
    for call in (ROWS[:3], ROWS[3:]):
        *ours, values = loop(*ours, beside, call)
        losses += values
    for rows, loss in zip(ROWS, losses, strict=True):
        batch = {name: ap.from_host(array[rows], like) for name, array in host.items()}
        theirs, state, value = step(theirs, state, **batch)
        np.testing.assert_allclose(loss, value, rtol=1e-5)
    pairs = [(ours[0].flat, theirs.flat), (ours[0].running, theirs.running)]
    pairs += [(ours[1].slots[name].flat, slot.flat) for name, slot in state.slots.items()]
    for a, b in pairs:
        assert (a is None) == (b is None)
        if b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    assert ours[1].step == state.step


@pytest.mark.parametrize("case", [c for c in LAYER_CASES if c.layer.specs()], ids=str)
def test_every_network(case):
    net = case.layer
    if net.noise(np.random.default_rng(0), (1, net.width_in)) is None:
        _assert_equal(ap.make_step(net, LOSS, ap.RMSProp()), net)


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
def test_every_optimizer(name):
    _assert_equal(ap.make_step(NET, LOSS, replace(OPTIMIZER_CASES[name], **CLIPPED)), NET)


def test_networks_in_networks_and_parts_of_batches():
    net = ap.Sequential(ap.MLP([4, 5, 6], norm="batch"), ap.ReLU(), ap.MLP([6, K]))
    _assert_equal(ap.make_step(net, LOSS, ap.Adam(), accumulate=2), net)
    _assert_equal(ap.make_step(net, LOSS, ap.Adam(clip_norm=0.1)), net)


@dataclass(frozen=True)
class Counted(Layer):
    """A layer that has nothing to train, and two running statistics."""

    width_in = 4

    def specs(self):
        return {name: Spec((1,), 0.0, trainable=False) for name in ("rows", "calls")}

    def forward(self, params, x):
        return x, None

    def forward_train(self, params, x, noise):
        return x, (params.rows + x.shape[0], params.calls + 1.0)

    def backward(self, params, residuals, dy):
        return dy, {}

    def updated_running(self, params, residuals):
        return {"rows": residuals[0], "calls": residuals[1]}


def test_a_network_with_nothing_to_train():
    _assert_equal(ap.make_step(Counted(), LOSS, ap.Adam()), Counted())


@dataclass(frozen=True)
class OfAll(ap.SGD):
    """Divides by the largest number of a vector."""

    def rule(self, xp):
        return lambda p, g, lr: (p - lr * g / xp.max(xp.abs(g)),)


@dataclass(frozen=True)
class InJAX(ap.SGD):
    """Has a rule of functions of JAX."""

    def rule(self, xp):
        import jax

        return lambda p, g, lr: (p - lr * jax.numpy.cumsum(g),)


@dataclass(frozen=True)
class OfEach(ap.SGD):
    """Has a factor for each parameter."""

    def rule(self, xp):
        factors = xp.linspace(0.1, 1.0, 5 * 5 + 6 * K, dtype="float32")
        return lambda p, g, lr: (p - lr * factors * g,)


@dataclass(frozen=True)
class Applied(ap.SGD):
    """Brings the vector of parameters back to a norm of 1."""

    def apply(self, params, grads, slots, mask, numbers):
        params, slots = super().apply(params, grads, slots, mask, numbers)
        flat = params.flat
        return params.replace(flat=flat / params.xp.sqrt(params.xp.sum(flat * flat))), slots


@dataclass(frozen=True)
class Normed(ap.SGD):
    """Halves what is clipped."""

    def clip_norms(self, grads):
        return grads.replace(flat=grads.flat / 2.0)


@pytest.mark.parametrize("optimizer", [OfAll, InJAX, OfEach, Applied, Normed])
def test_an_optimizer_that_needs_the_whole_vector_gets_it(optimizer):
    opt = optimizer(lr=0.05, clip_norm=1.0) if optimizer is Normed else optimizer(lr=0.05)
    assert not is_elementwise(opt)
    _assert_equal(ap.make_step(NET, LOSS, opt), NET, like="jax" if optimizer is InJAX else "numpy")


def test_every_optimizer_of_the_library_is_elementwise():
    for optimizer in OPTIMIZER_CASES.values():
        assert is_elementwise(replace(optimizer, **CLIPPED)), optimizer


def test_a_gradient_of_ones_own():
    """It knows of vectors alone."""

    def gradient(params, x, t, **options):
        value = params.xp.sum(params.flat * params.flat)
        return value, ap.Parameters(params.layout, 2.0 * params.flat), None

    _assert_equal(Step(gradient, ap.Adam()), NET)
    _assert_equal(Step(gradient, ap.Adam()), ap.MLP([4, K], norm="batch"))


@dataclass(frozen=True)
class Differentiated(Layer):
    """A layer whose gradients JAX computes from its parameters as a tree."""

    inner: Layer

    def specs(self):
        return self.inner.specs()

    @property
    def width_in(self):
        return self.inner.width_in

    def output_shape(self, shape):
        return self.inner.output_shape(shape)

    def forward(self, params, x):
        import jax

        return jax.vjp(self.inner, params, x)

    def backward(self, params, residuals, dy):
        grads, dx = residuals(dy)
        return dx, grads


def test_parameters_are_a_tree_of_jax_in_a_loop_too():
    net = ap.Sequential(Differentiated(ap.MLP([4, 5, 6])), ap.ReLU(), ap.Affine(6, K))
    _assert_equal(ap.make_step(net, LOSS, ap.RMSProp()), net, like="jax")


def test_no_vector_is_copied_between_two_steps():
    """A slice of a vector is a copy to XLA, so in the loop there are arrays of their own alone."""
    import jax

    from anyprop.compiled import on_jax

    net = ap.MLP([7, 11, 13, K])
    step, params = ap.make_step(net, LOSS, ap.Adam(weight_decay=0.1, clip_value=1.0)), net.init(8)
    state = step.optimizer.init(params)
    held = on_jax._Form.of(params, apart=True)
    rows, data = (
        np.zeros((4, 6), "int32"),
        {"x": np.zeros((20, 7), "float32"), "t": np.zeros(20, int)},
    )
    table = np.ones((4, len(step.optimizer.scalars(1, 1.0)) + 1), "float32")
    many, given = (
        on_jax._many(step, held),
        (held.vectors(params, state.slots), None, 4, table, rows),
    )
    compiled = jax.jit(many).lower(0, *given, data | {"sample_weight": None}).compile()
    computations = compiled.as_text().split("\n\n")
    (body,) = [c for c in computations if " dot(" in c and "ENTRY" not in c and "arg_tuple" in c]
    assert f"f32[{params.size}]" not in body


@pytest.fixture
def asked_anew(monkeypatch):
    """Have each step compiled, and XLA asked for its option, anew in a test."""
    monkeypatch.setattr(on_jax, "is_constant", lambda step: False)
    jaxprs._lean_options.cache_clear()
    yield jaxprs._lean_options.cache_clear
    jaxprs._lean_options.cache_clear()


def test_a_step_is_the_same_where_xla_lacks_the_option_for_its_order(monkeypatch, asked_anew):
    jax = pytest.importorskip("jax")
    net, opt, jit = ap.MLP([4, 5, K]), ap.RMSProp(), jax.jit
    given = []

    def unknowing(function, *, compiler_options=None, **options):
        given.append(compiler_options)
        if compiler_options is not None:
            compiler_options = {"xla_has_no_such_option": 1}
        return jit(function, compiler_options=compiler_options, **options)

    def trained():
        asked_anew()
        params = net.init(seed=8, xp=jax.numpy)
        data = _data(net)
        step = ap.compile(ap.make_step(net, LOSS, opt))
        return step(params, opt.init(params), data["x"], data["t"])[0].flat

    expected = trained()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "jit", unknowing)
        np.testing.assert_array_equal(trained(), expected)
        assert jaxprs._lean_options() is None
    assert [options for options in given if options] == [{"xla_cpu_scheduler_type": 1}]


def test_a_step_can_be_part_of_what_jax_traces(asked_anew):
    jax = pytest.importorskip("jax")
    net, opt = ap.MLP([4, 5, K]), ap.RMSProp()
    params, host = net.init(seed=8, xp=jax.numpy), _data(net)
    x, t = (jax.numpy.asarray(host[name]) for name in ("x", "t"))

    def value(x):
        return ap.compile(ap.make_step(net, LOSS, opt))(params, opt.init(params), x, t)[2]

    expected, _ = ap.value_and_grad(net, LOSS)(params.copy(), x, t)[:2]
    np.testing.assert_allclose(jax.jit(value)(x), expected, rtol=1e-5)
