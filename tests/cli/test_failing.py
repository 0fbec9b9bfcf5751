"""A training that is ended by something else leaves its model; two never share a folder."""

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import anyprop as ap
from anyprop._locks import locked
from anyprop.cli import predict, train
from anyprop.cli._main import make_parser
from anyprop.cli._termination import Terminated
from ranks import on_ranks


def test_the_model_of_a_failed_training_is_written(run, images, monkeypatch):
    def fail(self, of):
        raise OSError(28, "No space left on device", "log.csv")

    monkeypatch.setattr(train._Announce, "on_end", fail)
    code, out, err = run("train", "--data", images, "--steps", "5", "--hidden", "3")
    assert code == 1
    assert "failed after 5 steps" in out
    assert err.count("\n") == 1
    assert "the training ended early" in err
    assert "log.csv" in err
    assert ap.load("runs/train/model.safetensors").step == 5


@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_leaves_the_older_predictions_or_none(
    older, run, images, monkeypatch, tmp_path
):
    run("train", "--data", images, "--steps", "2", "--hidden", "3")
    if older:
        (tmp_path / "p.csv").write_text("older")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    args = ("predict", "runs/train/model.safetensors", "--data", images, "--out", "p.csv")
    assert run(*args) == (2, "", "anyprop: cannot write p.csv: No space left on device.\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.csv", "runs"][not older :]
    if older:
        assert (tmp_path / "p.csv").read_text() == "older"


