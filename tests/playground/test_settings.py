"""The address holds what the page shows."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.needs("chromium")


def test_settings_survive_the_address(model):
    script = """
        const all = Object.keys(Playground.PRESETS).map(Playground.ofPreset);
        all.push({ ...all[0], start: [1.25, -3e-7], steps: 7, noise: 0.5, seed: 42, measure: "rate",
                   runs: Object.keys(Playground.OPTIMIZERS).slice(8).map(
                       (name) => Playground.suggested(name, "saddle")) });
        return all.map((settings) => [settings, Playground.fromHash(Playground.toHash(settings))]);
    """
    for settings, read in model.evaluate(script):
        assert read == {"settings": settings, "refused": []}


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("surface=mountain&sgd=lr:0.1", ["surface=mountain"]),
        ("surface=valley&start=1&sgd=lr:0.1", ["start=1"]),
        ("steps=0&noise=-1&seed=1.5&sgd=lr:0.1", ["steps=0", "noise=-1", "seed=1.5"]),
        ("steps=100000", ["steps=100000"]),
        ("rmsprop=lr:0,rho:1,eps:x,centered:yes,beta1:1", None),
        ("rmsprop=lr:1,nesterov:true", ["rmsprop=lr:1,nesterov:true"]),
        ("rprop=step_min:2,step_max:1", ["rprop=step_min:2,step_max:1"]),
        ("toString=1&__proto__=2&adamax=toString:1", None),
        ("&".join(["sgd=lr:1"] * 7), ["sgd"]),
        ("sgd=lr:%", ["sgd=lr:%"]),
    ],
)
def test_what_an_address_gets_wrong_is_named_and_left_out(address, refused, model):
    read = model.evaluate(f'return Playground.fromHash("#{address}")')
    assert read["refused"]
    if refused is not None:
        assert read["refused"] == refused
    assert 1 <= len(read["settings"]["runs"]) <= 6
    known = model.evaluate(f"""
        const {{ settings }} = Playground.fromHash("#{address}");
        return settings.runs.every((run) => Number.isFinite(Playground.run(
            {{ ...settings, ...run }}).heights.at(-1)));
    """)
    assert known
