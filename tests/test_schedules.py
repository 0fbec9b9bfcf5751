"""Schedules against optax and torch, on Python ints and on arrays."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from anyprop.backend import device_of, namespace
from anyprop.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseTime,
    Join,
    Linear,
    OneCycle,
    Piecewise,
    Polynomial,
    Schedule,
    StepDecay,
    Warmup,
    schedule_by_name,
)
from anyprop.schedules.registry import SCHEDULES

STEPS = range(130)

CASES: dict[str, Schedule] = {
    "constant": Constant(0.1),
    "step": StepDecay(0.1, factor=0.5, every=7),
    "exponential": Exponential(0.1, factor=0.5, every=7),
    "inverse_time": InverseTime(0.1, decay=0.3),
    "step-end": StepDecay(0.1, factor=0.5, every=7, end=0.002),
    "exponential-end": Exponential(0.1, factor=0.5, every=7, end=0.002),
    "inverse_time-end": InverseTime(0.1, decay=0.3, end=0.01),
    "linear": Linear(0.1, steps=100, end=0.01),
    "linear-from-zero": Linear(0.0, steps=100, end=0.1),
    "polynomial": Polynomial(0.1, steps=100, power=2.5, end=0.01),
    "cosine": Cosine(0.1, steps=100, end=0.01),
    "cosine-exponent": Cosine(0.1, steps=100, end=0.01, exponent=1.5),
    "cosine_restarts": CosineRestarts(0.1, steps=30, end=0.01),
    "cosine_restarts-growing": CosineRestarts(0.1, steps=10, growth=2, end=0.01),
    "one_cycle": OneCycle(0.1, steps=100),
    "piecewise": Piecewise([0.1, 0.3, 0.0], [10, 50]),
    "join": Join([Linear(0.1, steps=20), Constant(0.3), Cosine(0.2, steps=20)], [10, 50]),
    "warmup": Warmup(10, Cosine(0.1, steps=90, end=0.01)),
    "warmup-start": Warmup(10, Cosine(0.1, steps=90, end=0.01), start=0.02),
    "nested": Warmup(5, Join([InverseTime(0.1, decay=0.3), Warmup(3, Constant(0.3))], [50])),
}
every_schedule = pytest.mark.parametrize("schedule", CASES.values(), ids=CASES)


def test_every_schedule_has_a_case():
    ours = {cls for cls in Schedule.__subclasses__() if cls.__module__.startswith("anyprop.")}
    assert {type(schedule) for schedule in CASES.values()} == ours


@every_schedule
def test_an_int_gives_a_float(schedule):
    for step in (0, 3, np.int64(3), 10**9):
        lr = schedule(step)
        assert type(lr) is float
        assert 0.0 <= lr <= 0.3
    assert schedule(3) == schedule(np.int64(3))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@every_schedule
def test_an_array_gives_an_array_beside_it(backend, schedule, dtype):
    for number in (0, 9, 10, 50, 99, 100, 129, 10**6):
        step = backend.asarray(np.asarray(number), dtype)
        lr = schedule(step)
        assert namespace(lr) is namespace(step)
        assert device_of(lr) == device_of(step)
        assert lr.shape == ()
        assert str(lr.dtype).endswith("float64")
        assert float(lr) == pytest.approx(schedule(number), rel=1e-14, abs=1e-17)


@pytest.mark.needs("jax")
@every_schedule
def test_jit_equals_python(schedule):
    import jax

    jitted = jax.jit(schedule)
    for step in STEPS:
        assert float(jitted(step)) == pytest.approx(schedule(step), rel=1e-13, abs=1e-17)


@pytest.mark.needs("jax")
@every_schedule
def test_jax_without_64_bits_computes_in_float32(schedule):
    import jax

    jax.config.update("jax_enable_x64", False)
    try:
        lr = jax.jit(schedule)(60)
        assert lr.dtype == "float32"
        assert float(lr) == pytest.approx(schedule(60), rel=1e-5)
    finally:
        jax.config.update("jax_enable_x64", True)


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(0.1), lambda o: o.constant_schedule(0.1)),
        (
            StepDecay(0.1, factor=0.5, every=7),
            lambda o: o.exponential_decay(0.1, 7, 0.5, staircase=True),
        ),
        (Exponential(0.1, factor=0.5, every=7), lambda o: o.exponential_decay(0.1, 7, 0.5)),
        (
            StepDecay(0.1, factor=0.5, every=7, end=0.002),
            lambda o: o.exponential_decay(0.1, 7, 0.5, staircase=True, end_value=0.002),
        ),
        (
            Exponential(0.1, factor=0.5, every=7, end=0.002),
            lambda o: o.exponential_decay(0.1, 7, 0.5, end_value=0.002),
        ),
        (
            Exponential(0.001, factor=2.0, every=7, end=0.3),
            lambda o: o.exponential_decay(0.001, 7, 2.0, end_value=0.3),
        ),
        (Linear(0.1, steps=100, end=0.01), lambda o: o.linear_schedule(0.1, 0.01, 100)),
        (Linear(0.0, steps=100, end=0.1), lambda o: o.linear_schedule(0.0, 0.1, 100)),
        (
            Polynomial(0.1, steps=100, power=2.5, end=0.01),
            lambda o: o.polynomial_schedule(0.1, 0.01, 2.5, 100),
        ),
        (
            Cosine(0.1, steps=100, end=0.01, exponent=1.5),
            lambda o: o.cosine_decay_schedule(0.1, 100, 0.1, exponent=1.5),
        ),
        (
            Warmup(10, Cosine(0.1, steps=90, end=0.01), start=0.02),
            lambda o: o.warmup_cosine_decay_schedule(0.02, 0.1, 10, 100, 0.01),
        ),
        (Cosine(0.1, steps=100, end=0.01), lambda o: o.cosine_decay_schedule(0.1, 100, 0.1)),
        (
            Piecewise([0.1, 0.3, 0.003], [10, 50]),
            lambda o: o.piecewise_constant_schedule(0.1, {10: 3.0, 50: 0.01}),
        ),
        (
            Warmup(10, Cosine(0.1, steps=90, end=0.01)),
            lambda o: o.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100, 0.01),
        ),
        (
            Warmup(10, Exponential(0.1, factor=0.5, every=7)),
            lambda o: o.warmup_exponential_decay_schedule(0.0, 0.1, 10, 7, 0.5),
        ),
        (
            Join([Linear(0.1, steps=20), Constant(0.3), Cosine(0.2, steps=20)], [10, 50]),
            lambda o: o.join_schedules(
                [
                    o.linear_schedule(0.1, 0.0, 20),
                    o.constant_schedule(0.3),
                    o.cosine_decay_schedule(0.2, 20),
                ],
                [10, 50],
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Schedule) else "",
)
def test_optax(ours, theirs):
    import optax

    expected = theirs(optax.schedules)
    for step in STEPS:
        assert ours(step) == pytest.approx(float(expected(step)), rel=1e-12, abs=1e-15), step


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("ours", "theirs", "steps"),
    [
        (StepDecay(0.1, factor=0.5, every=7), lambda s, o: s.StepLR(o, 7, 0.5), 130),
        (Exponential(0.1, factor=0.9), lambda s, o: s.ExponentialLR(o, 0.9), 130),
        (
            Linear(0.1, steps=100, end=0.01),
            lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=100),
            130,
        ),
        (
            Cosine(0.1, steps=100, end=0.01),
            lambda s, o: s.CosineAnnealingLR(o, 100, eta_min=0.01),
            101,  # it rises again afterwards
        ),
        (
            CosineRestarts(0.1, steps=30, end=0.01),
            lambda s, o: s.CosineAnnealingWarmRestarts(o, 30, eta_min=0.01),
            130,
        ),
        (
            CosineRestarts(0.1, steps=10, growth=2, end=0.01),
            lambda s, o: s.CosineAnnealingWarmRestarts(o, 10, 2, eta_min=0.01),
            130,
        ),
        (
            Polynomial(0.1, steps=100, power=2.0),
            lambda s, o: s.PolynomialLR(o, 100, 2.0),
            130,
        ),
        (
            InverseTime(0.1, decay=0.3),
            lambda s, o: s.LambdaLR(o, lambda step: 1 / (1 + 0.3 * step)),
            130,
        ),
        (
            OneCycle(0.1, steps=100),
            lambda s, o: s.OneCycleLR(o, 0.1, total_steps=100, cycle_momentum=False),
            100,
        ),
        (
            OneCycle(0.1, steps=47, rise=0.45, start_factor=0.5, end_factor=0.05),
            lambda s, o: s.OneCycleLR(
                o,
                0.1,
                total_steps=47,
                pct_start=0.45,
                div_factor=2.0,
                final_div_factor=10.0,
                cycle_momentum=False,
            ),
            47,
        ),
        (
            Piecewise([0.1, 0.05, 0.025], [10, 50]),
            lambda s, o: s.MultiStepLR(o, [10, 50], gamma=0.5),
            130,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Schedule) else "",
)
def test_torch(ours, theirs, steps):
    import torch

    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = theirs(torch.optim.lr_scheduler, opt)
    for step in range(steps):
        expected = scheduler.get_last_lr()[0]
        assert ours(step) == pytest.approx(expected, rel=1e-12), step
        opt.step()
        if step + 1 < steps:
            scheduler.step()


@pytest.mark.parametrize("step", [10**4, 2**53, 10**300])
def test_no_step_is_too_large(step):
    for rising in (Exponential, StepDecay):
        assert rising(0.1, factor=2.0, every=1, end=0.7)(step) == 0.7
        assert rising(0.1, factor=2.0, every=1)(step) == math.inf  # which optimizers refuse
    assert InverseTime(0.1, decay=1e10)(step) < 1e-14


@every_schedule
def test_a_step_that_none_can_be_is_refused(schedule):
    for step in (-1, -0.5, math.nan, math.inf, 10**400):
        with pytest.raises(ValueError, match=f"{type(schedule).__name__}: step "):
            schedule(step)


def test_what_has_ended_stays_at_its_end():
    for step in (100, 101, 10**9):
        assert Linear(0.1, steps=100, end=0.01)(step) == pytest.approx(0.01, rel=1e-15)
        assert Cosine(0.1, steps=100, end=0.01)(step) == 0.01
        assert Cosine(0.1, steps=100)(step) == 0.0
        assert OneCycle(0.1, steps=100)(step) == OneCycle(0.1, steps=100)(99)


@pytest.mark.parametrize("growth", [1, 2, 3, 10])
@pytest.mark.parametrize("steps", [1, 3, 7, 1000])
def test_restarts_begin_exactly_where_a_cycle_ends(steps, growth):
    schedule, start, length = CosineRestarts(0.1, steps=steps, growth=growth), 0, steps
    while start < 10**6 and start < 20 * steps * growth**2:
        assert schedule(start) == 0.1, start
        assert schedule(start + length - 1) == Cosine(0.1, steps=length)(length - 1)
        start, length = start + length, length * growth


def test_values_by_hand():
    assert Cosine(0.1, steps=100, exponent=3.0)(50) == pytest.approx(0.1 / 8)
    assert Polynomial(0.1, steps=100, power=2.0, end=0.02)(50) == pytest.approx(0.02 + 0.08 / 4)
    assert Warmup(10, Constant(0.1), start=0.02)(5) == pytest.approx(0.06)
    assert Linear(0.0, steps=10, end=0.1)(5) == pytest.approx(0.05)
    assert StepDecay(0.1, factor=0.1, every=1, end=0.005)(9) == 0.005
    assert Exponential(0.1, factor=10.0, end=2.0)(5) == 2.0
    assert InverseTime(0.1, decay=1.0, end=0.02)(99) == 0.02


def test_options_at_their_defaults_are_not_shown():
    assert repr(Cosine(0.1, steps=100)) == "Cosine(lr=0.1, steps=100)"
    assert repr(Warmup(5, Constant(0.1))) == "Warmup(steps=5, then=Constant(lr=0.1))"
    for schedule in CASES.values():
        assert eval(repr(schedule)) == schedule


def test_a_schedule_may_show_itself_in_its_own_way():
    class Own(Constant):
        def __repr__(self):
            return "as it likes"

    assert repr(Own(0.1)) == "as it likes"


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_one_cycle_survives_few_steps(steps):
    values = [OneCycle(0.1, steps=steps)(step) for step in range(steps + 2)]
    assert all(0.0 < value <= 0.1 for value in values)
    assert values[-1] == pytest.approx(0.1 / 250_000)
    assert max(values) > 0.05


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_name_makes_a_schedule_for_the_whole_run(name):
    for steps in (1, 2, 1000):
        schedule = schedule_by_name(name, 0.1, steps)
        values = [schedule(step) for step in range(steps)]
        assert max(values) <= 0.1
        assert min(values) >= 0.0
        assert values[0] == pytest.approx(0.004 if name == "one_cycle" and steps > 3 else 0.1)
    ends = {
        "constant": 0.1,
        "step": 0.001,
        "exponential": 0.001,
        "linear": 0.0,
        "cosine": 0.0,
        "one_cycle": 4e-7,
    }
    assert schedule(999) == pytest.approx(ends[name], rel=0.01, abs=2e-4 if not ends[name] else 0)


def test_an_unknown_name_gets_the_nearest_match():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        schedule_by_name("cosin", 0.1, 100)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, not 0"):
        schedule_by_name("constant", 0.1, 0)
    with pytest.raises(ValueError, match="lr must be a positive finite number, not nan"):
        schedule_by_name("cosine", math.nan, 100)


def _wrong():
    for schedule in CASES.values():
        kind = type(schedule)
        for field in dataclasses.fields(schedule):
            name, value = field.name, getattr(schedule, field.name)
            if value is None:
                continue  # another case sets it
            if isinstance(value, int):
                bad = [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, ValueError)]
            elif isinstance(value, float):
                bad = [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError)]
                bad += [("0.1", TypeError), (True, TypeError)]
                bad += [] if field.default is None else [(None, TypeError)]
                may_be_0 = ("end", "rise", "start")
                if name not in may_be_0 + (("lr",) if kind in (Linear, Polynomial) else ()):
                    bad.append((0.0, ValueError))
            elif isinstance(value, Schedule):
                bad = [(0.1, TypeError), (Constant, TypeError), (lambda step: 0.1, TypeError)]
            else:
                bad = [(None, TypeError), ("12", TypeError), ([], ValueError), (3, TypeError)]
                bad += [([None, None, None], TypeError)]
            for wrong, error in bad:
                # A function's repr holds its address, which differs between the workers of a run.
                shown = getattr(wrong, "__name__", wrong)
                yield pytest.param(
                    schedule, name, wrong, error, id=f"{kind.__name__}-{name}-{shown}"
                )


@pytest.mark.parametrize(("schedule", "name", "wrong", "error"), list(_wrong()))
def test_wrong_parameters_raise_and_are_named(schedule, name, wrong, error):
    with pytest.raises(error, match=rf"{type(schedule).__name__}: .*{name}"):
        dataclasses.replace(schedule, **{name: wrong})


@pytest.mark.parametrize("make", [Piecewise, Join])
def test_boundaries_must_rise_and_fit(make):
    pieces = [0.1, 0.2, 0.3] if make is Piecewise else [Constant(0.1)] * 3
    for boundaries in ([5, 5], [7, 5]):
        with pytest.raises(ValueError, match="boundaries must rise"):
            make(pieces, boundaries)
    for boundaries in ([5], [5, 6, 7]):
        with pytest.raises(ValueError, match="3 .* need 2 boundaries, not"):
            make(pieces, boundaries)


def test_the_base_class_has_no_formula():
    with pytest.raises(NotImplementedError):
        Schedule()(0)
