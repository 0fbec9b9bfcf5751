"""A rule is one formula for arrays, for numbers in a compiled loop, and for one CUDA kernel."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re

import numpy as np
import pytest

import anyprop as ap
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

every_optimizer = pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)


def inputs(opt, dtype, rng):
    """Return p, g and the slots for a few steps' worth of entries; zeros and both signs among them."""
    size = 40
    p, g = rng.standard_normal(size), rng.standard_normal(size) * np.geomspace(1e-6, 1e3, size)
    g[::7] = 0.0
    slots = []
    for name, initial in opt.slots().items():
        slot = rng.standard_normal(size)
        signed = name in ("m", "prev") or (name == "v" and not _is_mean_of_squares(opt))
        slots.append(0.0 if initial is None else slot if signed else slot**2)
    return [p.astype(dtype), g.astype(dtype)], [
        slot if isinstance(slot, float) else slot.astype(dtype) for slot in slots
    ]


def _is_mean_of_squares(opt):
    return "m" in opt.slots()


@every_optimizer
def test_the_signature_names_the_slots_and_the_scalars_in_order(opt):
    parameters = inspect.signature(opt.rule(np)).parameters
    assert list(parameters) == ["p", "g", *opt.slots(), *opt.scalars(1, 0.1)]
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@every_optimizer
def test_a_slot_that_is_left_out_comes_back_as_it_went_in(opt, rng):
    arrays, slots = inputs(opt, "float64", rng)
    _, *returned = opt.rule(np)(*arrays, *slots, **opt.scalars(3, 0.1))
    assert len(returned) == len(slots)
    for initial, new in zip(opt.slots().values(), returned, strict=True):
        assert (initial is None) == (isinstance(new, float) and new == 0.0)


@every_optimizer
def test_results_do_not_share_memory_with_arguments(opt, rng):
    """Otherwise a gradient that is written to later would change the state."""
    arrays, slots = inputs(opt, "float64", rng)
    results = opt.rule(np)(*arrays, *slots, **opt.scalars(3, 0.1))
    for given in (*arrays, *slots):
        for result in results:
            assert not np.may_share_memory(given, result) or isinstance(given, float)


def with_constants(opt, number):
    """Make the optimizer whose rule closes over numbers of a dtype: a float is float64 to numba."""
    typed = dataclasses.replace(opt)
    for field in dataclasses.fields(opt):
        if type(getattr(opt, field.name)) is float:
            object.__setattr__(typed, field.name, number(getattr(opt, field.name)))
    return typed


@every_optimizer
def test_only_what_depends_on_the_step_is_a_scalar(opt):
    """What is constant is closed over, as a Python float that no array's dtype yields to."""
    by_option = {"eps"} if hasattr(opt, "eps_before_correction") else set()
    constant = {field.name for field in dataclasses.fields(opt)} - {"lr"} - by_option
    assert not constant & opt.scalars(1, 0.1).keys()
    closed_over = [cell.cell_contents for cell in opt.rule(np).__closure__ or ()]
    assert {type(x) for x in closed_over if not callable(x)} <= {float, bool}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_numba_compiles_the_rule_for_numbers(opt, dtype, rng):
    from numba import njit

    number = np.dtype(dtype).type
    rule = with_constants(opt, number).rule(np)
    compiled = njit(error_model="numpy")(rule)
    for t in (1, 50):
        arrays, slots = inputs(opt, dtype, rng)
        scalars = opt.scalars(t, 0.1)
        expected = rule(*arrays, *slots, **scalars)
        entries = [
            compiled(
                *(number(a[i]) for a in arrays),
                *(slot if isinstance(slot, float) else number(slot[i]) for slot in slots),
                *(number(scalar) for scalar in scalars.values()),
            )
            for i in range(arrays[0].size)
        ]
        for found, array in zip(zip(*entries, strict=True), expected, strict=True):
            if isinstance(array, np.ndarray):
                assert array.dtype == dtype
                found = np.asarray([float(x) for x in found]).astype(dtype)
                np.testing.assert_array_max_ulp(found, array, maxulp=1)


if importlib.util.find_spec("cupy") is not None:

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @every_optimizer
    def test_cupy_fuses_the_rule_into_one_kernel_of_the_same_dtype(opt, dtype):
        """Trace it, on addresses that nothing is read from; only the launch needs a GPU."""
        import cupy

        def stand_in():
            memory = cupy.cuda.UnownedMemory(1 << 40, 1 << 20, cupy, 0)
            return cupy.ndarray((8,), dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

        array = cupy.zeros(8, dtype) if cupy.is_available() else stand_in()
        fused = cupy.fuse(opt.rule(cupy))
        slots = [0.0 if initial is None else array for initial in opt.slots().values()]
        try:
            fused(array, array, *slots, *opt.scalars(3, 0.1).values())
        except cupy.cuda.runtime.CUDARuntimeError:
            assert not cupy.is_available()
        ((kernel, _),) = fused._memo.values()
        types = set(re.findall(r"static_cast<\s*(\w+)\s*>", kernel.operation))
        assert types - {"bool"} == {{"float32": "float", "float64": "double"}[dtype]}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bias_correction", [False, True])
def test_corrected_means_of_a_steady_gradient_are_the_gradients(centered, bias_correction):
    """The mean of its squares is 4, its variance 0: so large is what it is divided by."""
    opt = ap.RMSProp(
        lr=0.5, rho=0.9, eps=1.0, centered=centered, bias_correction=bias_correction
    )  # fmt: skip
    p, g = np.asarray([0.0, 0.0]), np.asarray([2.0, -2.0])
    state = opt.init(p)
    steps = []
    for _ in range(4):
        before = p
        p, state = opt.update(p, g, state)
        steps.append(p - before)
    steady = -0.5 * g / ((0.0 if centered else 2.0) + 1.0)
    assert np.allclose(steps, steady, rtol=1e-6, atol=1e-6) == bias_correction


@pytest.mark.parametrize("make", [ap.RAdam, ap.NAdam], ids=["RAdam", "NAdam"])
@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_a_step_counted_in_an_array_gives_the_same_numbers_there(make, device):
    xp = importlib.import_module("array_api_strict")
    opt, where = make(beta2=0.99), xp.Device(device)
    for t in (1, 2, 5, 6, 7, 50, 1000):
        expected = opt.scalars(t, 0.1)
        found = opt.scalars(xp.asarray(float(t), dtype=xp.float64, device=where), 0.1)
        of_t = {name for name, value in found.items() if hasattr(value, "device")}
        assert {found[name].device for name in of_t} == {where}
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def test_flags_of_rmsprop_are_flags():
    with pytest.raises(TypeError, match="RMSProp: centered must be"):
        ap.RMSProp(centered="yes")


def test_a_smallest_step_as_large_as_the_largest_is_refused():
    with pytest.raises(ValueError, match="step_min must be below step_max"):
        ap.Rprop(step_min=0.5, step_max=0.5)


@pytest.mark.parametrize("clip", ["clip_norm", "clip_global_norm"])
def test_nothing_to_train_has_no_norm_to_clip(clip):
    p, opt = np.asarray([], "float32"), ap.SGD(**{clip: 1.0})
    moved, _ = opt.update(p, p, opt.init(p))
    assert moved.shape == (0,)


def test_a_learning_rate_in_the_velocity_scales_the_step_once():
    p, opt = np.asarray([1.0, -2.0]), ap.Momentum(lr=0.25, lr_in_velocity=True)
    moved, _ = opt.update(p, np.asarray([4.0, 8.0]), opt.init(p))
    np.testing.assert_array_equal(moved, [0.0, -4.0])
