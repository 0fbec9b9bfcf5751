"""`anyprop train`: what it writes and prints, how it ends, and that all backends agree."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop.cli._termination import sigterm_interrupts
from anyprop.optimizers.registry import OPTIMIZERS

FILES = {"history.json", "loss.png", "model.safetensors"}
PNG = b"\x89PNG\r\n\x1a\n"


def read(folder):
    return json.loads((Path(folder) / "history.json").read_text())


def test_bare_train_learns_mnist_and_leaves_everything_behind(run, tmp_path):
    code, out, err = run("train")
    assert (code, err) == (0, "")
    folder = tmp_path / "runs" / "train"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "loss.png").read_bytes().startswith(PNG)

    history = read(folder)
    final = history["final"]
    assert final["test_accuracy"] >= 0.96
    assert final["steps"] == len(history["losses"]) == 1000
    assert final["ended"] == "finished"
    assert np.mean(history["losses"][-50:]) < 0.1 * history["losses"][0]

    model = ap.load(folder / "model.safetensors")
    net, params, config = model.net, model.params, model.config["settings"]
    assert net == ap.MLP([784, 200, 200, 10])
    assert config == history["settings"]
    assert model.config["final"] == {
        "test_accuracy": final["test_accuracy"],
        "ended": "finished",
    }
    assert (model.step, model.optimizer["kind"]) == (1000, "RMSProp")
    assert (config["optimizer"], config["lr"], config["seed"]) == ("rmsprop", 0.001, 8)
    test = ap.evaluate(net, params, ap.load_mnist()[1], loss=ap.SoftmaxCrossEntropy())
    assert (test.accuracy, test.loss) == (final["test_accuracy"], final["test_loss"])

    head, curve, end, accuracy, wrote = out.splitlines()
    assert head == ("784-200-200-10 network, float32 on numpy (cpu), rmsprop, lr 0.001: 1000 steps")
    assert curve.startswith("loss 2.")
    assert set(curve.split()[2]) <= set("▁▂▃▄▅▆▇█")
    assert end.startswith("finished after 1000 steps in ")
    assert accuracy.startswith(f"test accuracy {final['test_accuracy']:.4f}, test loss ")
    assert wrote == f"wrote history.json, model.safetensors, loss.png into {Path('runs/train')}"


@pytest.mark.against_numpy
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "network", ["", "--norm batch --dropout 0.2", "--residual --norm layer --activation gelu"]
)
def test_backends_report_the_losses_of_numpy(network, dtype, backend, run, images):
    options = f"--hidden 16,16 --steps 25 --batch-size 20 --dtype {dtype} {network}".split()
    device = ["--device", backend.device_name] if backend.device_name else []
    for name, place in (("numpy", []), ("other", ["--backend", backend.name, *device])):
        code, _, err = run("train", "--data", images, *options, *place, "--out", name)
        assert (code, err) == (0, "")
    ours, theirs = read("other"), read("numpy")
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    assert len(ours["losses"]) == 25
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        ours["final"]["test_loss"], theirs["final"]["test_loss"], rtol=0, atol=tolerance
    )
    assert ours["settings"]["backend"] == backend.name
    assert ap.load("other/model.safetensors").params.flat.dtype == dtype


# In float32 rounding decides on which side of 0 a unit of ReLU near it is: not there.
@pytest.mark.against_numpy
@pytest.mark.parametrize(
    ("dtype", "activation", "tolerance"), [("float32", "gelu", 1e-4), ("float64", "relu", 1e-10)]
)
def test_backends_agree_on_mnist(dtype, activation, tolerance, backend, run):
    place = ["--backend", backend.name]
    place += ["--device", backend.device_name] if backend.device_name else []
    for name, where in (("numpy", []), ("other", place)):
        code, _, err = run(
            *("train", "--steps", "200", "--activation", activation, "--dtype", dtype),
            *("--out", name, *where),
        )
        assert (code, err) == (0, "")
    ours, theirs = read("other")["losses"], read("numpy")["losses"]
    assert theirs[-1] < 0.5 < 2.0 < theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.needs("jax")
def test_jax_computes_in_float64_without_being_asked_to(images, tmp_path):
    command = [sys.executable, "-m", "anyprop", "train", "--backend", "jax", "--dtype", "float64"]
    options = ["--data", str(images), "--steps", "3", "--out", str(tmp_path / "out")]
    subprocess.run(command + options, check=True, capture_output=True)
    assert ap.load(tmp_path / "out" / "model.safetensors").params.flat.dtype == "float64"


def test_every_option_reaches_the_run(run, images):
    """Each of them changes the losses or the network, and none is ignored."""
    base = ["train", "--data", images, "--hidden", "8,8", "--steps", "12", "--batch-size", "20"]
    run(*base, "--out", "base")
    base_losses = read("base")["losses"]
    changes = [
        *("--activation tanh", "--norm batch", "--norm layer", "--residual", "--dropout 0.5"),
        *("--weights normal:0.1", "--optimizer adagrad", "--lr 0.01", "--rho 0.5"),
        *("--batch-size 30", "--schedule cosine", "--weight-decay 0.1", "--clip-norm 0.01"),
        *("--seed 9", "--hidden 8", "--dtype float64"),
    ]
    for change in changes:
        code, _, err = run(*base, *change.split(), "--out", "changed")
        assert (code, err) == (0, ""), change
        assert read("changed")["losses"] != base_losses, change
    run(*base, "--out", "again")
    assert read("again")["losses"] == base_losses
    run(*base, "--accumulate", "4", "--out", "split")
    assert read("split")["losses"] != base_losses
    np.testing.assert_allclose(read("split")["losses"], base_losses, atol=1e-5)


def test_epochs_with_a_schedule_that_ends_with_them(run, images):
    code, out, _ = run("train", "--data", images, "--epochs", "3", "--schedule", "linear")
    assert code == 0
    history = read("runs/train")
    assert [epoch["step"] for epoch in history["epochs"]] == [3, 6, 9]
    assert [epoch["lr"] for epoch in history["epochs"]] == pytest.approx(
        [1e-3 * share / 9 for share in (7, 4, 1)]
    )
    assert "finished after 9 steps" in out


def test_early_stopping_holds_out_training_data_and_restores_the_best(run, images):
    code, out, _ = run(
        *("train", "--data", images, "--epochs", "200", "--early-stopping", "2"),
        *("--lr", "0.01", "--batch-size", "30"),
    )
    assert code == 0
    history = read("runs/train")
    losses = [epoch["validation_loss"] for epoch in history["epochs"]]
    best = int(np.argmin(losses))
    assert history["final"]["ended"] == "stopped early"
    assert len(losses) == best + 3 < 200
    assert out.splitlines()[2].startswith("stopped early after ")
    assert history["epochs"][0]["step"] == 9  # 270 of the 300 examples

    net, params = ap.load("runs/train/model.safetensors")[:2]
    (x, t), _ = ap.load_idx(images)
    held_out = ap.evaluate(net, params, (x[270:], t[270:]), loss=ap.SoftmaxCrossEntropy())
    assert held_out.loss == pytest.approx(losses[best], abs=1e-6)


def test_a_run_that_diverges_leaves_the_last_good_model(run, images):
    code, out, err = run(
        *("train", "--data", images, "--optimizer", "sgd", "--lr", "1e20", "--steps", "50")
    )
    assert code == 1
    assert err.startswith("anyprop: ")
    assert err.count("\n") == 1
    assert "in step " in err
    assert "lower the learning rate" in err
    history = read("runs/train")
    assert history["final"]["ended"] == "diverged"
    assert "diverged after " in out
    assert np.isfinite(ap.load("runs/train/model.safetensors").params.flat).all()


def test_ctrl_c_keeps_what_was_trained(data, tmp_path):
    # A shell's background job ignores SIGINT and hands that on, so ask for it again.
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from anyprop.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = ["--data", str(data), "--steps", "10000000", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    head = process.stdout.readline()
    assert head.endswith(": 10000000 steps\n")
    time.sleep(2)
    process.send_signal(2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    assert "interrupted after " in out
    history = read(tmp_path / "out")
    assert history["final"]["ended"] == "interrupted"
    assert 0 < history["final"]["steps"] == len(history["losses"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_the_module_is_the_command(images, tmp_path):
    for argv in (["--version"], ["train", "--data", str(images), "--steps", "2"]):
        done = subprocess.run(
            [sys.executable, "-m", "anyprop", *argv], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "runs" / "train")["final"]["steps"] == 2
    wrong = subprocess.run(
        [sys.executable, "-m", "anyprop", "trian"], capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "anyprop: unknown command 'trian'; did you mean 'train'?\n"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_at_its_own_learning_rate(optimizer, run, images):
    # Rprop compares signs from step to step, so its batches are all the data.
    batch = "300" if optimizer == "rprop" else "20"
    code, _, err = run(
        *("train", "--data", images, "--hidden", "16", "--steps", "60", "--batch-size", batch),
        *("--optimizer", optimizer, "--out", "out"),
    )
    assert (code, err) == (0, "")
    losses = read("out")["losses"]
    assert np.mean(losses[-5:]) < losses[0]


def test_a_thread_leaves_sigterm_to_the_main_thread():
    """Only the main thread may set what a signal does; a program may call `main` in another."""
    seen = []

    def look():
        before = signal.getsignal(signal.SIGTERM)
        with sigterm_interrupts() as came:
            seen.append((came, signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [([], True)]
