"""A layer or loss that is in no table would not be tested."""

from __future__ import annotations

from dataclasses import fields

import pytest

import anyprop as ap
from anyprop.layers.base import Layer
from anyprop.layers.registry import ACTIVATIONS, LAYERS, get_activation
from anyprop.losses.base import Loss
from anyprop.losses.registry import LOSSES, get_loss
from anyprop.optimizers.registry import get_optimizer
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES


def _subclasses(base: type) -> set[type]:
    return {
        value
        for value in vars(ap).values()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }


def test_every_layer_is_registered_and_in_the_table():
    assert set(LAYERS.values()) == _subclasses(Layer)
    assert {type(case.layer) for case in LAYER_CASES} == set(LAYERS.values())
    assert all(name == cls.__name__ for name, cls in LAYERS.items())


def test_every_activation_is_a_layer_that_needs_no_argument():
    for name, cls in ACTIVATIONS.items():
        assert LAYERS[cls.__name__] is cls
        assert cls().specs() == {}, name


def test_every_loss_is_registered_and_in_the_table():
    assert set(LOSSES.values()) == _subclasses(Loss)
    assert {type(case.loss) for case in LOSS_CASES} == set(LOSSES.values())
    for cls in LOSSES.values():
        assert isinstance(cls(), cls)


def test_names_that_are_mistyped_show_the_nearest():
    assert get_activation("relu") is ap.ReLU
    assert get_loss("huber") is ap.Huber
    assert get_optimizer("adam") is ap.Adam
    for get, kind, wrong, right in (
        (get_activation, "activation", "rellu", "relu"),
        (get_loss, "loss", "hubber", "huber"),
        (get_optimizer, "optimizer", "rmsprob", "rmsprop"),
    ):
        with pytest.raises(
            ValueError, match=rf"^unknown {kind} '{wrong}'; did you mean '{right}'\?$"
        ):
            get(wrong)
        with pytest.raises(TypeError, match=rf"^{kind} must be a name such as '\w+', not "):
            get([right])


def test_every_option_of_a_layer_or_loss_has_a_case_that_sets_it():
    for cases, attribute in ((LAYER_CASES, "layer"), (LOSS_CASES, "loss")):
        instances = [getattr(case, attribute) for case in cases]
        for cls in {type(instance) for instance in instances} - {ap.Sequential}:
            for option in fields(cls):
                values = {getattr(i, option.name) for i in instances if type(i) is cls}
                assert values - {option.default}, f"no case sets {cls.__name__}.{option.name}"
