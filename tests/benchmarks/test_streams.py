"""What is said of training from files: which goals are missed, and whether the numbers are the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import streams
from benchmarks.streams import judged


def _way(seconds, megabytes, loss=0.05):
    runs = [{"seconds": seconds, "megabytes": megabytes, "loss": loss}] * 3
    return {"seconds": seconds, "megabytes": megabytes, "runs": [dict(run) for run in runs]}


@pytest.fixture
def measured():
    """Numbers that reach every goal."""
    ways = {"memory": _way(1.0, 200.0), "uint8": _way(0.9, 60.0), "memmap": _way(1.1, 90.0)}
    epochs = {name: ways | {"hdf5": _way(1.6, 120.0, 0.1)} for name in ("numpy", "jax")}
    before = {"before": _way(1.0, 0.0), "now": _way(1.01, 0.0)}
    return json.loads(json.dumps([epochs, {"numpy": 30.0, "jax": 40.0}, before]))


def test_goals_that_are_reached_are_not_spoken_of(measured):
    assert judged(*measured) == []
    epochs, growth, _ = measured
    assert judged(epochs, growth, None) == []


def test_what_is_published_reaches_every_goal():
    path = Path(streams.__file__).parent / "results" / "streams.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found["epochs"]) == {"numpy", "jax"}
    assert all(set(of) == set(streams.WAYS) for of in found["epochs"].values())
    assert judged(found["epochs"], found["growth"], found["before"]) == []


@pytest.mark.parametrize(
    ("where", "key", "factor", "said"),
    [
        (("numpy", "memmap"), "seconds", 2.0, "numpy, memory-mapped uint8: .* times as long"),
        (("jax", "hdf5"), "seconds", 4.0, "jax, gzipped HDF5, in blocks: .* times as long"),
        (("numpy", "memmap"), "megabytes", 3.0, "numpy: .*% of the memory"),
    ],
)
def test_what_misses_a_goal_is_named(where, key, factor, said, measured):
    backend, way = where
    measured[0][backend][way][key] *= factor
    (line,) = judged(*measured)
    assert re.match(said, line)


def test_other_numbers_are_named(measured):
    measured[0]["jax"]["memmap"]["runs"][0]["loss"] += 1e-7
    (line,) = judged(*measured)
    assert line.startswith("jax: losses differ")
    measured[0]["jax"]["hdf5"]["runs"][0]["loss"] += 1.0  # whose rows come in another order
    assert len(judged(*measured)) == 1


def test_growth_and_slower_runs_from_memory_are_named(measured):
    measured[1]["numpy"] = 61.0
    measured[2]["now"]["seconds"] *= 1.1
    assert [line.split(":")[0] for line in judged(*measured)] == ["numpy", "from memory"]


def test_numbers_of_other_backends_stay_in_the_file(measured, tmp_path):
    epochs, growth, before = measured
    for name in ("numpy", "jax"):
        streams.save(tmp_path / "streams.json", {name: epochs[name]}, {name: growth[name]}, before)
        before = None
    found = json.loads((tmp_path / "streams.json").read_text(encoding="utf-8"))
    assert [found[key] for key in ("epochs", "growth", "before")] == measured
    assert found["about"]["command"] == "python -m benchmarks.streams"


def test_each_way_trains(tmp_path):
    """A short run of each, in this process; that of HDF5 needs h5py, which the tests do not have."""
    streams.write_data(tmp_path, hdf5=False, rows=2000)
    losses = {
        way: streams.job(way)(way, "numpy", tmp_path, 2)["loss"] for way in streams.SAME_ORDER
    }
    assert len(set(losses.values())) == 1
    assert streams.job("plain")("plain", "numpy", tmp_path, 2).keys() == {"seconds"}
    assert streams.job("3")("3", "numpy", tmp_path, 30)["megabytes"] >= 0.0
