"""A data set small enough that a run takes a moment."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from anyprop.cli import main


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def examples(train: int = 300, test: int = 60) -> dict[str, np.ndarray]:
    """Draw images of 6 x 6 pixels in three classes: which pair of rows is bright, under noise."""
    rng = np.random.default_rng(7)
    arrays = {}
    for part, n in (("train", train), ("test", test)):
        labels = rng.integers(0, 3, n)
        bright = np.arange(6)[:, None] // 2 == labels[:, None, None]
        images = rng.integers(0, 200, (n, 6, 6)) + 55 * bright
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels.astype(np.uint8)}
    return arrays


def write_images(folder: Path, train: int = 300, test: int = 60) -> None:
    """Write IDX files of `examples`."""
    folder.mkdir()
    arrays = examples(train, test)
    for part, name in (("train", "train"), ("test", "t10k")):
        write_idx(folder / f"{name}-images-idx3-ubyte", arrays[f"x_{part}"])
        write_idx(folder / f"{name}-labels-idx1-ubyte", arrays[f"y_{part}"])


@pytest.fixture(scope="session")
def make_images():
    return write_images


@pytest.fixture(scope="session")
def arrays():
    """The examples of `images`, by the names of their arrays."""
    return examples()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "images"
    write_images(folder)
    return folder


@pytest.fixture(scope="session")
def mapped(tmp_path_factory, arrays):
    """The examples of `images` in a folder of .npy files."""
    folder = tmp_path_factory.mktemp("npy")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture(params=["images", "mapped"])
def data(request):
    """The same examples, once held in memory and once read from mapped files while they are used."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return its exit code, its output and its complaints."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call
