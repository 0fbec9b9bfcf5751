"""What the parameters of an estimator may be, and settings that have no effect beside others.

Where scikit-learn's own names are combined, what has no part in a fit is set aside as there, such as
``momentum`` with ``solver="adam"``. With a solver, a schedule or a network that only anyprop offers, a
setting that was changed and would have no effect is an error: a search over it would compare nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from anyprop.layers.registry import ACTIVATIONS
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.schedules.registry import SCHEDULES
from anyprop.sklearn._optimizer import LEARNING_RATES, SOLVERS
from anyprop.training.callbacks.base import Callback

_OF_SOLVERS = ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "max_fun")

CONSTRAINTS: dict[str, list[Any]] = {
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
"""What each parameter may be, as scikit-learn checks it."""


def hidden_sizes(given: Any) -> list[int]:
    """Return the units of the hidden layers; raise if they are not valid."""
    sizes: list[int] = list(given) if hasattr(given, "__iter__") else [given]
    if not all(isinstance(size, Integral) for size in sizes):
        raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {sizes}.")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def check_callbacks(estimator: Any) -> None:
    """Raise unless callbacks are those of anyprop, and there are epochs to call them after."""
    for callback in estimator.callbacks or ():
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold anyprop.Callback objects, not {callback!r}.")
    if estimator.callbacks and estimator.solver == "lbfgs":
        raise ValueError("solver='lbfgs' has no epochs to call after; leave out callbacks.")


def check_settings(estimator: Any, hidden: list[int], *, validated: bool) -> None:
    """Raise ValueError if a setting was changed that has no effect beside the others.

    Each is valid by itself. `validated` says whether `fit` was given validation data.
    """
    for names, reason in _void(estimator, hidden, validated=validated):
        changed = [name for name in names if _is_changed(estimator, name)]
        if changed:
            shown = ", ".join(f"{name}={getattr(estimator, name)!r}" for name in changed)
            what = "have no effect" if len(changed) > 1 else "has no effect"
            raise ValueError(f"{shown} {what}: {reason}; leave out {', '.join(changed)}.")


def _void(
    estimator: Any, hidden: list[int], *, validated: bool
) -> Iterator[tuple[tuple[str, ...], str]]:
    """List the settings without effect, and why they have none."""
    solver, rate = estimator.solver, estimator.learning_rate
    scheduled = callable(rate) or rate not in LEARNING_RATES
    if isinstance(solver, Optimizer):
        rates = ("learning_rate_init", "learning_rate") if scheduled else ("learning_rate_init",)
        yield (
            (*rates, *_OF_SOLVERS),
            f"solver={type(solver).__name__}(...) is taken with its own settings, so set them there",
        )
    elif solver not in SOLVERS:
        yield (
            _OF_SOLVERS,
            f"solver={solver!r} has other settings, which an optimizer object takes, such as "
            "solver=anyprop.RMSProp(lr=0.01, rho=0.9)",
        )
    if scheduled and solver == "lbfgs":
        yield ("learning_rate",), "solver='lbfgs' has no learning rate"
    if callable(rate):
        yield ("learning_rate_init",), "learning_rate is a function that returns the rate itself"
    if scheduled or (
        rate != "invscaling" and (isinstance(solver, Optimizer) or solver not in SOLVERS)
    ):
        yield ("power_t",), "it belongs to learning_rate='invscaling'"
    if not hidden:
        yield ("dropout", "norm"), "hidden_layer_sizes=() leaves no hidden layer"
    if validated:
        yield ("validation_fraction",), "X_val is given, so nothing is held out of X"


def _is_changed(estimator: Any, name: str) -> bool:
    default = inspect.signature(type(estimator).__init__).parameters[name].default
    return bool(getattr(estimator, name) != default)
