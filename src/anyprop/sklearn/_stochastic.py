"""Training batch by batch, with the bookkeeping of scikit-learn.

    for each epoch:
        for each batch: params, state, value = step(params, state, x, t)
        read the losses, once for all batches
        measure on the validation rows, count epochs without improvement, adapt the learning rate

The numbers of an epoch enter the estimator's attributes as they are known. Ctrl-C ends `fit` with those
of the epochs before and the parameters of the last step; after an error the caller undoes all of it.
"""

from __future__ import annotations

import math
import operator
import signal
import time
import warnings
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from anyprop._signals import HeldSignals
from anyprop.backend import read_number, to_host
from anyprop.compiled.compile import compile as compile_step, donates
from anyprop.history import EpochRecord
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.network import noise_beside
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.sklearn._diverged import diverged
from anyprop.sklearn._objective import Objective
from anyprop.sklearn._optimizer import LearningRate
from anyprop.sklearn._rows import Batches, Data, outputs
from anyprop.step import Step
from anyprop.training.run import Run, TrainingDivergedError


class Trainer:
    """A network with its compiled step; it serves as many epochs as there are.

    Parameters
    ----------
    net : Sequential
        The network.
    loss : Loss
        What to make smaller.
    opt : Optimizer
        How.
    alpha : float >= 0
        Strength of the L2 term.
    like : Parameters
        Parameters of the network, for where they lie.
    """

    def __init__(
        self, net: Sequential, loss: Loss, opt: Optimizer, alpha: float, like: Parameters
    ) -> None:
        self.key = (net, loss, opt, alpha)
        self.net, self.loss, self.opt = net, loss, opt
        self._step = compile_step(Step(Objective(net, loss, alpha, like), opt))
        self._noisy = net.noise(np.random.default_rng(0), (1, like[0].W.shape[0])) is not None

    def start(
        self,
        params: Parameters,
        state: OptimizerState,
        monitors: tuple[str, ...],
        *,
        watched: bool,
    ) -> Run:
        """Begin a run; unless callbacks watch it, it may write over `params` and `state`."""
        in_place = watched and donates(params.xp)
        return Run(self.net, self.loss, self.opt, params, state, monitors, in_place=in_place)

    def epoch(
        self,
        run: Run,
        batches: Batches,
        order: Any,
        rng: np.random.Generator | None,
        signals: HeldSignals,
    ) -> float:
        """Train on every row once; give the mean loss of the batches, weighted by their rows."""
        sizes = []
        with np.errstate(all="ignore"):  # what overflows is found when the losses are read
            for batch in batches.of(order):
                if rng is not None:
                    noise = self.net.noise(rng, tuple(batch["x"].shape))
                    batch["noise"] = noise_beside(run.params, noise)
                signals.hold()
                run.advance(self._step, batch)
                signals.release()
                sizes.append(batch["x"].shape[0])
            losses = run.read_losses()
        return float(math.fsum(map(operator.mul, losses, sizes)) / sum(sizes))

    def noise_generator(self, random_state: np.random.RandomState) -> np.random.Generator | None:
        """Make the generator of dropout, or none where nothing is dropped and nothing shall be drawn."""
        return np.random.default_rng(random_state.randint(2**31)) if self._noisy else None


