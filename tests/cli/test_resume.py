"""`anyprop train --checkpoint-every N --resume`: runs continue, what differs is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import anyprop as ap
from anyprop.training.run import Run

NETWORK = ["--hidden", "12", "--norm", "batch", "--dropout", "0.2", "--batch-size", "32"]
OPTIONS = [*NETWORK, "--schedule", "cosine", "--early-stopping", "30"]


def history(folder):
    content = json.loads(Path(folder, "history.json").read_text())
    content["final"].pop("seconds")
    for record in content["epochs"]:
        record.pop("seconds")
        record.pop("waited")
    return content


def assert_same(ours, theirs):
    """The files are the same bytes, except for the times in them."""
    assert history(ours) == history(theirs)
    one, other = (Path(folder, "model.safetensors").read_bytes() for folder in (ours, theirs))
    assert one == other


@pytest.fixture
def end_at(monkeypatch):
    """Return what happens at a step of the run, once."""

    def arrange(step, happen):
        advance = Run.advance

        def advanced(self, *args):
            advance(self, *args)
            if self.step == step:
                monkeypatch.setattr(Run, "advance", advance)
                happen()

        monkeypatch.setattr(Run, "advance", advanced)

    return arrange


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_the_run_goes_on_from_it(signum, code, run, data, end_at):
    command = ["train", "--data", data, *OPTIONS, "--epochs", 6, "--checkpoint-every", 1000]
    assert run(*command, "--out", "whole")[0] == 0
    end_at(23, lambda: signal.raise_signal(signum))
    assert run(*command, "--out", "parts")[0] == code
    found = ["best.safetensors", "step-00000023.safetensors"]
    assert sorted(os.listdir("parts/checkpoints")) == found
    assert history("parts")["final"]["ended"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    code, out, err = run(*command, "--out", "parts", "--resume")
    assert (code, err) == (0, "")
    assert ", resumed after 23" in out.splitlines()[0]
    assert_same("parts", "whole")


def test_sigterm_from_outside(data, tmp_path):
    command = [sys.executable, "-m", "anyprop", "train", "--data", str(data), "--no-progress"]
    command += ["--steps", "1000000", "--checkpoint-every", "1000000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert b"1000000 steps" in process.stdout.readline()
    threading.Timer(0.3, process.terminate).start()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (143, b"")
    (place,) = (tmp_path / "runs/train/checkpoints").glob("step-*")
    model = ap.load(tmp_path / "runs/train/model.safetensors")
    assert ap.load(place).step == model.step > 0


def test_more_steps_and_other_options(run, images):
    command = ["train", "--data", images, *NETWORK, "--checkpoint-every", 10]
    assert run(*command, "--steps", 25, "--out", "parts")[0] == 0
    places = [f"step-000000{n}.safetensors" for n in (10, 20, 25)]
    assert sorted(os.listdir("parts/checkpoints"))[1:] == places
    before = Path("parts/model.safetensors").read_bytes()

    def refused(*options):
        code, out, err = run(*command, "--out", "parts", *options)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert Path("parts/model.safetensors").read_bytes() == before
        return err

    changed = ["--resume", "--steps", 40, "--lr", 0.1, "--dropout", 0.3, "--seed", 3]
    err = refused(*changed)
    assert "would no longer be the same run: net.layers.3.rate was 0.2 and is 0.3; " in err
    assert "optimizer.lr was 0.001 and is 0.1; " in err
    assert "seed was 8 and is 3" in err
    assert "optimizer.lr was 0.001 and is {'end': 0.0, 'kind': 'Cosine', " in refused(
        "--resume", "--steps", 40, "--schedule", "cosine"
    )
    assert "has done 25 steps in 2 epochs already, more than" in refused("--resume", "--steps", 20)
    assert "holds the checkpoints of an earlier run; continue it with --resume" in refused()
    assert "--or-start and --allow-changes go with --resume" in refused("--or-start")

    assert run(*command, "--out", "parts", "--resume", "--steps", 40)[0] == 0
    assert run(*command, "--out", "whole", "--steps", 40)[0] == 0
    ours, theirs = (history(folder)["losses"] for folder in ("parts", "whole"))
    assert ours == theirs
    changed[2] = 50
    assert run(*command, "--out", "parts", *changed, "--allow-changes")[0] == 0
    assert history("parts")["final"]["steps"] == 50


def test_a_folder_without_checkpoints(run, images):
    command = [
        "train",
        "--data",
        images,
        *OPTIONS,
        "--steps",
        20,
        "--checkpoint-every",
        9,
        "--resume",
    ]
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err == (
        f"anyprop: there is no checkpoint in {Path('runs/train/checkpoints')} to resume from; add "
        "--or-start to start without.\n"
    )
    assert not Path("runs").exists()
    for _ in range(2):
        assert run(*command, "--or-start", "--out", "parts")[0] == 0
    assert run(*command[:-1], "--out", "whole")[0] == 0
    assert_same("parts", "whole")


def test_a_disk_that_is_full_ends_in_a_sentence(run, images, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("train", "--data", images, *OPTIONS, "--steps", 20, "--checkpoint-every", 9)
    assert code == 1
    place = Path("runs/train/checkpoints/step-00000009.safetensors")
    first, second = err.splitlines()
    early = "anyprop: the training ended early:"
    assert first in (
        f"{early} {place}: No space left on device.",
        f"{early} {place.with_name('best.safetensors')}: No space left on device.",
    )
    assert second == "anyprop: runs/train/model.safetensors: No space left on device."


def test_what_a_kill_left_is_cleared_away(run, images):
    Path("runs/train").mkdir(parents=True)
    for name in (".model.safetensors.0123abcd", ".history.json.0123abcd", ".notes.20240101"):
        Path("runs/train", name).touch()
    assert run("train", "--data", images, *OPTIONS, "--steps", 20)[0] == 0
    assert [name for name in os.listdir("runs/train") if name.startswith(".")] == [
        ".notes.20240101"
    ]
