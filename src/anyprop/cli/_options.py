"""The options that several commands share.

Only what the library does not check before training starts is checked here: it knows its own names and
ranges, and its refusals reach the user as they are.
"""

from __future__ import annotations

import argparse

from anyprop._checks import unknown
from anyprop.cli._data import TAKES
from anyprop.cli._parser import Parser, checked
from anyprop.layers.registry import ACTIVATIONS
from anyprop.schedules.registry import SCHEDULES


def add_place(parser: Parser) -> None:
    """Add `--backend` and `--device`."""
    group = parser.add_argument_group("where to compute")
    group.add_argument(
        "--backend",
        default="numpy",
        metavar="NAME",
        help="one that `anyprop backends` lists (default: numpy)",
    )
    group.add_argument(
        "--device", metavar="NAME", help="one of that backend's devices (default: its first)"
    )


def add_data(parser: Parser) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        default="mnist",
        metavar="mnist|FOLDER|FILE",
        help=f"the MNIST digits that come with anyprop (the default), {TAKES} named as MNIST's are; "
        ".npy files may be larger than the memory",
    )


def add_network(parser: Parser) -> None:
    """Add the options of the network and its starting values."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--hidden",
        type=checked(sizes),
        default=[200, 200],
        metavar="N,N,...",
        help="units of the hidden layers (default: 200,200)",
    )
    group.add_argument(
        "--activation",
        default="relu",
        metavar="NAME",
        help=f"{', '.join(ACTIVATIONS)} (default: relu)",
    )
    group.add_argument(
        "--norm",
        metavar="NAME",
        help="normalize before each activation: batch or layer (default: neither)",
    )
    group.add_argument(
        "--residual",
        action="store_true",
        help="add its input to every hidden layer that keeps the width",
    )
    group.add_argument(
        "--standardize",
        action="store_true",
        help="begin with a layer that scales each column by its mean and standard deviation in the "
        "training data: for tables, whose floats are taken as they are otherwise",
    )
    group.add_argument(
        "--dropout",
        type=float,
        default=0.0,
        metavar="P",
        help="probability that a hidden unit is dropped while training (default: 0)",
    )
    group.add_argument(
        "--weights",
        default="he_normal",
        metavar="NAME",
        help="how weights start, such as glorot_uniform or normal:0.01 (default: he_normal)",
    )
    group.add_argument(
        "--dtype",
        type=checked(dtype),
        default="float32",
        metavar="NAME",
        help="float32 (the default) or float64",
    )


def add_training(parser: Parser) -> argparse._ArgumentGroup:
    """Add the options of the training; return the group of options."""
    group = parser.add_argument_group("training")
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--steps",
        type=checked(count),
        default=1000,
        metavar="N",
        help="number of updates (default: 1000)",
    )
    length.add_argument(
        "--epochs", type=checked(count), metavar="N", help="number of epochs, instead of --steps"
    )
    group.add_argument(
        "--batch-size",
        type=checked(count),
        default=100,
        metavar="N",
        help="examples in a batch (default: 100)",
    )
    group.add_argument(
        "--accumulate",
        type=checked(count),
        default=1,
        metavar="N",
        help="parts that a batch is split into, to save memory (default: 1)",
    )
    group.add_argument(
        "--schedule",
        default="constant",
        metavar="NAME",
        help=f"how the learning rate changes: {', '.join(SCHEDULES)} (default: constant)",
    )
    group.add_argument(
        "--weight-decay",
        type=float,
        default=0.0,
        metavar="X",
        help="weight decay, of weights but not of biases and norms (default: 0)",
    )
    group.add_argument(
        "--clip-norm",
        type=float,
        metavar="X",
        help="largest norm that the whole gradient keeps (default: no limit)",
    )
    group.add_argument(
        "--seed",
        type=checked(seed),
        default=8,
        metavar="N",
        help="what weights, batches and dropout are drawn from (default: 8)",
    )
    return group


def add_output(parser: Parser, folder: str) -> None:
    """Add `--out` and `--no-progress`."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        default=folder,
        metavar="FOLDER",
        help=f"where the files go; older ones there are replaced (default: {folder})",
    )
    group.add_argument(
        "--no-progress",
        action="store_true",
        help="show no progress bar; there is none outside a terminal either",
    )


def dtype(text: str) -> str:
    """Check the name of a dtype that networks are trained in."""
    if text not in ("float32", "float64"):
        raise unknown("dtype", text, ("float32", "float64"))
    return text


def count(text: str, least: int = 1) -> int:
    """Read a whole number of at least `least`."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"must be a whole number of at least {least}, not {text!r}")
    return value


def seed(text: str) -> int:
    """Read a whole number of at least 0."""
    return count(text, least=0)


def sizes(text: str) -> list[int]:
    """Read whole numbers of at least 1 separated by commas."""
    try:
        return [count(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"must be whole numbers of at least 1, separated by commas, as in 200,200, not {text!r}"
        ) from None
