"""Finds the four files of an MNIST-like data set in a directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(
    r"(?P<prefix>(?:.+-)?)(?P<split>train|t10k|test)-(?P<kind>images[-.]idx3|labels[-.]idx1)"
    r"-ubyte(?:\.gz)?"
)


class DataFiles(NamedTuple):
    """Paths of the four files that make a data set."""

    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path


def find_files(directory: Path) -> DataFiles:
    """Find the images and labels for training and testing in a directory, which exists.

    Names are those of MNIST (``train-images-idx3-ubyte``, ``t10k-labels.idx1-ubyte``, ...) or EMNIST
    (``emnist-letters-test-labels-idx1-ubyte``, ...), with or without ``.gz``; anything else in the
    directory is ignored.

    Raises
    ------
    FileNotFoundError
        One of the four is missing.
    ValueError
        There are several candidates for one of them, or the four belong to different data sets.
    """
    candidates: dict[str, list[Path]] = {role: [] for role in DataFiles._fields}
    prefixes = set()
    for path in sorted(directory.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            split = "train" if match["split"] == "train" else "test"
            candidates[f"{split}_{match['kind'][:6]}"].append(path)
            prefixes.add(match["prefix"])

    for role, paths in candidates.items():
        if not paths:
            inside = [path.parent for path in sorted(directory.glob(f"*/{_example(role)}*"))]
            inside += [path.parent for path in sorted(directory.glob(f"*/*/{_example(role)}*"))]
            hint = f"; did you mean {inside[0]}?" if inside else "."
            raise FileNotFoundError(
                f"{directory} holds no {role.replace('_', ' ')}; expected a file named such as "
                f"{_example(role)}, perhaps with .gz{hint}"
            )
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise ValueError(
                f"{directory} holds several files of {role.replace('_', ' ')}: {names}; "
                "give each data set a directory of its own, with one copy of each file."
            )
    if len(prefixes) > 1:
        names = ", ".join(paths[0].name for paths in candidates.values())
        raise ValueError(
            f"{directory} mixes files of different data sets: {names}; "
            "expected four names that begin alike."
        )
    return DataFiles(**{role: paths[0] for role, paths in candidates.items()})


def _example(role: str) -> str:
    split, kind = role.split("_")
    rank = 3 if kind == "images" else 1
    return f"{'train' if split == 'train' else 't10k'}-{kind}-idx{rank}-ubyte"
