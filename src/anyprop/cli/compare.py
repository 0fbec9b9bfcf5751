"""Train the same network with several optimizers and compare them.

All start from the same weights and see the same batches. The folder that --out names gets compare.png,
one curve for each optimizer, and compare.json, their losses. Learning rates can be given:

    anyprop compare rmsprop:0.001 rmsprop:0.01 adagrad

--article uses the settings that the article prints, and says why its loss jumps to 15.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop._text import table
from anyprop._typing import Array, Residuals
from anyprop.backend import namespace
from anyprop.cli._data import examples
from anyprop.cli._files import make_folder, write_json, write_picture
from anyprop.cli._options import add_data, add_network, add_output, add_place, add_training
from anyprop.cli._parser import Parser, WrongCallError, require_extras, wrong_calls
from anyprop.cli._task import Task, default_lr, make_optimizer, make_task, settings, total_steps
from anyprop.cli._training import FAILED, INTERRUPTED, Result, measure, train
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.parameters import Parameters
from anyprop.plotting import plot_history
from anyprop.training.batches import Batches

_ARTICLE_LR = 0.1
_ARTICLE_WEIGHTS = "normal:0.01"
_LAST = 50  # steps whose mean loss the table shows
_HEADER = ("optimizer", "lr", f"loss of last {_LAST}", "test accuracy", "test loss", "ended")

_WHY_IT_JUMPS = (
    "Why the loss of RMSProp jumps to about 15: its running mean h of squared gradients starts "
    "at 0, so after the first batch h = (1 - rho) g^2, and the first step is lr g / sqrt(h) = "
    "lr / sqrt(1 - rho), 10 lr in every weight that has a gradient, however small. At lr 0.1 "
    "each of them, which started near 0.01, moves by 1. The network is then sure of wrong "
    "answers. The article takes log(p + 1e-7), so that a wrong one costs 16.1 and no more, and "
    "about nine in ten are wrong.",
    "Why it does not come back: the later steps stay near lr, and each can push hidden units "
    "below 0 for every image; a ReLU there has no gradient and stays so. AdaGrad's loss jumps "
    "too, but its steps shrink at once, and the units that are left learn. `anyprop compare "
    "rmsprop adagrad` has learning rates that work.",
)


class Rival(NamedTuple):
    """An optimizer that the user named, and its learning rate; None until it is known."""

    name: str
    lr: float | None

    @classmethod
    def read(cls, text: str) -> Rival:
        """Read NAME or NAME:LR."""
        name, colon, lr = text.partition(":")
        try:
            return cls(name, float(lr) if colon else None)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"write a number after the colon, as in rmsprop:0.001, not {text!r}"
            ) from None


class ArticleLoss(SoftmaxCrossEntropy):
    """The loss of the article's listing: log(p + 1e-7), and the gradient of the batch's sum."""

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        _, residuals = super().forward(y, t, sample_weight=sample_weight)
        p, target = residuals[:2]
        xp = namespace(p)
        return -xp.sum(target * xp.log(p + 1e-7)) / p.shape[0], residuals

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        p = residuals[0]
        return super().backward(residuals, dvalue * p.shape[0])


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "optimizers",
        nargs="+",
        type=Rival.read,
        metavar="NAME[:LR]",
        help=f"{', '.join(OPTIMIZERS)}; each with a learning rate if you like",
    )
    parser.add_argument(
        "--article",
        action="store_true",
        help="the article's settings: learning rate 0.1, weights 0.01 times the numbers of NumPy's "
        "legacy generator, batches drawn from it with replacement, gradients summed over a batch, "
        "and the loss log(p + 1e-7)",
    )
    add_data(parser)
    add_place(parser)
    add_network(parser)
    add_training(parser)
    add_output(parser, "runs/compare")


def run(args: argparse.Namespace) -> int:
    """Train with each optimizer, write the files, print the table."""
    with ExitStack() as held:
        return _run(args, held)


def _run(args: argparse.Namespace, held: ExitStack) -> int:
    with wrong_calls():
        require_extras("matplotlib", "tqdm")
        if args.article and args.epochs:
            raise WrongCallError("--article draws with replacement and has no epochs; use --steps")
        task = make_task(args)
        steps = total_steps(args, examples(task.data.train))
        optimizers = {}
        for name, lr in args.optimizers:
            if lr is None:
                lr = _ARTICLE_LR if args.article else default_lr(name)
            label = f"{name}, lr {lr:g}"
            if label in optimizers:
                raise WrongCallError(f"{label} is given twice")
            optimizers[label] = make_optimizer(args, name, lr, steps)
        params, _ = _start(args, task)
        folder = make_folder(args.out, held)

    print(f"{task.describe(params)}: {steps} steps with each optimizer", flush=True)
    loss = ArticleLoss() if args.article else SoftmaxCrossEntropy()
    results: dict[str, Result] = {}
    for label, optimizer in optimizers.items():
        params, batches = _start(args, task)
        trained = train(
            args, task, params, task.data.train, optimizer, steps, loss=loss, batches=batches
        )
        results[label] = measure(task, trained, loss)
        outcome = results[label].outcome
        if outcome.ended in (INTERRUPTED, FAILED):
            break

    runs = {label: result.to_dict() for label, result in results.items()}
    write_json(folder / "compare.json", {"settings": settings(args), "runs": runs})
    histories = {label: result.outcome.history for label, result in results.items()}
    drawn = {label: history for label, history in histories.items() if history.losses}
    if drawn:
        figure = plot_history(drawn, log=True)
        how = ", the article's settings" if args.article else ""
        figure.suptitle(f"{task.shape()}{how}")
        write_picture(folder / "compare.png", figure)

    print(table(_HEADER, [_row(label, result) for label, result in results.items()]))
    if args.article and any(label.startswith("rmsprop") for label in results):
        width = min(shutil.get_terminal_size().columns, 100)
        for paragraph in _WHY_IT_JUMPS:
            print("\n" + textwrap.fill(paragraph, width))
    print(f"wrote compare.json{', compare.png' if drawn else ''} into {folder}")
    if outcome.ended == FAILED:
        print(f"anyprop: {outcome.problem}", file=sys.stderr)
    return outcome.exit_code if outcome.ended in (INTERRUPTED, FAILED) else 0


def _start(args: argparse.Namespace, task: Task) -> tuple[Parameters, Batches | None]:
    """Return the weights and the batches to start from, the same in every call."""
    rng: Any = args.seed
    weights, batches = args.weights, None
    if args.article:
        rng = np.random.RandomState(args.seed)
        weights, batches = _ARTICLE_WEIGHTS, partial(_with_replacement, rng)
    params = task.net.init(rng, xp=task.xp, dtype=args.dtype, device=task.device, weights=weights)
    return params, batches


def _with_replacement(rng: np.random.RandomState, n: int, size: int, epoch: int) -> Iterator[Any]:
    """Draw batches without end, all from the generator that the weights came from."""
    while True:
        yield rng.choice(n, size)


def _row(label: str, result: Result) -> list[str]:
    name, _, lr = label.partition(", lr ")
    last = result.outcome.history.losses[-_LAST:]
    mean = sum(last) / len(last) if last else None
    numbers = (mean, result.test_accuracy, result.test_loss)
    shown = ("" if number is None else f"{number:.4f}" for number in numbers)
    return [name, lr, *shown, result.outcome.ended]
