"""A training run as a command sees it: what came of it, and the files that tell of it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from anyprop._files import write_whole
from anyprop._locks import locked
from anyprop.cli._parser import WrongCallError, os_error
from anyprop.cli._task import Examples, Task
from anyprop.distributed import Communicator
from anyprop.history import History
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.parameters import Parameters
from anyprop.training.evaluate import evaluate
from anyprop.training.fit import fit
from anyprop.training.resume import ResumeError
from anyprop.training.run import TrainingDivergedError

FINISHED, STOPPED, INTERRUPTED = "finished", "stopped early", "interrupted"
DIVERGED, FAILED = "diverged", "failed"


class Trained(NamedTuple):
    """What a training run left behind, however it ended."""

    params: Parameters
    history: History
    steps: int
    seconds: float
    ended: str
    problem: str = ""

    @property
    def exit_code(self) -> int:
        """What the command returns."""
        return {INTERRUPTED: 130, DIVERGED: 1, FAILED: 1}.get(self.ended, 0)


class Result(NamedTuple):
    """An outcome, and how good its network is on the test data; None if it was not measured."""

    outcome: Trained
    test_accuracy: float | None
    test_loss: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the final numbers and the history as JSON holds them."""
        final = {
            "test_accuracy": self.test_accuracy,
            "test_loss": self.test_loss if math.isfinite(self.test_loss or 0.0) else None,
            "steps": len(self.outcome.history.losses),
            "seconds": round(self.outcome.seconds, 3),
            "ended": self.outcome.ended,
        }
        return {"final": final, **self.outcome.history.to_dict()}


def train(
    args: argparse.Namespace,
    task: Task,
    params: Parameters,
    data: Examples,
    optimizer: Optimizer,
    steps: int,
    **options: Any,
) -> Trained:
    """Train as the user's options say; `options` go to `fit` beside them."""
    began = time.perf_counter()
    problem = ""
    try:
        params, _, history, interrupted = fit(
            task.net,
            params,
            data,
            optimizer=optimizer,
            **({"steps": args.steps} if args.epochs is None else {"epochs": args.epochs}),
            batch_size=args.batch_size,
            accumulate=args.accumulate,
            seed=args.seed,
            report_every=min(max(steps // 100, 1), 100),
            progress=not args.no_progress and sys.stderr.isatty(),
            **options,
        )
        done = len(history.losses) == steps
        ended = INTERRUPTED if interrupted else FINISHED if done else STOPPED
    except ResumeError as error:
        raise WrongCallError(error) from error
    except TrainingDivergedError as error:
        params, history, ended, problem = error.params, error.history, DIVERGED, str(error)
    except Exception as error:
        history = getattr(error, "history", History())
        if not isinstance(history, History) or not history.losses:  # before any work
            raise
        params, ended = error.params, FAILED  # type: ignore[attr-defined]
        what = os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        problem = f"the training ended early, and what was trained is kept: {what}."
    return Trained(params, history, steps, time.perf_counter() - began, ended, problem)


def measure(
    task: Task, outcome: Trained, loss: Loss, communicator: Communicator | None = None
) -> Result:
    """Evaluate what was trained on the test data, unless what failed may fail again."""
    if outcome.ended == FAILED:
        return Result(outcome, None, None)
    test = evaluate(task.net, outcome.params, task.test, loss=loss, communicator=communicator)
    return Result(outcome, float(test.accuracy or 0.0), test.loss)


def make_folder(name: str, held: ExitStack) -> Path:
    """Make the folder for the results, and be the only one to write there until `held` is closed."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        held.enter_context(locked(folder))
    except OSError as error:
        raise WrongCallError(f"cannot write into {folder}: {error.strerror}") from None
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that other programs can read too, which means without NaN and infinity."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file; an older one stays until the new one is whole. An OSError names the file."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path.resolve(), [text.encode()])
    except OSError as error:
        error.filename = str(path)
        raise


def check_writable(path: Path) -> None:
    """Raise OSError now, and not after minutes, if the file cannot be written; leave nothing there."""
    if path.exists():
        with path.open("ab"):
            pass
    else:
        path.touch()
        path.unlink()
