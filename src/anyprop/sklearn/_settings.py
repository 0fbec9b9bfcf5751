"""Settings that others make void.

Where scikit-learn's own names are combined, what has no part in a fit is set aside as there, such as
``momentum`` with ``solver="adam"``. With a solver, a schedule or a network that only anyprop offers, a
setting that was changed and would have no effect is an error: a search over it would compare nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from anyprop.optimizers.base import Optimizer
from anyprop.sklearn._optimizer import LEARNING_RATES, SOLVERS

_OF_SOLVERS = ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "max_fun")


def check_settings(estimator: Any, hidden: list[int], *, validated: bool) -> None:
    """Raise ValueError if a setting was changed that has no effect beside the others.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its parameters, each valid by itself.
    hidden : list of int
        Units of its hidden layers.
    validated : bool
        Whether `fit` was given validation data.
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
