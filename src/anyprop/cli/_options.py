"""The options that several commands share.

Only what the library does not check before training starts is checked here: it knows its own names and
ranges, and its refusals reach the user as they are.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError

from anyprop.cli._data import TAKES
from anyprop.cli._parser import Parser, option
from anyprop.layers.registry import ACTIVATIONS
from anyprop.schedules.registry import SCHEDULES


def add_place(parser: Parser) -> None:
    """Add `--backend` and `--device`."""
    group = parser.add_argument_group("where to compute")
    option(group, "--backend", "NAME", str, "numpy", "one that `anyprop backends` lists")
    option(
        group, "--device", "NAME", str, None, "one of that backend's devices (default: its first)"
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
    option(group, "--hidden", "N,N,...", sizes, "200,200", "units of the hidden layers")
    option(group, "--activation", "NAME", str, "relu", ", ".join(ACTIVATIONS))
    norm = "normalize before each activation: batch or layer (default: neither)"
    option(group, "--norm", "NAME", str, None, norm)
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
    dropout = "probability that a hidden unit is dropped while training"
    option(group, "--dropout", "P", float, "0", dropout)
    weights = "how weights start, such as glorot_uniform or normal:0.01"
    option(group, "--weights", "NAME", str, "he_normal", weights)
    group.add_argument(
        "--dtype",
        type=dtype,
        default="float32",
        metavar="NAME",
        help="float32 (the default) or float64",
    )


def add_training(parser: Parser) -> argparse._ArgumentGroup:
    """Add the options of the training; return the group of options."""
    group = parser.add_argument_group("training")
    length = group.add_mutually_exclusive_group()
    option(length, "--steps", "N", count, "1000", "number of updates")
    option(length, "--epochs", "N", count, None, "number of epochs, instead of --steps")
    option(group, "--batch-size", "N", count, "100", "examples in a batch")
    option(
        group, "--accumulate", "N", count, "1", "parts that a batch is split into, to save memory"
    )
    schedules = ", ".join(SCHEDULES)
    option(
        group, "--schedule", "NAME", str, "constant", f"how the learning rate changes: {schedules}"
    )
    decay = "weight decay, of weights but not of biases and norms"
    option(group, "--weight-decay", "X", float, "0", decay)
    clipping = "largest norm that the whole gradient keeps (default: no limit)"
    option(group, "--clip-norm", "X", float, None, clipping)
    option(group, "--seed", "N", seed, "8", "what weights, batches and dropout are drawn from")
    return group


def add_output(parser: Parser, folder: str) -> None:
    """Add `--out` and `--no-progress`."""
    group = parser.add_argument_group("output")
    option(
        group, "--out", "FOLDER", str, folder, "where the files go; older ones there are replaced"
    )
    group.add_argument(
        "--no-progress",
        action="store_true",
        help="show no progress bar; there is none outside a terminal either",
    )


def dtype(text: str) -> str:
    """Check the name of a dtype that networks are trained in."""
    if text not in ("float32", "float64"):
        # Both, as names of other dtypes are near to one of them and mean something else.
        raise ArgumentTypeError(f"must be float32 or float64, not {text!r}")
    return text


def count(text: str, least: int = 1) -> int:
    """Read a whole number of at least `least`."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
    return value


def seed(text: str) -> int:
    """Read a whole number of at least 0."""
    return count(text, least=0)


def sizes(text: str) -> list[int]:
    """Read whole numbers of at least 1 separated by commas."""
    try:
        return [count(part) for part in text.split(",")]
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"must be whole numbers of at least 1, separated by commas, as in 200,200, not {text!r}"
        ) from None
