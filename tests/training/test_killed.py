"""kill -9 at any moment, as often as you like: the run ends as one that was not killed."""

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

SCRIPT = Path(__file__).parents[1] / "support" / "killed_run.py"
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


def killed_run(folder, every, rng, kills):
    """Restart a run until it is done; kill it `kills` times. Return how often it was killed."""
    folder.mkdir()
    killed = 0
    while True:
        process = start(folder, every)
        assert process.stdout.readline() == "training\n"
        timer = threading.Timer(rng.uniform(0.0, 0.12), process.kill)
        if killed < kills:
            timer.start()
        process.wait(timeout=120)
        timer.cancel()
        process.stdout.close()
        found = list(folder.glob("checkpoints/step-*.safetensors"))
        assert len(found) <= 4  # one more than stay, if the kill came before the oldest was removed
        for path in found:
            ap.load(path)
        if process.returncode == 0:
            return killed
        assert process.returncode == -9
        killed += 1


@pytest.mark.parametrize("every", [1, 7])
def test_killed_at_random_moments(every, tmp_path):
    """With a checkpoint after each step most of the time goes into writing them."""
    whole_run(tmp_path / "whole")
    wanted, wanted_log = results(tmp_path / "whole")
    rng, kills, runs = np.random.default_rng(every), 0, 0
    while kills < KILLS // 2:
        folder, runs = tmp_path / f"killed {runs}", runs + 1
        assert runs <= KILLS
        kills += killed_run(folder, every, rng, KILLS // 2 - kills)
        arrays, log = results(folder)
        assert log == wanted_log
        assert arrays.keys() == wanted.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
        assert [p.name for p in (folder / "checkpoints").iterdir() if p.name[0] == "."] == []
