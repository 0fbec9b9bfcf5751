"""What the contestants do: the same work from the same numbers.

A workload makes its arrays once, and every contestant gets them from one file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anyprop.data.mnist import load_mnist
from anyprop.network import MLP
from anyprop.training.batches import batch_indices

STEP, UPDATE, EPOCH, TRAINING = "step", "update", "epoch", "training"

RHO, EPS = 0.99, 1e-7  # of RMSProp
ADAM_EPS = 1e-12  # so small that it does not matter where an Adam adds it
SEED = 8
WANTED = 0.98  # share of the test digits that a training must get right


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Parameters
    ----------
    name : str
        Its name on the command line.
    title : str
        Its name in tables and charts.
    kind : {"step", "update", "epoch", "training"}
        What is counted.
    make : callable
        ``make(workload)`` returns the arrays by name, NumPy, float32 or int64.
    tolerance : float
        Largest difference from the reference, relative to max(|reference|, 0.01).
    lr : float
        Learning rate.
    sizes : tuple of int
        Units of the network's layers, the input first.
    batch_size : int
        Rows in a batch.
    batches : int
        Number of batches of a step; they are repeated in a circle.
    checked : int
        Number of steps, updates or epochs whose results are compared.
    chunk : int
        Steps that a contestant may do in one call, if it can.
    epochs : int
        Passes through the data in a training.
    devices : tuple of str
        Devices on which it is measured unless it is asked for by name.
    """

    name: str
    title: str
    kind: str
    make: Callable[[Workload], dict[str, Any]]
    tolerance: float
    lr: float = 1e-3
    sizes: tuple[int, ...] = ()
    batch_size: int = 0
    batches: int = 0
    checked: int = 1
    chunk: int = 1
    epochs: int = 1
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def operations(self) -> int:
        """Floating-point operations in the matrix products of a training step.

        Each layer has three: forward, for the gradient of its weights and for that of its input, which
        the first layer does without.
        """
        first, *others = (2 * self.batch_size * d * m for d, m in pairwise(self.sizes))
        return 2 * first + 3 * sum(others)


