"""kill -9 at any moment, as often as you like: the run ends as the one that nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap

SCRIPT = Path(__file__).parent / "killed_run.py"
KILLS = int(os.environ.get("ANYPROP_KILLS", "20"))


def start(folder, every):
    command = [sys.executable, str(SCRIPT), str(folder), str(every)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def whole_run(folder):
    folder.mkdir()
    process = start(folder, 1000)
    assert process.communicate(timeout=120)[0] == "training\n"
    assert process.returncode == 0


def results(folder):
    with np.load(folder / "result.npz") as file:
        arrays = dict(file)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = ap.load(folder / "checkpoints" / "best.safetensors")
    newest = ap.load(max(folder.glob("checkpoints/step-*.safetensors")))
    arrays |= {
        "best": best.params.flat,
        "newest": newest.params.flat,
        "m of it": newest.state.slots["m"].flat,
    }
    return arrays, [record | {"seconds": 0.0} for record in log]


@pytest.mark.parametrize("every", [1, 7])
def test_killed_at_random_moments(every, tmp_path):
    """With a checkpoint after each step most of the time goes into writing them."""
    whole_run(tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    rng = np.random.default_rng(every)
    kills, places = 0, set()
    while True:
        process = start(folder, every)
        assert process.stdout.readline() == "training\n"
        timer = threading.Timer(rng.uniform(0.0, 0.12), process.kill)
        if kills < KILLS // 2:
            timer.start()
        process.wait(timeout=120)
        timer.cancel()
        process.stdout.close()
        found = sorted(path.name for path in folder.glob("checkpoints/step-*.safetensors"))
        assert len(found) <= 4  # one more than stay, if the kill came before the oldest was removed
        for name in found:
            ap.load(folder / "checkpoints" / name)
        if process.returncode == 0:
            break
        assert process.returncode == -9
        kills += 1
        places.update(found[-1:])
    assert kills > KILLS // 4
    arrays, log = results(folder)
    wanted, wanted_log = results(tmp_path / "whole")
    assert log == wanted_log
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)
    leftovers = [path.name for path in (folder / "checkpoints").iterdir() if path.name[0] == "."]
    assert leftovers == []
