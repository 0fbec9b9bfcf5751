"""Descriptions survive JSON and rebuild the same network."""

import dataclasses
import json

import numpy as np
import pytest

import anyprop as ap
from anyprop.description import describe, rebuild, settings_of
from anyprop.layers.base import Layer
from anyprop.layers.registry import LAYERS

NETWORKS = [
    ap.MLP([4, 3, 2]),
    ap.MLP([4, 8, 8, 2], "gelu", norm="batch", dropout=0.25, residual=True),
    ap.MLP([4, 8, 8, 2], "leaky_relu", norm="layer"),
    ap.Affine(2, 3, bias=np.False_),
    ap.Residual(ap.Residual(ap.Sequential(ap.ELU(0.5), ap.Softmax()))),
]


@pytest.mark.parametrize("net", NETWORKS, ids=repr)
def test_json_and_back(net):
    text = json.dumps(describe(net), allow_nan=False)
    again = rebuild(json.loads(text))
    assert again == net
    assert repr(again) == repr(net)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_a_description(name):
    make = {
        "Affine": lambda: ap.Affine(2, 3),
        "BatchNorm": lambda: ap.BatchNorm(3, momentum=0.5),
        "LayerNorm": lambda: ap.LayerNorm(3),
        "Residual": lambda: ap.Residual(ap.ReLU()),
        "Sequential": lambda: ap.Sequential(ap.ReLU()),
    }.get(name, LAYERS[name])
    assert rebuild(json.loads(json.dumps(describe(make())))) == make()


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.int64(3), np.True_])
def test_settings_hold_the_numbers_of_numpy(number):
    @dataclasses.dataclass
    class Own:
        given: object

    settings = settings_of(Own(number))
    assert settings == {"kind": "Own", "given": number.item()}
    assert json.loads(json.dumps(settings)) == settings


def test_settings_hold_the_number_of_an_array(backend):
    assert settings_of(ap.SGD(lr=backend.asarray(0.25)))["lr"] == 0.25


def test_a_schedule_of_ones_own_is_described_by_its_values_where_they_are_finite():
    def endless(step):
        return np.inf

    assert settings_of(ap.SGD(lambda step: 0.5))["lr"]["step 1"] == 0.5
    assert settings_of(ap.SGD(endless))["lr"] == f"<{endless.__qualname__}>"


def test_layers_of_your_own_are_refused_wherever_they_stand():
    class ReLU(Layer):
        """Has the name of one of the library's."""

    for net in (ReLU(), ap.Sequential(ap.Tanh(), ReLU()), ap.Residual(ReLU())):
        with pytest.raises(TypeError, match="not one of anyprop's layers"):
            describe(net)


@pytest.mark.parametrize(
    ("description", "match"),
    [
        ({"layer": "Affin", "d": 2, "m": 3}, "did you mean 'Affine'"),
        ({"layer": "os.system"}, "unknown layer"),
        ({"layer": 3}, "does not describe"),
        ({"d": 3}, "does not describe"),
        ([], "does not describe"),
        (None, "does not describe"),
        ({"layer": "Affine", "d": 2}, "does not describe"),
        ({"layer": "Affine", "d": 2, "m": 3, "more": 1}, "does not describe"),
        ({"layer": "Affine", "d": "2", "m": 3}, "does not describe"),
        ({"layer": "Affine", "d": 0, "m": 3}, "at least 1"),
        ({"layer": "Affine", "d": 2, "m": 3, "bias": "no"}, "does not describe"),
        ({"layer": "Dropout", "rate": 1.5}, "rate"),
        ({"layer": "Sequential"}, "does not describe"),
        ({"layer": "Sequential", "layers": 3}, "does not describe"),
        ({"layer": "Sequential", "layers": []}, "at least one"),
        ({"layer": "Sequential", "layers": ["ReLU"]}, "does not describe"),
        ({"layer": "Sequential", "layers": [{"layer": "Relu"}]}, "did you mean 'ReLU'"),
        ({"layer": "Residual", "block": 3}, "does not describe"),
        (
            {
                "layer": "Sequential",
                "layers": [
                    {"layer": "Affine", "d": 2, "m": 3},
                    {"layer": "Affine", "d": 4, "m": 3},
                ],
            },
            "takes rows of 4",
        ),
    ],
)
def test_something_else_is_refused(description, match):
    with pytest.raises(ValueError, match=match):
        rebuild(description)
