"""How many steps a run does in one call changes nothing but the time it takes."""

import time
from dataclasses import dataclass

import numpy as np
import pytest

import anyprop as ap
from anyprop.layers.base import Layer
from anyprop.repeatable.twice import twice
from anyprop.training.pace import ManyAtOnce
from backend_cases import CASES

from .conftest import make_problem


def numbers(result):
    return [
        np.asarray(result.history.losses),
        np.asarray(result.params.flat),
        *(np.asarray(slot.flat) for slot in result.state.slots.values()),
    ]


@pytest.fixture(params=["numpy", pytest.param("jax", marks=pytest.mark.needs("jax"))])
def looping(request, monkeypatch):
    """A problem on a backend that does many steps in a call."""
    monkeypatch.setattr("anyprop.compiled.numpy_loop.PATIENCE", 0)
    return make_problem(CASES[request.param][0])


@pytest.mark.parametrize("net", [ap.MLP([4, 6, 3]), ap.MLP([4, 6, 3], norm="batch")])
@pytest.mark.parametrize("options", [{"epochs": 3}, {"steps": 13}], ids=["epochs", "steps"])
def test_however_a_run_is_divided_its_numbers_are_the_same(net, options, looping, monkeypatch):
    monkeypatch.setattr(ManyAtOnce, "moment", 60.0)
    rates = [0.03 / (1 + k) for k in range(20)]
    problem = looping.with_(
        net=net, optimizer=ap.Adam(lr=lambda k: rates[k], weight_decay=0.1, decay_biases=False)
    )
    one_by_one, *others = (
        numbers(problem.fit(report_every=many, **options)) for many in (1, 3, 100)
    )
    for other in others:
        for ours, theirs in zip(other, one_by_one, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_weights_of_examples_and_parts_of_batches_go_into_the_loop(looping):
    problem = looping
    weights = problem.backend.asarray(np.linspace(0.5, 2.0, 30))
    options = {"sample_weight": weights, "accumulate": 2, "epochs": 2}
    ours, theirs = (problem.fit(compile=compile, **options) for compile in (True, False))
    for one, other in zip(numbers(ours), numbers(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.needs("jax")
def test_a_second_run_of_an_equal_network_is_not_traced_again(monkeypatch):
    problem, traced = make_problem(*CASES["jax"]), []
    monkeypatch.setattr(
        "anyprop.repeatable.jaxprs.twice", lambda *args: traced.append(slope) or twice(*args)
    )
    for slope in (0.25, 0.25, 0.75):
        net = ap.Sequential(ap.Affine(4, 3), ap.LeakyReLU(slope))
        problem.with_(net=net, optimizer=ap.SGD(lr=0.5)).fit(epochs=2)
    assert traced.count(0.25) == traced.count(0.75) > 0


FACTOR = {"of all": 1.0}


@dataclass(frozen=True)
class Scale(Layer):
    """A layer that multiplies."""

    factor: float

    def forward(self, params, x):
        return x * (self.factor * FACTOR["of all"]), None

    def backward(self, params, residuals, dy):
        return dy * (self.factor * FACTOR["of all"]), {}


class Changing(Scale):
    """One whose factor may change between two runs."""

    __hash__ = object.__hash__

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)


class Callable(Changing):
    """One that can be called, as a schedule can."""

    __hash__ = object.__hash__

    def __call__(self, x):
        return self.forward(None, x)[0]


@pytest.mark.needs("jax")
def test_what_a_layer_reads_may_change_between_runs(monkeypatch):
    problem = make_problem(*CASES["jax"]).with_(net=ap.Sequential(ap.Affine(4, 3), Scale(0.5)))
    before = problem.fit(steps=1).history.losses
    monkeypatch.setitem(FACTOR, "of all", 3.0)
    after = problem.fit(steps=1).history.losses
    assert after != before
    assert after == pytest.approx(problem.fit(steps=1, compile=False).history.losses)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("kind", [Changing, Callable])
def test_a_layer_that_may_change_is_compiled_for_every_run(kind):
    layer = kind(0.25)
    problem = make_problem(*CASES["jax"]).with_(net=ap.Sequential(ap.Affine(4, 3), layer))
    before = problem.fit(steps=1).history.losses
    object.__setattr__(layer, "factor", 0.75)
    after = problem.fit(steps=1).history.losses
    assert after != before
    assert after == pytest.approx(problem.fit(steps=1, compile=False).history.losses)


class Clocked:
    """A run whose steps take the time that they are given."""

    def __init__(self, monkeypatch):
        self.now, self.seconds = 0.0, 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def advance_by(self, loop, data, batches):
        self.now += self.seconds * len(batches)


class Rows:
    def many(self, batches):
        return None, batches


def test_a_call_does_more_steps_until_it_takes_a_moment(monkeypatch):
    run = Clocked(monkeypatch)
    steps = ManyAtOnce(None, 100, Rows(), None)

    def settled(seconds):
        run.seconds = seconds
        for _ in range(20):
            steps.take(run, [0] * steps.at_once)
        return steps.at_once

    assert settled(1e-6) == 100
    assert settled(0.01) in range(5, 11)
    assert settled(1.0) == 1
    assert settled(0.001) in range(50, 101)
    steps.take(run, [0])  # a short rest before a report says nothing
    assert steps.at_once in range(50, 101)
