"""Predict the classes of images with a trained model.

Prints how many images were predicted as each class and, where there are labels, how many are right.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from anyprop._text import table
from anyprop._typing import Array, Device, Namespace
from anyprop.backend import dtype_name, from_host, to_host
from anyprop.checkpoint import load
from anyprop.cli._files import check_writable, write_text
from anyprop.cli._options import add_place
from anyprop.cli._parser import Parser, WrongCallError, wrong_calls
from anyprop.cli._task import get_place, load_data
from anyprop.data.idx import read_idx
from anyprop.layers.softmax import Softmax
from anyprop.training.evaluate import predict


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", help="a file that `anyprop train` wrote")
    parser.add_argument(
        "--data",
        default="mnist",
        metavar="mnist|FOLDER|FILE",
        help="the test part of MNIST (the default) or of a folder with four IDX files named as "
        "MNIST's are, or one IDX file of images",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write a CSV file with one row for each image"
    )
    add_place(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, print the summary, write the file."""
    with wrong_calls():
        xp, device = get_place(args)
        model = load(args.model, xp=xp, device=device)
        net, params = model.net, model.params
        x, t = _load(args.data, xp, device, dtype_name(params.flat))
        if net is None:
            raise WrongCallError(f"{args.model} holds parameters without their network")
        width = net.width_in
        if width not in (None, x.shape[1]):
            raise WrongCallError(
                f"{args.model} takes rows of {width} numbers, but the images of {args.data} have "
                f"{x.shape[1]} pixels"
            )
        if args.out is not None:
            check_writable(Path(args.out))
    p = to_host(Softmax().forward(params, predict(net, params, x))[0])
    labels = None if t is None else to_host(t)
    if args.out is not None:
        try:
            write_text(Path(args.out), _table(p, labels))
        except OSError as error:
            raise WrongCallError(f"cannot write {args.out}: {error.strerror}") from None
    print(_summary(p, labels))
    return 0


def _load(name: str, xp: Namespace, device: Device, dtype: str) -> tuple[Array, Array | None]:
    """Load images as rows of pixels in [0, 1], and their labels or None."""
    if not Path(name).is_file():
        return load_data(name, xp, device, dtype)[1]
    images = read_idx(name)
    if images.dtype != np.uint8 or images.ndim < 2 or images.size == 0:
        raise WrongCallError(
            f"{name} holds {images.shape} {images.dtype}, expected images: (N, H, W) uint8"
        )
    rows = images.reshape(len(images), -1).astype(dtype) / np.asarray(255, dtype)
    return from_host(rows, xp, device=device), None


def _table(p: Any, labels: Any) -> str:
    """Return a row for each image as CSV."""
    columns = {"index": range(len(p)), "predicted": p.argmax(axis=1), "probability": p.max(axis=1)}
    if labels is not None:
        columns["label"] = labels
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()


def _summary(p: Any, labels: Any) -> str:
    classes, predicted = range(p.shape[1]), p.argmax(axis=1)
    if labels is None:
        rows = [[str(k), str(np.sum(predicted == k))] for k in classes]
        return f"{table(['class', 'predicted'], rows)}\n\n{len(p)} images"
    right = predicted == labels
    rows = [
        [
            str(k),
            str(np.sum(predicted == k)),
            str(np.sum(labels == k)),
            str(np.sum(right[labels == k])),
        ]
        for k in classes
    ]
    lines = table(["class", "predicted", "labelled", "right"], rows)
    return f"{lines}\n\n{len(p)} images, {right.sum()} right: accuracy {right.mean():.4f}"
