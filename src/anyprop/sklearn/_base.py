"""What the classifier and the regressor share in training: parameters, and the course of a fit."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from sklearn.utils import check_random_state

from anyprop._numerics import is_autocast
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import name_of, on_device_of, to_host
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sklearn._diverged import diverged
from anyprop.sklearn._fitted import FittedMLP
from anyprop.sklearn._given import (
    Place,
    check_same_place,
    check_some_weight,
    checked_weights,
    readable,
    validated,
)
from anyprop.sklearn._lbfgs import loss_of, minimize
from anyprop.sklearn._network import all_finite, draw_parameters, make_network
from anyprop.sklearn._optimizer import OptimizerMemory, make_optimizer, state_to_go_on_from
from anyprop.sklearn._rows import Data, dense
from anyprop.sklearn._settings import CONSTRAINTS, check_callbacks, check_settings, hidden_sizes
from anyprop.sklearn._stochastic import Trainer, clipped_batch_size, held_out, train
from anyprop.sklearn._unchanged import unchanged_on_error
from anyprop.training.batches import batches_of


class BaseMLP(FittedMLP, metaclass=ABCMeta):
    """Base of the estimators; their docstrings describe the parameters."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    n_outputs_: int
    _optimizer: OptimizerMemory

    # What a subclass defines.

    @abstractmethod
    def _loss(self, *, exact: bool = False) -> Loss:
        """Return the loss; `exact` asks for one whose gradient is exactly that of its value."""

    @abstractmethod
    def _learn_targets(self, y: Any, place: Place, *, incremental: bool) -> None:
        """Set `n_outputs_` and what else follows from the targets, or check it where it stays."""

    @abstractmethod
    def _encoded(self, y: Any, place: Place) -> Array:
        """Turn checked targets into what the loss takes, beside X."""

    @abstractmethod
    def _output_activation(self) -> str:
        """Name what follows the last layer: "softmax", "logistic", "identity" or "exp"."""

    @abstractmethod
    def _score_outputs(self, y: Any, t: Any, weight: Any) -> float:
        """Score a network's outputs against encoded targets, all in NumPy."""

    def _check_known(self, y: Any) -> None:
        """Raise ValueError if the training targets do not allow the validation targets."""

    def _weights_of_classes(
        self, y: Any, sample_weight: Array | None, place: Place, *, incremental: bool
    ) -> Array | None:
        """Multiply the weights of rows by those of their classes."""
        return sample_weight

    # Fitting.

    def _store(self, arguments: dict[str, Any]) -> None:
        """Store the arguments of `__init__` under their names, as scikit-learn wants them."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    @usage("model.fit(X, y)")
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Train on all of X.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples. Of a sparse X, only a batch at a time becomes dense.
        y : array, shape (N,) or (N, K)
            Targets: classes, or 0 and 1 for several labels; a regressor's are real numbers.
        sample_weight : array, shape (N,), optional
            Weights of the examples, 0 or more, and one above 0.
        X_val, y_val : like X and y, optional
            Examples to measure on after each epoch.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            An array is masked, or a callback is not one.
        ValueError
            Inputs or parameters do not fit, a parameter that was changed has no effect beside the
            others, or the loss became infinite or NaN; the message says what to lower or to scale.
        """
        with self._guarded(X, incremental=False):
            self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val)
        return self

    @contextmanager
    def _guarded(self, X: Any, *, incremental: bool) -> Iterator[None]:
        """Check the parameters, compute where X is, and undo everything if there is an error."""
        self._validate_params()
        goes_on = self._goes_on(incremental=incremental)
        with on_device_of(X), unchanged_on_error(self, goes_on=goes_on):
            yield

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool = False,
        X_val: Any = None,
        y_val: Any = None,
    ) -> None:
        hidden = hidden_sizes(self.hidden_layer_sizes)
        check_settings(self, hidden, validated=X_val is not None)
        check_callbacks(self)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        X, y = readable(X, "X"), readable(y, "y")
        first = not self._goes_on(incremental=incremental)
        if not first:
            method = "partial_fit" if incremental else "fit"
            check_same_place(X, self.coefs_[0], type(self).__name__, method)
        X, y = self._checked(X, y, reset=first)
        place = Place.of(X)
        self._learn_targets(y, place, incremental=incremental)
        self._check_output(first=first)
        t = self._encoded(y, place)
        weight = checked_weights(sample_weight, X, place)
        data = Data(X, t, self._weights_of_classes(y, weight, place, incremental=incremental))
        check_some_weight(data.weight, "no row has a weight above 0")
        validation = self._validation_data(X_val, y_val, place)

        self._random_state = check_random_state(self.random_state)
        sizes = [X.shape[1], *hidden, self.n_outputs_]
        net = make_network(self, sizes)
        params = self._initialized(net, place) if first else self._current_parameters(net)
        if is_autocast(params.flat):
            raise ValueError(
                f"{type(self).__name__}: torch.autocast makes gradients of another dtype than the "
                "parameters; leave it."
            )
        self.network_, self._activation = net, self.activation
        if self.solver == "lbfgs":
            params = self._minimized(params, data)
        else:
            params = self._trained(params, data, validation, incremental=incremental)
        if not all_finite(params):
            raise diverged("they did after the last iteration", self, data)
        self._publish(params)

    def _goes_on(self, *, incremental: bool) -> bool:
        """Return whether a call of `fit` or `partial_fit` trains on from the parameters there are."""
        return hasattr(self, "coefs_") and (incremental or self.warm_start)

    def _check_output(self, *, first: bool) -> None:
        """Raise ValueError if the outputs of the network would mean something else from now on."""
        if not first and self.out_activation_ != self._output_activation():
            raise ValueError(
                f"a network trained for outputs with {self.out_activation_!r} cannot go on with "
                f"{self._output_activation()!r}; set warm_start=False and call fit to start again."
            )

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        dtype = self.dtype if reset else Place.of(self.coefs_[0]).dtype
        if self.dtype not in (None, dtype):
            raise ValueError(
                f"the model was fitted in {dtype} and cannot go on in dtype={self.dtype!r}; set "
                "warm_start=False and call fit to start again."
            )
        return validated(self, X, y, dtype, reset=reset)

    def _validation_data(self, X_val: Any, y_val: Any, place: Place) -> Data | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val must be given together.")
        if self.solver == "lbfgs":
            raise ValueError("solver='lbfgs' has no epochs to validate after; leave out X_val.")
        X_val, y_val = readable(X_val, "X_val"), readable(y_val, "y_val")
        X, y = validated(self, X_val, y_val, place.dtype, reset=False)
        if not scipy.sparse.issparse(X) or name_of(place.xp) != "numpy":
            X = place.put(dense(X))
        if self.early_stopping and self._numeric_targets and X.shape[0] < 2:
            raise ValueError(
                "early stopping follows R^2, which one row does not have; give more rows in X_val."
            )
        self._check_known(y)
        return Data(X, self._encoded(y, place), None)

    def _initialized(self, net: Sequential, place: Place) -> Parameters:
        """Draw parameters, and set the attributes as they are before training."""
        for name in ("coefs_", "intercepts_", "norms_"):  # of a fit before
            self.__dict__.pop(name, None)
        self.n_iter_ = 0
        self.t_ = 0
        self.out_activation_ = self._output_activation()
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.validation_scores_: list[float] | None = None
            self.validation_loss_curve_: list[float] | None = None
        return draw_parameters(self, net, self._random_state, place)

    def _minimized(self, params: Parameters, data: Data) -> Parameters:
        params = minimize(self, self.network_, self._loss(exact=True), params, data)
        self.loss_ = loss_of(self.network_, self._loss(), self.alpha, params, data)
        if not math.isfinite(self.loss_):
            raise diverged(f"the loss became {self.loss_}", self, data)
        return params

    def _trained(
        self, params: Parameters, data: Data, validation: Data | None, *, incremental: bool
    ) -> Parameters:
        rows = np.arange(data.t.shape[0])
        if self.early_stopping and validation is None:
            stratify, rng = self._stratification(data.t), self._random_state
            rows, held = held_out(len(rows), self.validation_fraction, stratify, rng)
            validation = data.rows(held)
            check_some_weight(validation.weight, "no row that is held out has a weight above 0")
            if data.weight is not None:
                left = to_host(data.weight)[rows]
                check_some_weight(left, "no row that is not held out has a weight above 0")
        if validation is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        batch_size = clipped_batch_size(self.batch_size, len(rows))
        opt = make_optimizer(self, steps=self.max_iter * batches_of(len(rows), batch_size))
        loss = self._loss()
        trainer = getattr(self, "_trainer", None) if incremental else None
        if trainer is None or trainer.key != (self.network_, loss, opt, self.alpha):
            trainer = Trainer(self.network_, loss, opt, self.alpha, params)
            memory = getattr(self, "_optimizer", None) if incremental else None
            state = state_to_go_on_from(memory, opt, params)
        else:
            state = self._optimizer.state
        if name_of(params.xp) == "jax":  # which deletes what a step is given
            params, state = params.copy(), state.copy()
        params, state = train(
            self, trainer, params, state, data, validation, rows, batch_size, incremental
        )
        if not all(map(all_finite, state.slots.values())):  # then nothing changes any more
            raise diverged("the squares of gradients overflowed", self, data, at_once=True)
        self._optimizer = OptimizerMemory(state)
        self._trainer = trainer if incremental else None
        return params

    def _stratification(self, t: Array) -> Any:
        """Return what a held-out part must have the same share of; nothing by default."""
        return None

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True
