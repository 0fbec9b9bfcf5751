"""`--data` with NumPy's files: the same numbers give the same run, whatever file they are in."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop.cli import train
from anyprop.cli._main import make_parser
from ranks import on_ranks


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


def test_a_file_that_holds_no_arrays_is_named_by_its_kind(run, forms):
    run("train", "--data", "a.npz", "--steps", "2", "--hidden", "8")
    Path("a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    code, _, err = run("predict", "--data", "a.h5")
    assert code == 2
    assert err.startswith("anyprop: a.h5 is an HDF5 file; --data takes mnist, an .npz file")
    assert err.endswith("or one .npy or IDX file of images.\n")


def test_a_part_that_is_not_needed_is_not_read(run, forms, arrays):
    run("train", "--data", "a.npz", "--steps", "2", "--hidden", "8")
    np.savez("a.npz", **{**arrays, "x_train": np.zeros(3, complex)})
    assert run("predict", "--data", "a.npz")[0] == 0


def test_the_same_examples_are_held_out(run, images, mapped):
    words = ("--early-stopping", "1", "--epochs", "30", "--lr", "0.01", "--hidden", "8")
    found = []
    for data, out in ((images, "held"), (mapped, "read")):
        code, _, err = run("train", "--data", data, *words, "--out", out)
        assert (code, err) == (0, "")
        found.append(read(out)[:2])
    (losses, final), (others, other) = found
    assert losses == others
    assert final["test_loss"] == other["test_loss"]
    assert final["ended"] == "stopped early"


def test_ranks_read_their_own_rows(mapped, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def rank(words):
        args = vars(make_parser().parse_args(words))

        def run(communicator):
            with contextlib.ExitStack() as held:
                return train._run(argparse.Namespace(**args), communicator, held)

        return run

    for data, out in ((images, "held"), (mapped, "read")):
        words = ["train", "--data", str(data), "--steps", "25", "--dtype", "float64", "--out", out]
        assert on_ranks(3, rank([*words, "--hidden", "8", "--batch-size", "20"])) == [0, 0, 0]
    assert read("held")[0] == read("read")[0]
    assert read("held")[1]["test_loss"] == read("read")[1]["test_loss"]


def test_a_folder_is_read_while_it_trains_and_an_archive_before(run, forms):
    for data, reads in (("a.npz", False), ("npy", True)):
        assert run("train", "--data", data, "--epochs", "2", "--hidden", "8")[0] == 0
        epochs = json.loads(Path("runs/train/history.json").read_text())["epochs"]
        assert [epoch["waited"] is not None for epoch in epochs] == [reads, reads]


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


@pytest.fixture
def table(tmp_path):
    """Three classes that only columns far from 0, and of different sizes, tell apart."""
    rng = np.random.default_rng(3)
    held = {}
    for part, n in (("train", 300), ("test", 90)):
        y = rng.integers(0, 3, n)
        x = rng.normal(size=(n, 4)) + 4.0 * np.eye(4)[y]
        held |= {f"x_{part}": x * [1e-3, 1.0, 1e3, 0.0] + [0.0, 500.0, -1e4, 7.0], f"y_{part}": y}
    np.savez(tmp_path / "table.npz", **held)
    (tmp_path / "table").mkdir()
    for name, array in held.items():
        np.save(tmp_path / "table" / f"{name}.npy", array)
    return held["x_train"]


def test_a_table_is_standardized_by_the_network(backend, run, table):
    place = ["--backend", backend.name]
    place += ["--device", backend.device_name] if backend.device_name else []
    words = (
        "--standardize",
        "--dtype",
        "float64",
        "--steps",
        "60",
        "--hidden",
        "8",
        "--lr",
        "0.02",
    )
    runs = []
    for data in ("table.npz", "table"):
        code, out, err = run("train", "--data", data, *words, *place, "--out", f"out-{data}")
        assert (code, err) == (0, "")
        assert out.startswith("4-8-3 network")
        losses, final, model = read(f"out-{data}")
        assert final["test_accuracy"] > 0.95
        np.testing.assert_allclose(model.net.layers[0].scale[:3], 1 / table.std(axis=0)[:3])
        assert run("predict", f"out-{data}", "--data", data, *place)[1].endswith(
            f"accuracy {final['test_accuracy']:.4f}\n"
        )
        runs.append((losses, final["test_loss"], model.net))
    assert runs[0] == runs[1]


def test_compare_standardizes_too(run, table):
    words = ("--data", "table", "--steps", "60", "--hidden", "8", "--standardize")
    assert run("compare", "adam:0.02", *words)[0] == 0
    runs = json.loads(Path("runs/compare/compare.json").read_text())["runs"]
    assert runs["adam, lr 0.02"]["final"]["test_accuracy"] > 0.95