def train(
    estimator: Any,
    trainer: Trainer,
    params: Parameters,
    state: OptimizerState,
    data: Data,
    validation: Data | None,
    rows: Any,
    *,
    batch_size: int,
    incremental: bool,
) -> tuple[Parameters, OptimizerState]:
    """Train as an estimator's parameters say, and keep its books.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose attributes are kept.
    trainer : Trainer
        Its network and step.
    params, state : Parameters, OptimizerState
        Where to start; both may be written over.
    data : Data
        All rows.
    validation : Data, optional
        Rows to measure on after every epoch.
    rows : numpy.ndarray of int, optional
        Which rows of `data` to train on; all by default.
    batch_size : int >= 1
        Rows in a batch.
    incremental : bool
        Whether one epoch is all there shall be.

    Returns
    -------
    params, state : Parameters, OptimizerState
        The trained ones; with early stopping the parameters of the best epoch.
    """
    est, random_state = estimator, estimator._random_state
    callbacks = est.callbacks or ()
    n = data.t.shape[0] if rows is None else rows.shape[0]
    batches = Batches(data, batch_size)
    rate, rng = LearningRate(est, trainer.opt), trainer.noise_generator(random_state)
    run = trainer.start(params, state, monitors(est, validation), watched=bool(callbacks))
    best = run.params.copy() if est.early_stopping else None
    est.n_iter_ = 0
    with HeldSignals(signal.SIGINT) as signals:
        try:
            for callback in callbacks:
                callback.on_start(run)
            while est.n_iter_ < est.max_iter and not run.stopped:
                began = time.perf_counter()
                if est.shuffle:
                    # Each epoch shuffles the order of the one before, as scikit-learn does.
                    permutation = random_state.permutation(n)
                    rows = permutation if rows is None else rows[permutation]
                loss = trainer.epoch(run, batches, rows, rng, signals)
                est.n_iter_ += 1
                est.t_ += n
                est.loss_ = loss
                est.loss_curve_.append(loss)
                if est.verbose:
                    print(f"Iteration {est.n_iter_}, loss = {loss:.8f}")
                if validation is not None:
                    measure(est, trainer, run.params, validation)
                if _improved(est) and est.early_stopping:
                    best = run.params.copy()
                if callbacks:
                    record(est, run, time.perf_counter() - began, measured=validation is not None)
                    for callback in callbacks:
                        callback.on_report(run)
                    for callback in callbacks:
                        callback.on_epoch(run)
                rate.after_epoch(run, est.t_)
                if est._no_improvement_count > est.n_iter_no_change:
                    stops, decision = rate.after_plateau(run)
                    if est.verbose:
                        print(f"{_plateau(est)} {decision}")
                    if stops:
                        break
                    est._no_improvement_count = 0
                if incremental:
                    break
                if est.n_iter_ == est.max_iter and not run.stopped:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the "
                        "optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except TrainingDivergedError as error:
            what = f"the loss or a parameter became infinite or NaN in iteration {est.n_iter_ + 1}"
            failure = diverged(what, est, data, at_once=error.step == 1)
            if best is None or not math.isfinite(est.best_validation_score_):
                raise failure from error
            _enter_failed_epoch(est)
            run.state = trainer.opt.init(best)  # the one of the run is of no use
            message = f"The weights are those of the best validation score. {failure}"
            warnings.warn(message, ConvergenceWarning, stacklevel=5)
        except KeyboardInterrupt:
            # Amid a step there are no parameters that anybody could use. Part of the first epoch is no
            # model, and a call of partial_fit that counts half is none that can be gone on from.
            if signals.holding or incremental or not est.n_iter_:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=5)
        for callback in callbacks:
            callback.on_end(run)
    if best is not None and not math.isfinite(est.best_validation_score_):
        raise ValueError(
            "no epoch had a finite score on the validation rows; they hold numbers far from those that "
            "are trained on, so scale them alike."
        )
    return (run.params if best is None else best), run.state


def monitors(est: Any, validation: Data | None) -> tuple[str, ...]:
    """Name what a callback of an estimator may watch."""
    if validation is None:
        return ("train_loss",)
    accuracy = ("validation_accuracy",) if is_classifier(est) else ()
    return ("train_loss", "validation_loss", *accuracy)


def record(est: Any, run: Run, seconds: float, *, measured: bool) -> None:
    """Enter the last epoch into the history that callbacks see."""
    accurate = measured and is_classifier(est)
    run.epoch += 1
    run.history.epochs.append(
        EpochRecord(
            epoch=run.epoch,
            step=run.step,
            train_loss=est.loss_,
            validation_loss=est.validation_loss_curve_[-1] if measured else None,
            validation_accuracy=est.validation_scores_[-1] if accurate else None,
            lr=run.lr,
            seconds=seconds,
        )
    )


def clipped_batch_size(batch_size: Any, n: int) -> int:
    """Give the rows of a batch for n rows; warn where more were asked for than there are."""
    if batch_size == "auto":
        return min(200, n)
    if batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=5,
        )
    return min(int(batch_size), n)


def _enter_failed_epoch(est: Any) -> None:
    """Enter an epoch whose loss was not finite into the curves, as scikit-learn does."""
    est.n_iter_ += 1
    est.loss_ = math.nan
    est.loss_curve_.append(math.nan)
    est.validation_loss_curve_.append(math.nan)
    est.validation_scores_.append(math.nan)


def measure(est: Any, trainer: Trainer, params: Parameters, validation: Data) -> None:
    """Add the loss and the score of the validation rows to the estimator's curves."""
    x, t, weight = validation
    with np.errstate(all="ignore"):
        y = outputs(trainer.net, params, x)
        loss = read_number(trainer.loss.forward(y, t, sample_weight=weight)[0])
        y_host, weight_host = to_host(y), None if weight is None else to_host(weight)
        score = math.nan
        if np.isfinite(y_host).all():
            score = est._score_outputs(y_host, to_host(t), weight_host)
    est.validation_loss_curve_.append(loss)
    est.validation_scores_.append(score)
    if est.verbose:
        print(f"Validation score: {score:f}")


def _improved(est: Any) -> bool:
    """Count the epochs without improvement by `tol`; tell whether the last one is the best at all."""
    if est.early_stopping:
        score = est.validation_scores_[-1]
        stalled = score < est.best_validation_score_ + est.tol
        better = score > est.best_validation_score_
        if better:
            est.best_validation_score_ = score
    else:
        stalled = est.loss_ > est.best_loss_ - est.tol
        better = est.loss_ < est.best_loss_
        if better:
            est.best_loss_ = est.loss_
    est._no_improvement_count = est._no_improvement_count + 1 if stalled else 0
    return bool(better)


def _plateau(est: Any) -> str:
    what = "Validation score" if est.early_stopping else "Training loss"
    return (
        f"{what} did not improve more than tol={est.tol:f} "
        f"for {est.n_iter_no_change} consecutive epochs."
    )


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
