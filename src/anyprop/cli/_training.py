"""Training as a command does it: however it ends, there is an outcome, and its network is evaluated."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any, NamedTuple

from anyprop.cli._data import Examples
from anyprop.cli._parser import WrongCallError, os_error
from anyprop.cli._task import Task
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
    seconds: float
    ended: str
    problem: str = ""

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return {INTERRUPTED: 130, DIVERGED: 1, FAILED: 1}.get(self.ended, 0)


class Result(NamedTuple):
    """An outcome, and how good its network is on the test data; None if it was not evaluated."""

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
    """Train as the user's options say; `options` are further arguments of `fit`."""
    began = time.perf_counter()
    problem = ""
    try:
        params, _, history, interrupted = fit(
            task.net,
            params,
            data,
            optimizer=optimizer,
            epochs=args.epochs,
            steps=args.steps if args.epochs is None else None,
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
        problem = f"the training ended early: {what}."
    return Trained(params, history, time.perf_counter() - began, ended, problem)


def measure(
    task: Task, outcome: Trained, loss: Loss, communicator: Communicator | None = None
) -> Result:
    """Evaluate what was trained on the test data, unless the failure may occur again.

    Ctrl-C in one process ends this alone, so that what was trained is written.
    """
    if outcome.ended == FAILED:
        return Result(outcome, None, None)
    try:
        test = evaluate(
            task.net, outcome.params, task.data.test, loss=loss, communicator=communicator
        )
    except KeyboardInterrupt:
        if communicator is not None and communicator.size > 1:  # the others wait for this one
            raise
        return Result(outcome._replace(ended=INTERRUPTED), None, None)
    return Result(outcome, float(test.accuracy or 0.0), test.loss)
