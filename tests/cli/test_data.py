"""`--data` with NumPy's files: the same numbers give the same run, whatever file they are in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap


@pytest.fixture
def forms(images, arrays, tmp_path):
    """The same examples as IDX files, in archives and in folders."""
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    labels = {
        name: array.astype(">i2")[:, None] for name, array in arrays.items() if name[0] == "y"
    }
    rows = {name: array.reshape(-1, 36) for name, array in arrays.items() if name[0] == "x"}
    np.savez(tmp_path / "rows.npz", **rows, **labels)
    floats = {name: array / 255 for name, array in rows.items()}
    np.savez(tmp_path / "floats.npz", **floats, **labels)
    (tmp_path / "floats.npz").rename(tmp_path / "floats.data")
    for folder, held in (("npy", arrays), ("columns", {**floats, **labels})):
        (tmp_path / folder).mkdir()
        for name, array in held.items():
            np.save(tmp_path / folder / f"{name}.npy", np.asfortranarray(array))
    return [images, "a.npz", "small.npz", "rows.npz", "floats.data", "npy", "columns"]


def read(folder):
    history = json.loads((Path(folder) / "history.json").read_text())
    model = ap.load(Path(folder) / "model.safetensors")
    return history["losses"], history["final"], model


@pytest.mark.parametrize("options", ["", "--dtype float64 --norm batch --dropout 0.2 --epochs 3"])
def test_the_same_numbers_give_the_same_run_and_the_same_predictions(options, backend, run, forms):
    place = ["--backend", backend.name]
    place += ["--device", backend.device_name] if backend.device_name else []
    options = options or "--steps 20"
    found = []
    for i, data in enumerate(forms):
        words = ("--data", data, "--hidden", "8", *options.split(), *place, "--out", f"out{i}")
        code, out, err = run("train", *words)
        assert (code, err) == (0, "")
        losses, final, model = read(f"out{i}")
        assert run("predict", f"out{i}", "--data", data, "--out", "p.csv", *place)[::2] == (0, "")
        found.append(
            (
                losses,
                (final["test_accuracy"], final["test_loss"]),
                np.asarray(model.params.flat).tobytes(),
                model.net,
                out.splitlines()[0],
                Path("p.csv").read_text(),
            )
        )
    assert len(found[0][0]) >= 9
    assert all(other == found[0] for other in found[1:])


def test_a_model_takes_the_same_examples_from_any_file(run, forms, images):
    run("train", "--data", "npy", "--steps", "20", "--hidden", "8")
    _, expected, _ = run("predict", "--data", images)
    assert "60 images, " in expected
    for data in forms:
        assert run("predict", "--data", data) == (0, expected, "")


@pytest.mark.parametrize("folder", ["npy", "columns"])
def test_one_file_of_images_has_no_labels(folder, run, forms, images):
    run("train", "--data", images, "--steps", "20", "--hidden", "8")
    code, expected, _ = run("predict", "--data", images / "t10k-images-idx3-ubyte")
    assert code == 0
    assert run("predict", "--data", f"{folder}/x_test.npy") == (0, expected, "")


def test_a_part_that_is_not_needed_is_not_read(run, forms, arrays):
    run("train", "--data", "a.npz", "--steps", "2", "--hidden", "8")
    np.savez("a.npz", **{**arrays, "x_train": np.zeros(3, complex)})
    assert run("predict", "--data", "a.npz")[0] == 0


def test_compare_takes_them(run, forms, images):
    tables = []
    for data in (images, "a.npz", "npy"):
        code, out, err = run("compare", "sgd", "adam", "--data", data, "--steps", "9")
        assert (code, err) == (0, "")
        tables.append(out)
    assert tables[1] == tables[2] == tables[0]


def test_a_run_goes_on_from_another_file_of_the_same_numbers(run, forms):
    words = ("train", "--checkpoint-every", "4", "--hidden", "8", "--batch-size", "70")
    assert run(*words, "--data", "npy", "--steps", "10", "--out", "whole")[0] == 0
    assert run(*words, "--data", "npy", "--steps", "6", "--out", "parts")[0] == 0
    code, out, err = run(*words, "--data", "a.npz", "--steps", "10", "--out", "parts", "--resume")
    assert (code, err) == (0, "")
    assert "resumed after 6" in out
    assert read("whole")[0] == read("parts")[0]


def test_labels_of_no_example_keep_their_outputs(run, arrays):
    np.savez("a.npz", **{**arrays, "y_test": np.full(60, 26, "u4")})
    code, out, _ = run("train", "--data", "a.npz", "--steps", "2", "--hidden", "8")
    assert code == 0
    assert out.startswith("36-8-27 network")


def test_what_the_folder_of_idx_files_holds_besides_does_not_matter(run, images, tmp_path, arrays):
    folder = tmp_path / "idx"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    np.save(folder / "cache.npy", arrays["x_test"])
    assert run("train", "--data", folder, "--steps", "2", "--hidden", "8")[0] == 0
