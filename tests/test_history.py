"""Histories survive JSON."""

import json
import math

import pytest

from anyprop import EpochRecord, History

RECORD = EpochRecord(1, 2, 2.1, 1.9, 0.4, 0.01, 0.5)


def test_json_and_back():
    history = History([2.3, 1.9], [RECORD, EpochRecord(2, 4, 1.5, None, None, 0.01, 0.5)])
    text = json.dumps(history.to_dict(), allow_nan=False)
    assert History.from_dict(json.loads(text)) == history


def test_a_validation_loss_that_json_does_not_know_becomes_none():
    history = History([1.0], [EpochRecord(1, 1, 1.0, math.inf, 0.5, 0.1, 0.1)])
    record = json.loads(json.dumps(history.to_dict(), allow_nan=False))["epochs"][0]
    assert record["validation_loss"] is None
    assert record["validation_accuracy"] == 0.5


def test_to_dict_gives_a_copy():
    history = History([1.0])
    history.to_dict()["losses"].append(2.0)
    assert history.losses == [1.0]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"losses": [1.0]},
        {"losses": ["a"], "epochs": []},
        {"losses": [], "epochs": [{"epoch": 1}]},
        {"losses": 3, "epochs": []},
        {"losses": "12", "epochs": []},
        {"losses": [True], "epochs": []},
        *(
            {"losses": [], "epochs": [vars(RECORD) | wrong]}
            for wrong in ({"epoch": None}, {"step": 1.5}, {"lr": "0.1"}, {"seconds": [1.0]})
        ),
        [],
    ],
)
def test_something_else_is_no_history(content):
    with pytest.raises(ValueError, match="not the history of a training run"):
        History.from_dict(content)
