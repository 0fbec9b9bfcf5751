"""The playground's numbers are anyprop's: every optimizer on every surface, step by step."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.testing.optimizer_cases import COMMON, OPTIMIZER_CASES

pytestmark = pytest.mark.needs("chromium")

STEPS = 50
LARGE = 0.3  # for the walk to leave the start, where a case's own learning rate is small
NOISY = {"noisy": 2.0, "valley": 0.5}
SCRIPT = Path(__file__).parents[2] / "docs" / "_static" / "playground" / "optimizers.js"
SHOWN = re.findall(r"^    (\w+): \{\n      name", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
KEYS = {optimizer: name for name, optimizer in OPTIMIZERS.items() if name in SHOWN}
OWN = {name: case for name, case in OPTIMIZER_CASES.items() if type(case) in KEYS}
CASES = {
    **OWN,
    **{f"{name}-large": replace(case, lr=LARGE) for name, case in OWN.items()},
}
CASES["rprop-options-large"] = replace(CASES["rprop-options-large"], step_max=2.0)


def options_of(optimizer):
    names = {field.name for field in fields(optimizer)} - COMMON
    if type(optimizer).decoupled:
        names.add("weight_decay")
    return {name: getattr(optimizer, name) for name in names}


@pytest.fixture(scope="module")
def surfaces(model):
    return model.evaluate("return Object.keys(Playground.SURFACES)")


@pytest.fixture(scope="module")
def walks(model, surfaces):
    """What the page computes: (case, surface) -> points, gradients and slots."""
    asked = [
        {
            "optimizer": KEYS[type(case)],
            "options": options_of(case),
            "surface": surface,
            "steps": STEPS,
            "noise": NOISY.get(surface, 0.0),
        }
        for case in CASES.values()
        for surface in surfaces
    ]
    script = f"""
        return {json.dumps(asked)}.map((asked) => Playground.run(
            {{ ...asked, start: Playground.SURFACES[asked.surface].start, seed: 3 }}));
    """
    answers = iter(model.evaluate(script))
    return {(name, surface): next(answers) for name in CASES for surface in surfaces}


def close(ours, theirs):
    """Equal to 1e-12 of the largest value on the way."""
    ours, theirs = np.asarray(ours), np.asarray(theirs, dtype="float64")
    scale = np.max(np.abs(ours), initial=1e-300)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("name", CASES)
def test_every_step_is_that_of_anyprop(name, walks, surfaces):
    """anyprop gets the gradients that the page met, and must come to the same points and slots."""
    opt = CASES[name]
    for surface in surfaces:
        walk = walks[name, surface]
        p = np.asarray(walk["points"][0], dtype="float64")
        state = opt.init(p)
        points, slots = [p], {key: [] for key in state.slots}
        for gradient in walk["gradients"]:
            p, state = opt.update(p, np.asarray(gradient, dtype="float64"), state)
            points.append(p)
            for key in slots:
                slots[key].append(state.slots[key])
        close(points, walk["points"])
        assert walk["slots"].keys() == slots.keys()
        for key in slots:
            close(slots[key], walk["slots"][key])


def test_the_walks_are_long_and_move(walks):
    """A comparison of points that do not move, or of none, would prove nothing."""
    whole = [walk for walk in walks.values() if walk["diverged"] is None]
    assert len(whole) > 0.95 * len(walks)
    assert all(len(walk["gradients"]) == STEPS for walk in whole)
    ways = [np.ptp(np.asarray(walk["points"]), axis=0).max() for walk in whole]
    assert np.median(ways) > 0.5


def test_it_knows_optimizers_and_their_defaults(model):
    script = """
        return Object.entries(Playground.OPTIMIZERS).map(
            ([key, { name }]) => [key, name, Playground.withDefaults(key)]);
    """
    known = model.evaluate(script)
    assert [(key, name) for key, name, _ in known] == [
        (key, optimizer.__name__) for optimizer, key in KEYS.items()
    ]
    assert {"sgd", "momentum", "adagrad", "rmsprop", "adam"} <= set(SHOWN)
    for key, _, options in known:
        assert options == options_of(OPTIMIZERS[key]())


def test_gradients_are_those_of_the_heights(model, surfaces):
    """By central differences of the heights."""
    step = 1e-5
    for surface in surfaces:
        script = f"""
            const {{ f, gradient, view: [left, right, bottom, top] }} = Playground.SURFACES["{surface}"];
            const answers = [];
            for (let i = 0; i < 8; i++) for (let k = 0; k < 8; k++) {{
                const x = left + (i + 0.37) / 8 * (right - left);
                const y = bottom + (k + 0.41) / 8 * (top - bottom);
                answers.push([gradient(x, y), [f(x + {step}, y) - f(x - {step}, y),
                                               f(x, y + {step}) - f(x, y - {step})], f(x, y)]);
            }}
            return answers;
        """
        answers = model.evaluate(script)
        gradients = np.asarray([answer[0] for answer in answers])
        differences = np.asarray([answer[1] for answer in answers]) / (2.0 * step)
        scale = np.max(np.abs(gradients))
        np.testing.assert_allclose(gradients, differences, rtol=1e-7, atol=1e-8 * scale)


def test_minima_are_minima(model, surfaces):
    for surface in surfaces:
        script = f"""
            const {{ f, gradient, view, lowest, minima, start }} = Playground.SURFACES["{surface}"];
            const around = [];
            for (let i = 0; i <= 100; i++) for (let k = 0; k <= 100; k++)
                around.push(f(view[0] + i / 100 * (view[1] - view[0]),
                              view[2] + k / 100 * (view[3] - view[2])));
            return {{ view, lowest, minima, start, least: Math.min(...around),
                      heights: minima.map((p) => f(...p)), slopes: minima.map((p) => gradient(...p)) }};
        """
        found = model.evaluate(script)
        assert found["heights"] == [found["lowest"]] * len(found["minima"])
        assert np.all(np.asarray(found["slopes"]) == 0.0)
        assert found["least"] >= found["lowest"]
        left, right, bottom, top = found["view"]
        assert (right - left) / (top - bottom) == pytest.approx(1.6)
        for x, y in [*found["minima"], found["start"]]:
            assert left < x < right
            assert bottom < y < top


def test_noise_is_standard_normal_and_the_same_for_all(model):
    script = """
        const walk = (optimizer, seed) => Playground.run({
            optimizer, options: Playground.withDefaults(optimizer, { lr: 1e-12 }), surface: "kink",
            start: [-7, 2.5], steps: 5000, noise: 1, seed }).gradients;
        return [walk("sgd", 1), walk("adam", 1), walk("sgd", 2)];
    """
    one, same, other = (np.asarray(walk) for walk in model.evaluate(script))
    np.testing.assert_array_equal(one, same)
    noise = one - [-0.25, 1.0]
    assert np.all(np.abs(noise.mean(axis=0)) < 5.0 / 5000**0.5)
    assert np.all(np.abs(noise.std(axis=0) - 1.0) < 0.05)
    # neither the two coordinates nor two seeds go together
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.07
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.07
