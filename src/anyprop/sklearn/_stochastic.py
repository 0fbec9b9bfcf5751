"""Training batch by batch: the loop of `anyprop.fit`, with the order and the books of scikit-learn.

Ctrl-C ends `fit` with the books of the epochs before and the parameters of the last step; after an error
the caller undoes everything.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from anyprop.backend import name_of, namespace
from anyprop.compiled.compile import compile as compile_step, compiled_loop, donates
from anyprop.distributed.serial import SerialCommunicator
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.sklearn._books import Books
from anyprop.sklearn._diverged import diverged
from anyprop.sklearn._objective import Objective, pays
from anyprop.sklearn._optimizer import LearningRate
from anyprop.sklearn._rows import Data, Order, SparseInputs, dense
from anyprop.step import Step
from anyprop.training.batches import batches_of
from anyprop.training.evaluate import monitors
from anyprop.training.examples import Held
from anyprop.training.inputs import ArrayInputs, wants_noise
from anyprop.training.loop import Loop
from anyprop.training.pace import MOST_AT_ONCE, ManyAtOnce, OneByOne
from anyprop.training.ranks import Ranks
from anyprop.training.run import Run, TrainingDivergedError


class Trainer:
    """A network with its compiled step beside `like`, which serves one `partial_fit` after another."""

    def __init__(
        self, net: Sequential, loss: Loss, opt: Optimizer, alpha: float, like: Parameters
    ) -> None:
        self.key = (net, loss, opt, alpha)
        self.net, self.loss, self.opt = net, loss, opt
        self._step = Step(Objective(net, loss, alpha, like), opt)
        self._compiled = compile_step(self._step)
        # A loop of JAX takes a second to compile, which few fits are long enough for.
        numpy = name_of(like.xp) == "numpy"
        self._loop = compiled_loop(self._step, like.xp, MOST_AT_ONCE) if numpy else None
        self._steps = 0

    def steps(
        self, count: int, rows: int, like: Parameters, inputs: ArrayInputs
    ) -> OneByOne | ManyAtOnce:
        """Return how so many more steps are done, with batches of `rows`: compiled if that pays."""
        self._steps += count
        if not pays(self._steps, rows, like):
            return OneByOne(self._step, inputs)
        one_by_one = OneByOne(self._compiled, inputs)
        if self._loop is None or inputs.noisy or isinstance(inputs, SparseInputs):
            return one_by_one
        return ManyAtOnce(self._loop, MOST_AT_ONCE, inputs, instead=one_by_one)


def train(
    estimator: Any,
    trainer: Trainer,
    params: Parameters,
    state: OptimizerState,
    data: Data,
    validation: Data | None,
    rows: Any,
    batch_size: int,
    incremental: bool,
) -> tuple[Parameters, OptimizerState]:
    """Train on some rows of the data as an estimator's parameters say, and keep its books.

    Parameters and state may be written over. With early stopping those returned are the best epoch's.
    `incremental` is to train for one epoch only.
    """
    est, net, loss, opt = estimator, trainer.net, trainer.loss, trainer.opt
    given = tuple(est.callbacks or ())
    one = validation and Held(dense(validation.x[:1, ...]), validation.t[:1, ...])
    books = Books(est, loss, validation, rows.shape[0])
    run = Run(
        net,
        loss,
        opt,
        params,
        state,
        monitors(net, params, loss, one),
        # Only callbacks can look at what a step will write over.
        in_place=bool(given) and donates(params.xp),
        callbacks=(books, *given, LearningRate(est, opt)),
    )
    epochs = 1 if incremental else est.max_iter
    steps = epochs * batches_of(rows.shape[0], batch_size)
    loop = Loop(
        run,
        trainer.steps(steps, batch_size, params, _inputs(net, data, est._random_state)),
        draw=Order(rows, batch_size, est._random_state if est.shuffle else None),
        validate=books.validate,
        ranks=Ranks(SerialCommunicator()),
        last_epoch=epochs,
    )
    try:
        interrupt = loop.go()
    except TrainingDivergedError as error:
        what = f"the loss or a parameter became infinite or NaN in iteration {est.n_iter_ + 1}"
        failure = diverged(what, est, data, at_once=error.step == 1)
        if books.best is None or not math.isfinite(est.best_validation_score_):
            raise failure from error
        books.enter_failed_epoch()
        run.state = opt.init(books.best)  # the one of the run is of no use
        message = f"The weights are those of the best validation score. {failure}"
        warnings.warn(message, ConvergenceWarning, stacklevel=6)
    else:
        _warn_of_the_end(est, run, interrupt, incremental=incremental)
    if books.best is None:
        return run.params, run.state
    if not math.isfinite(est.best_validation_score_):
        raise ValueError(
            "no epoch had a finite score on the validation rows; they hold numbers far from those that "
            "are trained on, so scale them alike."
        )
    return books.best, run.state


def _inputs(net: Sequential, data: Data, random_state: np.random.RandomState) -> ArrayInputs:
    kind = SparseInputs if scipy.sparse.issparse(data.x) else ArrayInputs
    # Nothing is drawn for noise that is not wanted, so that all else is as scikit-learn draws it.
    seed = random_state.randint(2**31) if wants_noise(net, data.x) else 0
    reuse = name_of(namespace(data.t)) == "numpy"  # from where a compiled step copies a batch
    return kind(net, *data, seed=seed, reuse=reuse, trusted=True)


def _warn_of_the_end(
    est: Any, run: Run, interrupt: KeyboardInterrupt | None, *, incremental: bool
) -> None:
    """Warn of an end that came too early; raise what interrupted a run before there was a model."""
    if interrupt is not None:
        # Part of the first epoch is not a model, and a call of partial_fit that counts half could
        # not be continued.
        if incremental or not est.n_iter_:
            raise interrupt
        warnings.warn("Training interrupted by user.", stacklevel=7)
    elif not (incremental or run.stopped):
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization "
            "hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=7,
        )


def clipped_batch_size(batch_size: Any, n: int) -> int:
    """Return the rows of a batch for n rows; warn where more were asked for than there are."""
    if batch_size == "auto":
        return min(200, n)
    if batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=6,
        )
    return min(int(batch_size), n)


def held_out(n: int, fraction: float, stratify: Any, random_state: Any) -> tuple[Any, Any]:
    """Split 0..n-1 into the rows to train on and those to validate on, as scikit-learn does.

    Raises
    ------
    ValueError
        Fewer than two rows would be left to validate on.
    """
    train_rows, validation_rows = train_test_split(
        np.arange(n), random_state=random_state, test_size=fraction, stratify=stratify
    )
    if validation_rows.shape[0] < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return train_rows, validation_rows