class Problem(NamedTuple):
    """A workload and its arrays.

    Parameters
    ----------
    workload : Workload
        What to do.
    arrays : dict of str to numpy.ndarray
        Its arrays.
    """

    workload: Workload
    arrays: dict[str, Any]

    @property
    def weights(self) -> list[tuple[Any, Any]]:
        """The matrix W, (D, M), and the vector b, (M,), of each layer; views of the flat vector."""
        flat, pairs, start = self.arrays["flat"], [], 0
        for d, m in pairwise(self.workload.sizes):
            matrix, stop = flat[start : start + d * m].reshape(d, m), start + d * m + m
            pairs.append((matrix, flat[stop - m : stop]))
            start = stop
        return pairs

    @property
    def batches(self) -> list[tuple[Any, Any]]:
        """The batches (x, t) of a step, x of shape (N, D) and t of shape (N,)."""
        return list(zip(self.arrays["x"], self.arrays["t"], strict=True))

    @property
    def chunks(self) -> list[tuple[Any, Any]]:
        """The same, `chunk` batches stacked: x of shape (chunk, N, D), t of shape (chunk, N)."""
        x, t = self.arrays["x"], self.arrays["t"]
        chunk = self.workload.chunk
        return [(x[i : i + chunk], t[i : i + chunk]) for i in range(0, len(x), chunk)]

    @property
    def order(self) -> list[Any]:
        """The row indices of the batches of an epoch."""
        return np.split(
            self.arrays["order"],
            range(self.workload.batch_size, len(self.arrays["order"]), self.workload.batch_size),
        )

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder, one file each."""
        folder.mkdir()
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, workload: Workload, folder: Path) -> Problem:
        """Read what `save` wrote."""
        return cls(workload, {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))})


def _flat(workload: Workload) -> Any:
    return MLP(workload.sizes).init(seed=SEED).flat


def _digits(workload: Workload) -> dict[str, Any]:
    """Return batches of the first digits of MNIST."""
    (x, t), _ = load_mnist()
    shape, n = (workload.batches, workload.batch_size), workload.batches * workload.batch_size
    return {"flat": _flat(workload), "x": x[:n].reshape(*shape, -1), "t": t[:n].reshape(shape)}


def _noise(workload: Workload) -> dict[str, Any]:
    """Return batches of random numbers and random labels."""
    rng = np.random.default_rng(SEED)
    shape = (workload.batches, workload.batch_size)
    x = rng.standard_normal((*shape, workload.sizes[0]), dtype=np.float32)
    return {"flat": _flat(workload), "x": x, "t": rng.integers(workload.sizes[-1], size=shape)}


def _vectors(workload: Workload) -> dict[str, Any]:
    """Return a vector of parameters, and its gradient."""
    rng = np.random.default_rng(SEED)
    (size,) = workload.sizes
    return {
        "p": rng.standard_normal(size, dtype=np.float32),
        "g": rng.standard_normal(size, dtype=np.float32),
    }


def _mnist(workload: Workload) -> dict[str, Any]:
    """Return all digits, and the order in which `fit` goes through them."""
    (x, t), _ = load_mnist()
    order = np.concatenate(list(batch_indices(len(x), workload.batch_size, seed=SEED, epoch=0)))
    return {"flat": _flat(workload), "x": x, "t": t, "order": order}


def _mnist_and_test(workload: Workload) -> dict[str, Any]:
    """Return all digits, those of the test too."""
    (x, t), (test_x, test_t) = load_mnist()
    return {"flat": _flat(workload), "x": x, "t": t, "test_x": test_x, "test_t": test_t}


_ARTICLE = (784, 200, 200, 10)


def _grown(name: str, width: int, batch_size: int) -> Workload:
    """Return a step that is one of a row of growing ones: as many steps in a call as take a moment."""
    workload = Workload(
        name=name,
        title=f"A step of 64-{width}-{width}-10, batch {batch_size}",
        kind=STEP,
        make=_noise,
        tolerance=1e-4,
        lr=0.016 / width,  # a wider layer adds up more of the changes
        sizes=(64, width, width, 10),
        batch_size=batch_size,
        devices=(),
    )
    chunk = min(max(10**9 // workload.operations, 2), 100)
    return replace(workload, batches=chunk, chunk=chunk, checked=min(chunk, 20))


WIDTHS = {f"width-{width}": (width, 128) for width in (16, 64, 256, 1024, 4096)}
BATCHES = {f"batch-{size}": (256, size) for size in (8, 64, 512, 4096)}
"""Width of the hidden layers, and size of the batch, of networks that grow in one of the two."""

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="article",
            title="The article's step: 784-200-200-10, batch 100",
            kind=STEP,
            make=_digits,
            tolerance=1e-4,
            sizes=_ARTICLE,
            batch_size=100,
            batches=100,
            checked=20,
            chunk=20,
        ),
        Workload(
            name="tiny",
            title="A tiny network's step: 4-8-2, batch 8",
            kind=STEP,
            make=_noise,
            tolerance=1e-4,
            sizes=(4, 8, 2),
            batch_size=8,
            batches=100,
            checked=20,
            chunk=100,
        ),
        Workload(
            name="wide",
            title="A wide network's step: 4 x (1024 x 1024), batch 1024",
            kind=STEP,
            make=_noise,
            tolerance=1e-4,
            lr=1e-5,
            sizes=(1024,) * 5,
            batch_size=1024,
            batches=4,
            checked=4,
            chunk=4,
        ),
        Workload(
            name="huge",
            title="A huge network's step: 4 x (4096 x 4096), batch 4096",
            kind=STEP,
            make=_noise,
            tolerance=1e-4,
            lr=1e-6,
            sizes=(4096,) * 5,
            batch_size=4096,
            batches=2,
            checked=2,
            chunk=2,
            devices=("cuda",),
        ),
        *(_grown(name, *shape) for name, shape in (WIDTHS | BATCHES).items()),
        *(
            Workload(
                name=f"update-{short}",
                title=f"RMSProp alone: {words} parameters",
                kind=UPDATE,
                make=_vectors,
                tolerance=1e-4,
                sizes=(size,),
                checked=3,
            )
            for short, words, size in (
                ("10k", "10 thousand", 10_000),
                ("1m", "1 million", 1_000_000),
                ("10m", "10 million", 10_000_000),
            )
        ),
        Workload(
            name="epoch",
            title="An epoch of MNIST: 784-200-200-10, 600 batches of 100",
            kind=EPOCH,
            make=_mnist,
            tolerance=1e-2,
            sizes=_ARTICLE,
            batch_size=100,
        ),
        Workload(
            name="training",
            title="MNIST to 98 % of the test digits: 784-200-200-10, Adam, 8 epochs of 600 batches",
            kind=TRAINING,
            make=_mnist_and_test,
            tolerance=0.0,
            lr=2e-3,
            sizes=_ARTICLE,
            batch_size=100,
            epochs=8,
            devices=("cuda",),
        ),
    )
}
