"""The books of scikit-learn: what an estimator's attributes say about its training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from anyprop.backend import read_number, to_host
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sklearn._rows import Data, outputs
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation
from anyprop.training.run import Run


class Books(Callback):
    """Enters the numbers of each epoch, of so many rows, into the attributes of an estimator."""

    best: Parameters | None
    """With early stopping, those of the best epoch."""

    def __init__(self, estimator: Any, loss: Loss, validation: Data | None, rows: int) -> None:
        self._est, self._loss, self._validation, self._rows = estimator, loss, validation, rows
        self._score = math.nan

    def validate(self, params: Parameters) -> Evaluation | None:
        """Measure parameters on the validation rows; a score that is not an accuracy is kept here."""
        if self._validation is None:
            return None
        est, (x, t, weight) = self._est, self._validation
        with np.errstate(all="ignore"):
            y = outputs(est.network_, params, x)
            loss = read_number(self._loss.forward(y, t, sample_weight=weight)[0])
            y_host, weight_host = to_host(y), None if weight is None else to_host(weight)
            self._score = math.nan
            if np.isfinite(y_host).all():
                self._score = est._score_outputs(y_host, to_host(t), weight_host)
        return Evaluation(loss, self._score if self._accurate else None)

    def on_start(self, run: Run) -> None:
        self._est.n_iter_ = 0
        self._accurate = "validation_accuracy" in run.monitors
        self.best = run.params.copy() if self._est.early_stopping else None

    def on_epoch(self, run: Run) -> None:
        est, record = self._est, run.history.epochs[-1]
        est.t_ += self._rows
        self._enter(record.train_loss)
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        if self._validation is not None:
            self._enter_validation(record.validation_loss, self._score)
            if est.verbose:
                print(f"Validation score: {self._score:f}")
        if self._improved() and est.early_stopping:
            self.best = run.params.copy()

    def enter_failed_epoch(self) -> None:
        """Enter an epoch whose loss was not finite, as scikit-learn does."""
        self._enter(math.nan)
        self._enter_validation(math.nan, math.nan)

    def _enter(self, loss: float) -> None:
        est = self._est
        est.n_iter_ += 1
        est.loss_ = loss
        est.loss_curve_.append(loss)

    def _enter_validation(self, loss: float | None, score: float) -> None:
        self._est.validation_loss_curve_.append(loss)
        self._est.validation_scores_.append(score)

    def _improved(self) -> bool:
        """Count the epochs without improvement by `tol`; return whether the last one is the best."""
        est = self._est
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
