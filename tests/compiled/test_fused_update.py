"""The update as one CUDA kernel, compiled as C++ here: a GPU is needed for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop.compiled.on_cupy import FusedUpdateStep
from anyprop.distributed import SerialCommunicator, make_data_parallel_step
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

pytestmark = pytest.mark.needs("cc")
NET = ap.MLP([4, 5, 3], norm="batch")


@pytest.fixture
def kernels():
    with fake_cupy.installed(products=False) as device:
        yield device.made


def _train(opt, *, dtype="float32", steps=4, lr_scale=1.0):
    """Train with the step and with the one whose update is a kernel, from equal starts."""
    rng = np.random.default_rng(3)
    step = ap.make_step(NET, ap.SoftmaxCrossEntropy(), opt)
    fused = FusedUpdateStep(step)
    theirs = NET.init(8, dtype=dtype)
    state = opt.init(theirs)._replace(lr_scale=lr_scale)
    ours, our_state = theirs.copy(), state.copy()
    for _ in range(steps):
        x, t = rng.standard_normal((6, 4)).astype(dtype), rng.integers(0, 3, 6)
        theirs, state, wanted = step(theirs, state, x, t)
        given, slots = ours, our_state.slots
        ours, our_state, value = fused(ours, our_state, {"x": x, "t": t})
        assert ours.flat is given.flat
        assert all(our_state.slots[name] is slot for name, slot in slots.items())
        rtol = 1e-5 if dtype == "float32" else 1e-13
        close = {"rtol": rtol, "atol": rtol / 10}
        np.testing.assert_allclose(value, wanted, **close)
        np.testing.assert_allclose(ours.flat, theirs.flat, **close)
        np.testing.assert_array_equal(ours.running, theirs.running)
        for name, slot in state.slots.items():
            np.testing.assert_allclose(our_state.slots[name].flat, slot.flat, **close)
        assert our_state.step == state.step
    assert np.abs(ours.flat - NET.init(8, dtype=dtype).flat).max() > 1e-4


CLIPPED = {"clip_value": 0.05, "clip_norm": 0.1, "clip_global_norm": 0.1}


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
@pytest.mark.parametrize(
    "options",
    [{}, CLIPPED | {"weight_decay": 0.1, "decay_biases": False}],
    ids=["plain", "clipped-and-masked"],
)
def test_the_update_of_every_optimizer_is_one_kernel(name, options, kernels):
    _train(replace(OPTIMIZER_CASES[name], **options))
    (kernel,) = kernels
    assert kernel.launches == 4


def test_float64(kernels):
    _train(ap.Adam(), dtype="float64")
    assert "float " not in kernels[0].operation


@pytest.mark.parametrize("optimizer", [ap.RMSProp, ap.NAdam, ap.AdamW])
def test_schedules_and_lr_scale_are_followed_by_the_same_kernel(optimizer, kernels):
    _train(optimizer(lr=lambda step: 0.1 / (1 + step), weight_decay=0.1), lr_scale=0.5)
    assert len(kernels) == 1


@pytest.mark.parametrize("optimizer", [ap.RMSProp, ap.NAdam, ap.AdamW])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lr_in_an_array_is_read_on_the_device(optimizer, dtype, kernels):
    lr = np.asarray(0.1, dtype)
    _train(optimizer(lr=lr), steps=2)
    lr[...] = 0.01
    _train(optimizer(lr=lr), steps=2)


def test_compile_takes_it_for_arrays_of_cupy(kernels, monkeypatch):
    """Here arrays of NumPy are taken for CuPy's."""
    monkeypatch.setattr("anyprop.compiled.compile.name_of", lambda xp: "cupy")
    opt, x, t = ap.RMSProp(), np.ones((2, 4), "float32"), np.asarray([0, 1])
    params = NET.init(8)
    step = ap.make_step(NET, ap.SoftmaxCrossEntropy(), opt)
    wanted, _, _ = step(params, opt.init(params), x, t)
    needs = "needs cuBLASLt"
    with pytest.warns(RuntimeWarning, match=needs) as told:
        ours, _, _ = ap.compile(step)(params.copy(), opt.init(params), x, t)
    assert told[0].filename == __file__
    np.testing.assert_allclose(ours.flat, wanted.flat, rtol=1e-5)
    parallel = make_data_parallel_step(NET, ap.SoftmaxCrossEntropy(), opt, SerialCommunicator())
    ours, _, _ = ap.compile(parallel)(params.copy(), opt.init(params), [{"x": x, "t": t}])
    np.testing.assert_allclose(ours.flat, wanted.flat, rtol=1e-5)
    assert [kernel.launches for kernel in kernels] == [1, 1]


def test_the_state_of_another_optimizer_is_refused(kernels):
    step = FusedUpdateStep(ap.make_step(NET, ap.SoftmaxCrossEntropy(), ap.Adam()))
    params = NET.init(8)
    x, t = np.ones((2, 4), "float32"), np.asarray([0, 1])
    with pytest.raises(ValueError, match="comes from another optimizer"):
        step(params, ap.SGD().init(params), {"x": x, "t": t})


@dataclass(frozen=True)
class Sinus(ap.SGD):
    """A rule with a function that no kernel has a form for."""

    def rule(self, xp):
        return lambda p, g, lr: (p - lr * xp.sin(g),)


@dataclass(frozen=True)
class Sorting(ap.SGD):
    """A rule with a function that cannot be recorded."""

    def rule(self, xp):
        return lambda p, g, lr: (p - lr * xp.sort(g),)


@dataclass(frozen=True)
class Own(ap.SGD):
    """A rule with an array of its own."""

    def rule(self, xp):
        return lambda p, g, lr: (p - lr * np.arange(p.shape[0], dtype=p.dtype) * g,)


@dataclass(frozen=True)
class Remembering(ap.SGD):
    """A rule that returns what it was given, in another place."""

    def slots(self):
        return {"before": 0.0, "kept": 2.0}

    def rule(self, xp):
        return lambda p, g, before, kept, lr: (p - lr * (g + before) * kept, g, kept)


def test_a_slot_may_take_what_a_rule_was_given(kernels):
    _train(Remembering(lr=0.1))
    assert len(kernels) == 1


@dataclass(frozen=True)
class Twice(ap.SGD):
    """A rule whose slots take the same result."""

    def slots(self):
        return {"one": 0.0, "other": 0.0}

    def rule(self, xp):
        def rule(p, g, one, other, lr):
            mean = 0.5 * (one + g)
            return p - lr * (mean + other), mean, mean

        return rule


def test_two_slots_may_take_the_same_result(kernels):
    _train(Twice(lr=0.1))
    assert len(kernels) == 1


@pytest.mark.parametrize("opt", [Sinus(lr=0.1), Sorting(lr=0.1), Own(lr=0.1)])
def test_what_cannot_be_written_down_is_updated_as_it_is(opt, kernels):
    _train(opt)
    assert kernels == []


def test_float16_is_updated_as_it_is(kernels):
    p = NET.init(8, dtype="float32")
    p = p.replace(flat=p.flat.astype("float16"), running=p.running.astype("float16"))
    opt = ap.SGD(lr=0.1)
    step = FusedUpdateStep(ap.make_step(NET, ap.SoftmaxCrossEntropy(), opt))
    x, t = np.ones((2, 4), "float16"), np.asarray([0, 1])
    new, _, _ = step(p, opt.init(p), {"x": x, "t": t})
    assert new.flat.dtype == "float16"
    assert kernels == []
