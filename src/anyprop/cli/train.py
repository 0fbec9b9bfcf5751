"""Train a network on labelled images.

Without options this is the article's experiment, a 784-200-200-10 network on MNIST for 1000 steps, at a
learning rate that works: about 97 % of the test images are then recognized. For 98 %:

    anyprop train --epochs 20 --schedule cosine --dropout 0.2

The folder that --out names gets history.json (settings, losses and the result), loss.png and
model.safetensors, also when Ctrl-C or SIGTERM ends the training. With --checkpoint-every N a run that
was killed goes on with --resume as if it had never ended.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from anyprop._files import remove_parts
from anyprop._text import block_characters, curve
from anyprop.checkpoint import save
from anyprop.cli._data import Examples, examples, split
from anyprop.cli._files import make_folder, write_json, write_picture
from anyprop.cli._model import CHECKPOINTS, DEFAULT, MODEL
from anyprop.cli._options import add_data, add_network, add_output, add_place, add_training, count
from anyprop.cli._parser import Parser, WrongCallError, option, os_error, require_extras
from anyprop.cli._ranks import add_distributed, connect, wrong_calls_on
from anyprop.cli._task import (
    Task,
    default_lr,
    make_optimizer,
    make_task,
    settings,
    total_steps,
)
from anyprop.cli._termination import EXIT_CODE, sigterm_interrupts
from anyprop.cli._training import Result, Trained, measure, train
from anyprop.distributed import Communicator, any_rank
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.parameters import Parameters
from anyprop.plotting import plot_history
from anyprop.training.callbacks.base import Callback
from anyprop.training.callbacks.checkpoints import Checkpoints
from anyprop.training.callbacks.early_stopping import EarlyStopping
from anyprop.training.resume import checkpoints_in
from anyprop.training.run import Run

_HISTORY = "history.json"

_LOSS = SoftmaxCrossEntropy()


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    add_data(parser)
    add_place(parser)
    add_network(parser)
    group = parser.add_argument_group("optimizer")
    option(group, "--optimizer", "NAME", str, "rmsprop", ", ".join(OPTIMIZERS))
    option(group, "--lr", "X", float, None, "learning rate (default: the optimizer's)")
    rho = "decay of the optimizer's running mean, if it has one (default: the optimizer's)"
    option(group, "--rho", "X", float, None, rho)
    training = add_training(parser)
    add_distributed(training)
    training.add_argument(
        "--early-stopping",
        nargs="?",
        type=count,
        const=5,
        metavar="PATIENCE",
        help="hold out the last 10 %% of the training data, stop when the loss on them has not "
        "improved for PATIENCE epochs (5 if left out), and keep the best parameters; the test data "
        "play no part in it",
    )
    add_output(parser, DEFAULT)
    _add_checkpoints(parser)


def _add_checkpoints(parser: Parser) -> None:
    group = parser.add_argument_group("checkpoints")
    group.add_argument(
        "--checkpoint-every",
        type=count,
        metavar="N",
        help="write a checkpoint every N steps, and at the end, into the folder checkpoints below that "
        "of --out; the last 3 stay, and the network of the best epoch as best.safetensors",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint below --out, with the same options as before; --steps "
        "or --epochs may be more",
    )
    group.add_argument(
        "--or-start",
        action="store_true",
        help="with --resume: start from the beginning where there is no checkpoint",
    )
    group.add_argument(
        "--allow-changes",
        action="store_true",
        help="with --resume: go on although options differ that make it another run",
    )


def run(args: argparse.Namespace) -> int:
    """Train, write the files, print the result."""
    communicator = connect(args)
    try:
        with sigterm_interrupts() as came, contextlib.ExitStack() as held:
            code = _run(args, communicator, held)
        return EXIT_CODE if came else code
    except WrongCallError:
        if communicator.rank != 0:  # one of them says it
            return 2
        raise
    except OSError as error:  # the disk is full, for example
        if communicator.size == 1:
            raise
        print(f"anyprop: {os_error(error)}.", file=sys.stderr)
        communicator.abort(1)  # the others wait for this one


def _run(args: argparse.Namespace, communicator: Communicator, held: contextlib.ExitStack) -> int:
    with wrong_calls_on(communicator):
        plan = _prepare(args, communicator, held)
    outcome = _train(args, plan, communicator)
    if communicator.rank != 0:
        measure(plan.task, outcome, _LOSS, communicator)
        return outcome.exit_code
    if outcome.problem:
        print(f"anyprop: {outcome.problem}", file=sys.stderr)
    # Save the model before evaluating it, and again with its accuracy, so that no failure in
    # between can lose it.
    _save(args, plan, outcome)
    result = measure(plan.task, outcome, _LOSS, communicator)
    _report(args, plan, result)
    return result.outcome.exit_code


class _Plan(NamedTuple):
    """What is trained, on which data and how, once the call has been checked."""

    task: Task
    params: Parameters
    data: Examples
    validation: Examples | None
    optimizer: Optimizer
    steps: int
    callbacks: list[Callback]
    folder: Path
    resume: Path | None


def _prepare(
    args: argparse.Namespace, communicator: Communicator, held: contextlib.ExitStack
) -> _Plan:
    """Load the data, create everything, and be the only one to write into the folder."""
    require_extras("matplotlib", "tqdm")
    args.lr = default_lr(args.optimizer) if args.lr is None else args.lr
    task = make_task(args)
    data, validation = task.data.train, None
    callbacks: list[Callback] = []
    if args.early_stopping is not None:
        data, validation = _hold_out(data)
        callbacks.append(EarlyStopping(patience=args.early_stopping))
    steps = total_steps(args, examples(data))
    optimizer = make_optimizer(args, args.optimizer, args.lr, steps, rho=args.rho)
    params = task.net.init(
        args.seed, xp=task.xp, dtype=args.dtype, device=task.device, weights=args.weights
    )
    folder = Path(args.out)
    resume = _claim(args, folder, held) if communicator.rank == 0 else None
    if args.checkpoint_every is not None:
        callbacks.append(Checkpoints(folder / CHECKPOINTS, every=args.checkpoint_every))
    ranks = f" on {communicator.size} ranks" if communicator.size > 1 else ""
    announced = f"{task.describe(params)}, {args.optimizer}, lr {args.lr:g}: {steps} steps{ranks}"
    callbacks.append(_Announce(announced))
    return _Plan(task, params, data, validation, optimizer, steps, callbacks, folder, resume)


def _claim(args: argparse.Namespace, folder: Path, held: contextlib.ExitStack) -> Path | None:
    """Claim the folder of the results for this run; return what to resume from."""
    there = folder.is_dir()
    if there:  # before another run's checkpoints are looked at
        make_folder(args.out, held)
    resume = _resume(args)
    if not there:
        make_folder(args.out, held)
    remove_parts(folder, MODEL, _HISTORY)
    return resume


def _train(args: argparse.Namespace, plan: _Plan, communicator: Communicator) -> Trained:
    resume = plan.resume
    if any_rank(communicator, resume is not None):  # only rank 0 has looked
        resume = plan.folder / CHECKPOINTS
    return train(
        args,
        plan.task,
        plan.params,
        plan.data,
        plan.optimizer,
        plan.steps,
        loss=_LOSS,
        validation=plan.validation,
        callbacks=plan.callbacks,
        communicator=communicator,
        resume=resume,
        allow_changes=args.allow_changes and resume is not None,
    )


def _save(args: argparse.Namespace, plan: _Plan, outcome: Trained, **final: Any) -> None:
    """Save the model, and what is known about it."""
    save(
        plan.folder / MODEL,
        outcome.params,
        net=plan.task.net,
        optimizer=plan.optimizer,
        step=len(outcome.history.losses),
        config={"settings": settings(args), **final},
    )


def _report(args: argparse.Namespace, plan: _Plan, result: Result) -> None:
    """Write the files and print the result."""
    outcome, folder = result.outcome, plan.folder
    losses, measured = outcome.history.losses, result.test_accuracy is not None
    if measured:
        final = {"test_accuracy": result.test_accuracy, "ended": outcome.ended}
        _save(args, plan, outcome, final=final)
    write_json(folder / _HISTORY, {"settings": settings(args), **result.to_dict()})
    drawn = bool(losses) and measured
    if drawn:
        figure = plot_history({args.optimizer: outcome.history})
        network, accuracy = plan.task.shape(), result.test_accuracy
        figure.suptitle(f"{network}, lr {args.lr:g}: test accuracy {accuracy:.4f}")
        write_picture(folder / "loss.png", figure)

    if losses:
        line = curve(losses, characters=block_characters(sys.stdout.encoding))
        print(f"loss {losses[0]:.3g} {line} {losses[-1]:.3g}")
    print(f"{outcome.ended} after {len(losses)} steps in {outcome.seconds:.1f} s")
    if measured:
        print(f"test accuracy {result.test_accuracy:.4f}, test loss {result.test_loss:.4f}")
    print(f"wrote history.json, model.safetensors{', loss.png' if drawn else ''} into {folder}")


class _Announce(Callback):
    """Print what is trained, once all checks have passed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_start(self, run: Run) -> None:
        print(self.text + (f", resumed after {run.step}" if run.resumed else ""), flush=True)


def _resume(args: argparse.Namespace) -> Path | None:
    """Return what to resume from; None to start from the beginning."""
    folder = Path(args.out) / CHECKPOINTS
    found = bool(checkpoints_in(folder))
    if not args.resume:
        if args.or_start or args.allow_changes:
            raise WrongCallError("--or-start and --allow-changes go with --resume; leave them out")
        if found and args.checkpoint_every is not None:
            raise WrongCallError(
                f"{folder} holds the checkpoints of an earlier run; continue it with --resume, or "
                "choose another --out"
            )
        return None
    if not found and not args.or_start:
        raise WrongCallError(
            f"there is no checkpoint in {folder} to resume from; add --or-start to start without"
        )
    return folder if found else None


def _hold_out(data: Examples) -> tuple[Examples, Examples]:
    n = examples(data)
    held = n // 10
    if held == 0:
        raise WrongCallError(f"--early-stopping needs at least 10 examples, not {n}")
    return split(data, n - held)
