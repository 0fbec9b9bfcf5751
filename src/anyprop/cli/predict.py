"""Predict the classes of images with a trained model.

Prints how many images were predicted as each class and, where there are labels, how many are right.
A digit of one's own, on paper or drawn with a mouse, is a PNG or JPEG file:

    anyprop predict --image three.png

It is prepared as the digits of MNIST were: grey, bright on dark, cropped, scaled into 20 x 20 pixels and
placed in 28 x 28 by its centre of mass.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from anyprop._numerics import all_finite
from anyprop._text import printable, table
from anyprop._typing import Device, Namespace
from anyprop.backend import dtype_name, from_host, to_host
from anyprop.cli._data import ONE_FILE, TAKES, Inputs, files_of, load_inputs
from anyprop.cli._files import check_apart, check_writable, write_text
from anyprop.cli._model import add_model, load_network, model_file
from anyprop.cli._options import add_place
from anyprop.cli._parser import Parser, WrongCallError, option, wrong_calls
from anyprop.cli._task import get_place
from anyprop.data import load_image
from anyprop.layers.base import Layer
from anyprop.layers.dropout import Dropout
from anyprop.layers.identity import Identity
from anyprop.layers.sequential import Sequential
from anyprop.layers.softmax import Softmax
from anyprop.training.evaluate import predict


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    add_model(parser)
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--data",
        default="mnist",
        metavar="mnist|FOLDER|FILE",
        help=f"the test part of MNIST (the default) or of {TAKES}; or {ONE_FILE}",
    )
    images.add_argument(
        "--image",
        nargs="+",
        metavar="FILE",
        help="PNG or JPEG files instead, each of one digit on an even ground",
    )
    option(parser, "--out", "FILE", str, None, "write a CSV file with one row for each image")
    add_place(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, print the summary, write the file."""
    with wrong_calls():
        xp, device = get_place(args)
        args.model = model_file(args.model)
        net, model = load_network(args.model, xp=xp, device=device)
        params = model.params
        dtype = dtype_name(params.flat)
        if args.image is None:
            given = load_inputs(args.data, xp, device, dtype)
            what = f"{args.data} holds {given.shape[0]} rows of {given.shape[1]}"
        else:
            given = _load_pictures(args.image, xp, device, dtype)
            what = (
                f"{args.image[0]} is prepared to have {given.shape[1]} pixels, as a digit of MNIST"
            )
        if net.width_in not in (None, given.shape[1]):
            raise WrongCallError(f"{args.model} takes rows of {net.width_in} numbers, but {what}")
        if net.output_shape(given.shape)[1] == 1:
            raise WrongCallError(
                f"{args.model} has one output, but there is one for each class where classes are "
                "predicted; call anyprop.predict for its numbers"
            )
        if args.out is not None:
            check_apart(args.out, [args.model, *(args.image or files_of(args.data))], "reads")
            check_writable(Path(args.out))
    with np.errstate(all="ignore"):
        y = predict(net, params, given.x)
        p = to_host(y if _ends_in_softmax(net) else Softmax().forward(params, y)[0])
    if not np.isfinite(p).all():  # of pixels that are all finite
        raise WrongCallError(
            f"{args.model} computes NaN for some of the images, so its parameters are of no use"
            if not all(map(all_finite, params.named().values()))
            else f"the outputs of {args.model} overflow {dtype}: these numbers are far from those that "
            "it was trained on; scale them alike"
        )
    if args.out is not None:
        try:
            write_text(Path(args.out), _table(p, given.labels, args.image))
        except OSError as error:
            raise WrongCallError(f"cannot write {args.out}: {error.strerror}") from None
    print(_summary(p, given.labels) if args.image is None else printable(_guesses(p, args.image)))
    return 0


def _ends_in_softmax(net: Layer) -> bool:
    """Return whether the outputs are probabilities already."""
    while type(net) is Sequential:
        last = [layer for layer in net.layers if type(layer) not in (Dropout, Identity)][-1:]
        if not last:
            return False
        net = last[0]
    return type(net) is Softmax


def _load_pictures(names: list[str], xp: Namespace, device: Device, dtype: str) -> Inputs:
    """Load pictures of digits as rows of pixels in [0, 1]."""
    rows = np.concatenate([load_image(name, dtype=dtype) for name in names])
    return Inputs(from_host(rows, xp, device=device), None, rows.shape)


def _table(p: Any, labels: Any, names: list[str] | None) -> str:
    """Return a row for each image as CSV."""
    which = {"index": range(len(p))} if names is None else {"image": names}
    columns = {**which, "predicted": p.argmax(axis=1), "probability": p.max(axis=1)}
    if labels is not None:
        columns["label"] = labels
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()


def _guesses(p: Any, names: list[str]) -> str:
    """Lay out for each picture the most probable class, and those that come next."""
    rows = []
    for name, row in zip(names, p, strict=True):
        first, *others = np.argsort(-row)[:3]
        then = ", ".join(f"{k} {row[k]:.2%}" for k in others)
        rows.append([name, str(first), f"{row[first]:.2%}", then])
    return table(["image", "guess", "probability", "then"], rows)


def _summary(p: Any, labels: Any) -> str:
    predicted = p.argmax(axis=1)
    columns, end = {"predicted": predicted}, f"{len(p)} images"
    if labels is not None:
        right = predicted == labels
        columns |= {"labelled": labels, "right": labels[right]}
        end += f", {right.sum()} right: accuracy {right.mean():.4f}"
    rows = [
        [str(k), *(str(np.sum(classes == k)) for classes in columns.values())]
        for k in range(p.shape[1])
    ]
    return f"{table(['class', *columns], rows)}\n\n{end}"
