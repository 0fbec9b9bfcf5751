"""`anyprop predict`: classes, the summary, and the CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anyprop as ap


@pytest.fixture
def model(run, images):
    run("train", "--data", images, "--steps", "60", "--hidden", "30", "--norm", "batch")
    return "runs/train/model.safetensors"


def test_predictions_of_a_data_set(run, model, images):
    code, out, err = run("predict", model, "--data", images, "--out", "classes.csv")
    assert (code, err) == (0, "")

    _, (x, t) = ap.load_idx(images)
    net, params = ap.load(model)[:2]
    y = net.forward(params, x)[0]
    predicted = np.argmax(y, axis=1)
    right = predicted == t
    assert right.mean() > 0.6
    assert out.splitlines()[-1] == f"60 images, {right.sum()} right: accuracy {right.mean():.4f}"
    assert [row.split() for row in out.splitlines()[1:4]] == [
        [str(k), *(str(v.sum()) for v in (predicted == k, t == k, right & (t == k)))]
        for k in range(3)
    ]

    with open("classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(60))
    assert [int(row["predicted"]) for row in rows] == predicted.tolist()
    assert [int(row["label"]) for row in rows] == t.tolist()
    other = np.exp(y - y.max(axis=1, keepdims=True)).sum(axis=1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], 1 / other, rtol=1e-5)


def test_predictions_of_images_without_labels(run, model, images):
    run("predict", model, "--data", images, "--out", "with.csv")
    file = images / "t10k-images-idx3-ubyte"
    code, out, err = run("predict", model, "--data", file, "--out", "without.csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "60 images"
    with_labels, without = (
        [line.split(",") for line in Path(name).read_text().splitlines()]
        for name in ("with.csv", "without.csv")
    )
    assert without == [row[:3] for row in with_labels]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_backend_reads_the_model(dtype, backend, run, images):
    run("train", "--data", images, "--steps", "20", "--hidden", "8", "--dtype", dtype)
    model = "runs/train/model.safetensors"
    place = ["--backend", backend.name]
    place += ["--device", backend.device_name] if backend.device_name else []
    _, expected, _ = run("predict", model, "--data", images)
    assert run("predict", model, "--data", images, *place) == (0, expected, "")


def test_models_and_images_that_do_not_fit(run, model, images):
    def complaint(*argv):
        code, out, err = run("predict", *argv)
        assert (code, out) == (2, "")
        return err

    assert complaint(model) == (
        f"anyprop: {model} takes rows of 36 numbers, but mnist holds 10000 rows of 784.\n"
    )
    labels = images / "t10k-labels-idx1-ubyte"
    assert "expected one row or image for each example" in complaint(model, "--data", labels)
    assert "nowhere/p.csv: No such file" in complaint(
        model, "--data", images, "--out", "nowhere/p.csv"
    )
    ap.save("bare.safetensors", ap.load(model).params)
    assert complaint("bare.safetensors", "--data", images) == (
        "anyprop: bare.safetensors holds parameters without their network.\n"
    )


def test_a_network_that_computes_nan_predicts_nothing(run, images, tmp_path):
    net = ap.MLP([36, 3])
    params = net.init()
    ap.save("bad.safetensors", params.replace(flat=params.flat * np.float32(np.nan)), net=net)
    code, out, err = run("predict", "bad.safetensors", "--data", images, "--out", "a.csv")
    assert (code, out) == (2, "")
    assert "bad.safetensors computes NaN for some of the images" in err
    assert not (tmp_path / "a.csv").exists()


@pytest.fixture
def digits(run):
    run("train", "--steps", "60", "--hidden", "30", "--no-progress", "--out", "digits")
    return "digits"


def draw(name, x):
    grey = Image.fromarray((255 - x.reshape(28, 28) * 255).round().astype(np.uint8))
    grey.resize((140, 140)).save(name)


def test_pictures_of_one_s_own_digits(run, digits):
    _, (x, _) = ap.load_mnist()
    names = ["one.png", "two.jpg"]
    for name, row in zip(names, x, strict=False):
        draw(name, row)
    code, out, err = run("predict", digits, "--image", *names, "--out", "guesses.csv")
    assert (code, err) == (0, "")

    net, params = ap.load("digits/model.safetensors")[:2]
    y = ap.predict(net, params, np.concatenate([ap.load_image(name) for name in names]))
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    lines = out.splitlines()
    assert lines[0].split() == ["image", "guess", "probability", "then"]
    for name, line, row in zip(names, lines[1:], p, strict=True):
        first, second, third = np.argsort(-row)[:3]
        shown = [name, str(first), f"{row[first]:.2%}", str(second), f"{row[second]:.2%},"]
        assert line.split() == [*shown, str(third), f"{row[third]:.2%}"]
    with open("guesses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == names
    assert [int(row["predicted"]) for row in rows] == p.argmax(axis=1).tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], p.max(1), rtol=1e-5)


def test_pictures_that_do_not_fit(run, model, digits):
    draw("a.png", ap.load_mnist()[1][0][0])
    Path("notes.txt").write_text("three")
    for argv, complaint in {
        (model, "--image", "a.png"): f"{model} takes rows of 36 numbers, but a.png is prepared to "
        "have 784 pixels, as a digit of MNIST.",
        (
            digits,
            "--image",
            "notes.txt",
        ): "notes.txt is a text file; expected a PNG or JPEG picture of one digit.",
        (
            digits,
            "--data",
            "a.png",
        ): "a.png is a PNG picture; to have its digit read, write --image a.png.",
    }.items():
        assert run("predict", *argv) == (2, "", f"anyprop: {complaint}\n")


@pytest.mark.parametrize("command", ["predict {} --data {}", "inspect {}", "export {} --torch out"])
def test_the_folder_of_a_run_is_its_network(command, run, model, images):
    by_file = run(*command.format(model, images).split())
    assert by_file[0] == 0
    assert run(*command.format("runs/train", images).split()) == by_file


def test_what_train_wrote_last_is_the_network_unless_another_is_named(run, model, images):
    assert run("predict", "--data", images) == run("predict", model, "--data", images)
    run("export", "--torch", "a")
    run("export", model, "--torch", "b")
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_the_folder_of_a_run_that_was_killed_names_its_checkpoint(run, model, images):
    every = ("--checkpoint-every", "5")
    run("train", "--data", images, "--steps", "10", "--hidden", "4", "--out", "killed", *every)
    Path("killed/model.safetensors").unlink()
    newest = Path("killed/checkpoints/step-00000010.safetensors")
    code, out, err = run("inspect", "killed")
    assert (code, out) == (2, "")
    assert err == (
        "anyprop: killed is a folder without model.safetensors, which `anyprop train` writes; take "
        f"its newest checkpoint, {newest}.\n"
    )
    assert run("inspect", newest)[0] == 0


def save(name, net):
    ap.save(name, net.init(), net=net)
    return name


def test_probabilities_of_a_network_that_ends_in_a_softmax(run, arrays):
    """They are its outputs, and not a softmax of them."""
    x = arrays["x_test"].reshape(60, -1)
    np.save("x.npy", x)
    logits = ap.Affine(36, 3)
    ends = [ap.Softmax(), ap.Sequential(ap.Softmax(), ap.Identity()), ap.Residual(ap.Softmax())]
    for i, end in enumerate(ends):
        for net in (logits, ap.Sequential(logits, end)):
            save("net", net)
            assert (
                run("predict", "net", "--data", "x.npy", "--out", f"{type(net).__name__}.csv")[0]
                == 0
            )
        alike = Path("Affine.csv").read_text() == Path("Sequential.csv").read_text()
        assert alike == (i < 2)  # x + softmax(x) are no probabilities


def test_one_output_names_no_class(run, arrays):
    np.save("x.npy", arrays["x_test"])
    code, out, err = run("predict", save("net", ap.Affine(36, 1)), "--data", "x.npy")
    assert (code, out) == (2, "")
    assert "net has one output" in err


def test_running_statistics_that_are_not_finite(run):
    np.save("x.npy", np.ones((3, 36), "float32"))
    net = ap.Sequential(ap.BatchNorm(36), ap.Affine(36, 3))
    params = net.init()
    ap.save("net", params.replace(running=params.running * np.nan), net=net)
    code, out, err = run("predict", "net", "--data", "x.npy")
    assert (code, out) == (2, "")
    assert "net computes NaN for some of the images, so its parameters are of no use" in err


def test_data_for_which_the_outputs_overflow(run):
    np.save("x.npy", np.full((3, 36), 3e38, "float32"))
    code, out, err = run("predict", save("net", ap.Affine(36, 3)), "--data", "x.npy")
    assert (code, out) == (2, "")
    assert err.startswith(
        "anyprop: the outputs of net overflow float32: these numbers are far from"
    )


def test_what_is_read_is_not_written_over(run, model, arrays, images):
    np.save("x.npy", arrays["x_test"])
    np.savez("data.npz", **arrays)
    Path("folder").mkdir()
    Path("elsewhere").symlink_to("folder", target_is_directory=True)
    for name, array in arrays.items():
        np.save(f"folder/{name}.npy", array)
    for out, given in (
        (model, ["--data", "x.npy"]),
        ("./x.npy", ["--data", "x.npy"]),
        ("data.npz", ["--data", "data.npz"]),
        *((f"elsewhere/{name}.npy", ["--data", "folder"]) for name in arrays),
        *((str(file), ["--data", images]) for file in images.iterdir()),
    ):
        before = Path(out).read_bytes()
        code, _, err = run("predict", "runs/train", *given, "--out", out)
        assert code == 2
        assert err == f"anyprop: {out} is a file that this command reads; name another to write.\n"
        assert Path(out).read_bytes() == before
    for _ in range(2):  # a table beside the data is none of them
        assert run("predict", model, "--data", "folder", "--out", "folder/out.csv")[0] == 0
    save("digits", ap.Affine(784, 10))
    assert run("predict", "digits", "--out", "mnist")[0] == 0
