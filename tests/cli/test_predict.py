"""`anyprop predict`: classes, the summary, and the CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

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
        f"anyprop: {model} takes rows of 36 numbers, but the images of mnist have 784 pixels.\n"
    )
    labels = images / "t10k-labels-idx1-ubyte"
    assert "expected images: (N, H, W) uint8" in complaint(model, "--data", labels)
    assert "nowhere/p.csv: No such file" in complaint(
        model, "--data", images, "--out", "nowhere/p.csv"
    )
    ap.save("bare.safetensors", ap.load(model).params)
    assert complaint("bare.safetensors", "--data", images) == (
        "anyprop: bare.safetensors holds parameters without their network.\n"
    )
