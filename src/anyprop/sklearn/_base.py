"""What the classifier and the regressor share: parameters, the course of a fit, predictions."""

from __future__ import annotations

import math
import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from anyprop._typing import Array
from anyprop.backend import name_of, to_host
from anyprop.layers.registry import ACTIVATIONS
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.parameters import Layout, Parameters
from anyprop.schedules.registry import SCHEDULES
from anyprop.sklearn._diverged import diverged
from anyprop.sklearn._given import (
    Place,
    check_same_place,
    check_some_weight,
    checked_weights,
    float_dtypes,
    host,
    readable,
)
from anyprop.sklearn._lbfgs import loss_of, minimize
from anyprop.sklearn._network import all_finite, draw_parameters, make_network, packed, unpacked
from anyprop.sklearn._optimizer import (
    LEARNING_RATES,
    OptimizerMemory,
    make_optimizer,
    state_to_go_on_from,
)
from anyprop.sklearn._rows import Data, dense, outputs
from anyprop.sklearn._settings import check_settings
from anyprop.sklearn._stochastic import Trainer, clipped_batch_size, held_out, train
from anyprop.training.callbacks.base import Callback


class BaseMLP(BaseEstimator, metaclass=ABCMeta):
    """Base of the estimators; their docstrings tell the parameters."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"logistic", *ACTIVATIONS})],
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({*LEARNING_RATES, *SCHEDULES}), callable],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "norm": [StrOptions({"batch", "layer"}), None],
        "initializer": [str, callable, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "callbacks": [list, tuple, None],
    }

    n_outputs_: int
    _optimizer: OptimizerMemory

    # What a subclass defines.

    @abstractmethod
    def _loss(self, *, exact: bool = False) -> Loss:
        """Make the loss; `exact` asks for one whose value its gradient belongs to."""

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
        """Raise ValueError if validation targets are none that the training targets allow."""

    def _weights_of_classes(
        self, y: Any, sample_weight: Array | None, place: Place, *, incremental: bool
    ) -> Array | None:
        """Multiply the weights of rows by those of their classes."""
        return sample_weight

    # Fitting.

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
        hidden = self._hidden_sizes()
        check_settings(self, hidden, validated=X_val is not None)
        self._check_callbacks()
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
        net = make_network(sizes, self.activation, norm=self.norm, dropout=float(self.dropout))
        params = self._initialized(net, place) if first else self._current_parameters(net)
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

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(isinstance(size, Integral) for size in sizes):
            raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {sizes}.")
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _check_callbacks(self) -> None:
        for callback in self.callbacks or ():
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must hold anyprop.Callback objects, not {callback!r}.")
        if self.callbacks and self.solver == "lbfgs":
            raise ValueError("solver='lbfgs' has no epochs to call after; leave out callbacks.")

    def _check_output(self, *, first: bool) -> None:
        """Raise ValueError if the outputs of the network would from now on mean something else."""
        if not first and self.out_activation_ != self._output_activation():
            raise ValueError(
                f"a network trained for outputs with {self.out_activation_!r} cannot go on with "
                f"{self._output_activation()!r}; set warm_start=False and call fit to start anew."
            )

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        dtype = self.dtype if reset else Place.of(self.coefs_[0]).dtype
        if self.dtype not in (None, dtype):
            raise ValueError(
                f"the model was fitted in {dtype} and cannot go on in dtype={self.dtype!r}; set "
                "warm_start=False and call fit to start anew."
            )
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._numeric_targets,
            dtype=float_dtypes(X, dtype),
            reset=reset,
        )
        return X, y

    def _validation_data(self, X_val: Any, y_val: Any, place: Place) -> Data | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val must be given together.")
        if self.solver == "lbfgs":
            raise ValueError("solver='lbfgs' has no epochs to validate after; leave out X_val.")
        X_val, y_val = readable(X_val, "X_val"), readable(y_val, "y_val")
        X, y = validate_data(
            self,
            X_val,
            y_val,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._numeric_targets,
            dtype=float_dtypes(X_val, place.dtype),
            reset=False,
        )
        if not scipy.sparse.issparse(X) or name_of(place.xp) != "numpy":
            X = place.put(dense(X))
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
        return draw_parameters(
            net,
            self._random_state,
            activation=self.activation,
            initializer=self.initializer,
            xp=place.xp,
            dtype=place.dtype,
            device=place.device,
        )

    def _minimized(self, params: Parameters, data: Data) -> Parameters:
        if self.dropout or self.norm == "batch":
            what = "dropout" if self.dropout else "norm='batch'"
            raise ValueError(
                f"solver='lbfgs' needs a loss that is the same whenever it is computed, which {what} "
                "does not allow; choose solver='adam'."
            )
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
            rows, held = held_out(
                len(rows),
                self.validation_fraction,
                self._stratification(data.t),
                self._random_state,
            )
            validation = data.rows(held)
            check_some_weight(validation.weight, "no row that is held out has a weight above 0")
            if data.weight is not None:
                left = to_host(data.weight)[rows]
                check_some_weight(left, "no row that is not held out has a weight above 0")
        if validation is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
        batch_size = clipped_batch_size(self.batch_size, len(rows))
        opt = make_optimizer(self, steps=self.max_iter * -(-len(rows) // batch_size))
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
            self,
            trainer,
            params,
            state,
            data,
            validation,
            rows,
            batch_size=batch_size,
            incremental=incremental,
        )
        if not all(map(all_finite, state.slots.values())):  # then nothing moves any more
            raise diverged("the squares of gradients overflowed", self, data, at_once=True)
        self._optimizer = OptimizerMemory(state)
        self._trainer = trainer if incremental else None
        return params

    def _stratification(self, t: Array) -> Any:
        """Tell what a held-out part must have the same share of; nothing by default."""
        return None

    def _publish(self, params: Parameters) -> None:
        """Show the parameters as scikit-learn does."""
        self._parameters = params
        self.coefs_, self.intercepts_, norms = unpacked(params)
        self.n_layers_ = len(self.coefs_) + 1
        if norms:
            self.norms_ = norms
        self._shown = self._arrays()

    def _arrays(self) -> list[Array]:
        norms = getattr(self, "norms_", [])
        return [*self.coefs_, *self.intercepts_, *(a for norm in norms for a in norm.values())]

    def _current_parameters(self, net: Sequential) -> Parameters:
        """Give the parameters as one vector: the one trained, unless the arrays shown were replaced."""
        layout = Layout.of(net.specs())
        shown = getattr(self, "_shown", None)
        if shown is not None and self._parameters.layout == layout:
            arrays = self._arrays()
            if len(arrays) == len(shown) and all(map(operator.is_, arrays, shown)):
                return self._parameters
        return packed(layout, self.coefs_, self.intercepts_, getattr(self, "norms_", []))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # A pickle holds each number once, and no compiled step.
        again = ("_parameters", "_shown", "_trainer", "_copies")
        return {k: v for k, v in state.items() if k not in again}

    # Predicting.

    def _raw_outputs(self, X: Any, method: str) -> Array:
        """Compute the network's outputs, before what `out_activation_` names."""
        check_is_fitted(self, "coefs_")
        if self.activation != self._activation:
            raise ValueError(
                f"activation={self.activation!r} was set after fit, but the weights were trained with "
                f"{self._activation!r}; set that again, or call fit."
            )
        X = readable(X, "X")
        like = self.coefs_[0]
        check_same_place(X, like, type(self).__name__, method)
        place = Place.of(like)
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=float_dtypes(X, place.dtype),
            reset=False,
        )
        params = self._current_parameters(self.network_)
        if not all_finite(params):
            raise ValueError(
                f"the weights of this {type(self).__name__} are not finite; set others in coefs_ and "
                "intercepts_, or call fit."
            )
        with np.errstate(all="ignore"):
            y = outputs(self.network_, params, X)
        if not bool(params.xp.all(params.xp.isfinite(y))):
            raise ValueError(
                f"the outputs of this {type(self).__name__} overflow {place.dtype}; X holds numbers far "
                "from those that it was trained on, so scale it alike."
            )
        return y

    def _measured(self, metric: Callable[..., float], X: Any, y: Any, sample_weight: Any) -> float:
        """Compute a metric of predictions on the host, where all dtypes have all operations."""
        y, weight = readable(y, "y"), readable(sample_weight, "sample_weight")
        weight = None if weight is None else np.asarray(host(weight))
        check_some_weight(weight, "no row has a weight above 0")
        if weight is not None and (weight < 0.0).any():
            raise ValueError("sample_weight must not be negative.")
        predicted = self.predict(X)
        return float(metric(host(y), host(predicted), sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True
