"""What the playground's examples say is so."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def walks(model):
    """Example -> its runs, each with the line of Python that the page shows for it."""
    script = """
        return Object.fromEntries(Object.keys(Playground.PRESETS).map((name) => {
            const settings = Playground.ofPreset(name);
            return [name, settings.runs.map((run) => ({
                ...run, ...Playground.run({ ...settings, ...run }), python: Playground.python(run),
                lowest: Playground.SURFACES[settings.surface].lowest }))];
        }));
    """
    return model.evaluate(script)


def height(walk, step=-1):
    return walk["heights"][step] - walk["lowest"]


def first_move(walk):
    return np.abs(walk["moves"][0])


def test_the_line_of_python_makes_the_same_optimizer(walks):
    for walk in (walk for runs in walks.values() for walk in runs):
        optimizer = eval(walk["python"], {"ap": anyprop})
        for name, value in walk["options"].items():
            assert getattr(optimizer, name) == value


def test_one_rate_three_rules(walks):
    rmsprop, adagrad, sgd = walks["three"]
    assert first_move(rmsprop) == pytest.approx(0.1 / (1.0 - 0.99) ** 0.5, rel=1e-5)
    assert first_move(adagrad) == pytest.approx(0.1, rel=1e-5)
    assert np.all(np.diff(np.abs(adagrad["moves"]), axis=0) < 0.0)
    assert height(rmsprop) < 1e-3 < 0.5 < height(sgd) < height(adagrad)
    x, y = sgd["points"][-1]
    assert abs(y) < 1e-4
    assert abs(x) > 3.0


def test_adagrad_stalls(walks):
    rmsprop, adagrad = walks["stalls"]
    assert height(rmsprop) < 0.01
    assert height(adagrad) > 1.0
    assert np.all(np.diff(adagrad["slots"]["h"], axis=0) >= 0.0)
    # at the end h still is what the first tenth of the steps left in it
    h = np.asarray(adagrad["slots"]["h"])
    assert np.all(h[50] > 0.8 * h[-1])


def test_rmsprops_first_step(walks):
    plain, shorter, corrected, started = walks["first"]
    assert first_move(plain) == pytest.approx(1.0, rel=1e-5)
    assert first_move(shorter) == pytest.approx(0.316, abs=1e-3)
    assert first_move(corrected) == pytest.approx(0.1, rel=1e-5)
    dx, dy = first_move(started)
    assert dy > 5.0 * dx  # the gradient is 0.7 in x and 4 in y


def test_the_two_step_cycle(walks):
    for walk in walks["cycle"]:
        lr = walk["options"]["lr"]
        last = np.asarray(walk["points"][-2:])
        np.testing.assert_allclose(np.abs(last), lr / 2.0, rtol=1e-3)  # in x and in y
        np.testing.assert_array_equal(np.sign(last[0]), -np.sign(last[1]))


def test_reddis_example(model, walks):
    error = model.evaluate("""
        return Array.from({ length: 101 }, (_, t) => Playground.SURFACES.rare.error(t + 1)[0]);
    """)
    assert sorted(error)[-2:] == [-3.0, 300.0]
    assert sum(error) == 0.0
    rmsprop, amsgrad, sgd = (np.asarray(walk["points"])[-101:, 0] for walk in walks["rare"])
    assert np.all(rmsprop > 2.5)
    for others in (amsgrad, sgd):
        assert others.min() < 0.0 < others.max()
        assert abs(others.mean()) < 0.7


def test_adams_average(walks):
    adam, rmsprop, sgd = (np.abs(walk["moves"][-20:]).mean(axis=0) for walk in walks["adam"])
    np.testing.assert_allclose(rmsprop, 0.2, rtol=1e-3)
    assert np.all(adam < 0.1 * rmsprop)
    assert sgd[1] == pytest.approx(0.2, rel=1e-9)
    assert max(x for x, _ in walks["adam"][0]["points"]) > 0.3  # past the floor


def test_epsilon(walks):
    outside, inside, tiny_inside = walks["epsilon"]
    assert 1e-7 < np.abs(outside["gradients"][0]).max() < 1e-5
    assert height(outside) < 0.01
    assert height(tiny_inside) < 0.01
    assert np.hypot(*np.subtract(inside["points"][-1], inside["points"][0])) < 0.2


def test_momentum(walks):
    sgd, momentum, nesterov = walks["momentum"]
    assert height(nesterov) < height(momentum) < 0.01 * height(sgd)


def test_turned(model, walks):
    """SGD does not notice the turn; RMSProp, AdaGrad and Adam do."""
    script = """
        const turn = ([x, y]) => [(x + y) / Math.SQRT2, (y - x) / Math.SQRT2];
        const heights = (surface, start) => Playground.ofPreset("turned").runs
            .map((run) => Playground.run({ ...run, surface, start, steps: 60 }).heights.at(-1));
        const { start } = Playground.SURFACES.diagonal;
        return [heights("diagonal", start), heights("valley", turn(start))];
    """
    turned, straight = model.evaluate(script)
    rmsprop, adagrad, adam, sgd = np.divide(turned, straight)
    assert rmsprop > 3.0
    assert adagrad > 100.0
    assert adam > 3.0
    assert sgd == pytest.approx(1.0, rel=1e-9)
    assert height(walks["turned"][3]) < 0.01 * min(turned[:3])


def test_noise(model, walks):
    adagrad, rmsprop = walks["noise"]
    assert height(adagrad) < 0.5 * height(rmsprop)
    moves = np.abs(rmsprop["moves"][-200:])
    assert 0.05 < np.sqrt(np.mean(moves**2)) < 0.15
    # and not for this seed alone
    script = """
        const settings = Playground.ofPreset("noise");
        return Array.from({ length: 20 }, (_, seed) => settings.runs.map(
            (run) => Playground.run({ ...settings, ...run, seed }).heights.slice(-200)));
    """
    late = np.mean(model.evaluate(script), axis=2)
    assert np.all(late[:, 0] < 0.7 * late[:, 1])


def test_leaving_a_saddle(walks):
    def left(walk):
        return int(np.argmax(np.abs(np.asarray(walk["points"])[:, 1]) > 1.0))

    sgd, _, rmsprop = walks["saddle"]
    assert 0 < 3 * left(rmsprop) < left(sgd)