def test_predictions_that_fail_leave_no_file(run, images, monkeypatch, tmp_path):
    run("train", "--data", images, "--steps", "2", "--hidden", "3")

    def none(*args):
        raise MemoryError

    monkeypatch.setattr(predict, "predict", none)
    with pytest.raises(MemoryError):
        run("predict", "runs/train/model.safetensors", "--data", images, "--out", "p.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("train --hidden 3 --steps 2", "history.json|model.safetensors"),
        ("compare sgd --hidden 3 --steps 2", "compare.json"),
        ("check --only losses/huber --no-speed --json found.json", "found.json"),
    ],
)
def test_a_full_disk_is_one_sentence(words, name, run, images, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    data = ("--data", images) if "hidden" in words else ()
    code, _, err = run(*words.split(), *data)
    assert code == 1
    assert re.fullmatch(rf"anyprop: .*({name}): No space left on device\.\n", err)


def fail(self, run):
    raise OSError(28, "No space left on device", "log.csv")


def test_nothing_is_measured_after_a_failure(run, images, monkeypatch):
    monkeypatch.setattr(train._Announce, "on_end", fail)
    monkeypatch.setattr("anyprop.cli._training.evaluate", lambda *a, **k: pytest.fail("needless"))
    monkeypatch.setattr(train, "plot_history", lambda *a, **k: pytest.fail("needless"))
    code, out, _ = run("train", "--data", images, "--steps", "5", "--hidden", "3")
    assert code == 1
    assert "test accuracy" not in out
    history = json.loads(Path("runs/train/history.json").read_text())
    assert history["final"]["ended"] == "failed"
    assert history["final"]["test_accuracy"] is None
    assert len(history["losses"]) == 5


def test_what_fails_before_the_first_step_leaves_an_older_model(run, images, monkeypatch):
    args = ("train", "--data", images, "--steps", "5", "--hidden", "3")
    run(*args)
    monkeypatch.setattr(train._Announce, "on_start", fail)
    code, out, err = run(*args)
    assert (code, out) == (1, "")
    assert err == "anyprop: log.csv: No space left on device.\n"
    assert ap.load("runs/train/model.safetensors").step == 5


def test_compare_ends_at_a_failure_with_what_it_has(run, images, monkeypatch):
    original = ap.RMSProp.update

    def update(self, params, grads, state, **options):
        if state.step == 3:
            raise LookupError("own")
        return original(self, params, grads, state, **options)

    monkeypatch.setattr(ap.RMSProp, "update", update)
    monkeypatch.setattr("anyprop.training._how.compile_step", lambda step, **options: step)
    args = ("--data", images, "--steps", "5", "--hidden", "3")
    code, out, err = run("compare", "sgd", "rmsprop", "adagrad", *args)
    assert code == 1
    assert "the training ended early: LookupError: own.\n" in err
    runs = json.loads(Path("runs/compare/compare.json").read_text())["runs"]
    assert [result["final"]["ended"] for result in runs.values()] == ["finished", "failed"]
    assert "adagrad" not in out


def test_a_rank_that_cannot_write_ends_the_others(monkeypatch, capsys):
    aborted = []
    several = SimpleNamespace(rank=1, size=2, abort=aborted.append)
    monkeypatch.setattr(train, "connect", lambda args: several)

    def full(*args):
        raise OSError(28, "No space left on device", "log.csv")

    monkeypatch.setattr(train, "_run", full)
    train.run(argparse.Namespace())
    assert aborted == [1]
    assert capsys.readouterr().err == "anyprop: log.csv: No space left on device.\n"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_command_that_is_interrupted_says_so(error, code, run, monkeypatch):
    def interrupted(args):
        raise error

    monkeypatch.setattr(predict, "run", interrupted)
    assert run("predict") == (code, "", "anyprop: interrupted.\n")


def test_ctrl_c_while_the_commands_are_loaded_says_so_too():
    code = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class CtrlC:\n"
        "    def find_spec(name, *unused):\n"
        "        if name == 'anyprop.cli.train':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, CtrlC)\n"
        "runpy.run_module('anyprop', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "anyprop: interrupted.\n")


@pytest.mark.parametrize(
    ("words", "signum", "code", "ended"),
    [
        ("train", signal.SIGINT, 130, ["interrupted"]),
        ("train", signal.SIGTERM, 143, ["interrupted"]),
        ("compare sgd adam lion", signal.SIGINT, 130, ["finished", "interrupted"]),
    ],
)
def test_a_signal_while_the_result_is_measured_loses_nothing(
    words, signum, code, ended, run, images, monkeypatch
):
    command = words.split()[0]
    last = len(ended)

    def measured(*args, **options):
        nonlocal last
        last -= 1
        if not last:
            signal.raise_signal(signum)
        return ap.evaluate(*args, **options)

    monkeypatch.setattr("anyprop.cli._training.evaluate", measured)
    args = ("--data", images, "--steps", "5", "--hidden", "3")
    found, out, err = run(*words.split(), *args)
    assert (found, err) == (code, "")
    assert f"wrote {'history' if command == 'train' else 'compare'}.json" in out
    if command == "train":
        runs = [json.loads(Path("runs/train/history.json").read_text())]
        assert ap.load("runs/train/model.safetensors").step == 5
    else:
        runs = json.loads(Path("runs/compare/compare.json").read_text())["runs"].values()
    assert [result["final"]["ended"] for result in runs] == ended
    assert all(len(result["losses"]) == 5 for result in runs)


@pytest.mark.parametrize(("words", "name"), [("train", "loss"), ("compare sgd", "compare")])
def test_a_picture_that_cannot_be_written_is_named_and_the_older_one_stays(
    words, name, run, images, monkeypatch
):
    args = ("--data", images, "--steps", "5", "--hidden", "3")
    run(*words.split(), *args)
    (picture,) = Path("runs").glob("*/*.png")
    before = picture.read_bytes()

    def full(self, place, **options):
        Path(place).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, _, err = run(*words.split(), *args)
    assert (code, err) == (1, f"anyprop: {picture}: No space left on device.\n")
    assert picture.read_bytes() == before
    assert [place.name for place in Path("runs").rglob("*.png")] == [f"{name}.png"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("words", ["train", "compare sgd"])
def test_a_run_without_a_step_draws_no_losses(words, run, images):
    _, out, _ = run(*words.split(), "--data", images, "--weights", "normal:1e37", "--steps", "3")
    assert "diverged" in out
    assert "\nloss " not in out
    assert not list(Path("runs").glob("*/*.png"))


def test_ranks_end_in_order_when_rank_0_fails(tmp_path, images, monkeypatch):
    monkeypatch.setattr(train._Announce, "on_report", fail)
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", str(images), "--steps", "5", "--hidden", "3"]
    args = vars(make_parser().parse_args(words))

    def rank(communicator):
        with contextlib.ExitStack() as held:
            return train._run(argparse.Namespace(**args), communicator, held)

    assert on_ranks(3, rank) == [1, 1, 1]
    assert ap.load("runs/train/model.safetensors").step > 0


@pytest.mark.parametrize(
    "words",
    ["train --hidden 3", "train --resume --checkpoint-every 2", "compare sgd"],
)
def test_a_folder_in_which_a_run_is_writing_is_refused(words, run, images, tmp_path):
    pytest.importorskip("fcntl")
    folder = tmp_path / "out"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "step-00000005.safetensors").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with locked(folder):
        code, out, err = run(*words.split(), "--data", images, "--out", folder)
    assert (code, out) == (2, "")
    assert f"another run is writing into {folder} (process " in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
