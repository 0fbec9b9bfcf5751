"""The error of a fit whose numbers are no longer finite, and advice that helps."""

from __future__ import annotations

from typing import Any

import scipy.sparse
from sklearn.base import is_regressor

from anyprop.backend import namespace
from anyprop.sklearn._rows import Data

# Above it, inputs and targets are called large; standardized ones stay well below. So is alpha.
LARGE = 100.0
_SCALE_X = "scale X, for example by MaxAbsScaler"


def diverged(what: str, estimator: Any, data: Data, *, at_once: bool = False) -> ValueError:
    """Return the error for numbers that are no longer finite; `what` says which, and since when.

    It names what is too large: X, y or alpha, alone or beside the weights of the rows; and the learning
    rate, unless it was so `at_once`, before the first update.
    """
    large = []
    weight = 1.0 if data.weight is None else float(namespace(data.weight).mean(data.weight))
    if estimator.alpha > LARGE:
        large.append(f"lower alpha={estimator.alpha}")
    elif estimator.alpha > LARGE * weight:  # by whose sum alpha is divided
        large.append(f"multiply the weights of the rows, now {weight:.3g} on average")
    if _largest(data.x) > LARGE:
        large.append(_SCALE_X)
    if is_regressor(estimator) and _largest(data.t) > LARGE:
        scaled = "TransformedTargetRegressor(model, transformer=MaxAbsScaler())"
        large.append(f"scale y, for example by {scaled}")
    advice = " and ".join(large or [_SCALE_X])
    # L-BFGS looks for a step that lowers the loss: there it was not the step that was too long.
    if estimator.solver != "lbfgs" and not (at_once and large):
        advice = f"{_less(estimator)}, or {advice}"
    return ValueError(
        "Solver produced non-finite parameter weights. The input data may contain large values and need "
        f"to be preprocessed. ({what}. {advice[0].upper()}{advice[1:]}.)"
    )


def _less(estimator: Any) -> str:
    """Name the parameter that makes a fit calmer."""
    if hasattr(estimator.solver, "lr"):
        return f"lower the lr of solver={estimator.solver!r}"
    if callable(estimator.learning_rate):
        return f"lower learning_rate={estimator.learning_rate!r}"
    return f"lower learning_rate_init={estimator.learning_rate_init}"


def _largest(array: Any) -> float:
    if scipy.sparse.issparse(array):
        return float(abs(array).max())
    xp = namespace(array)
    return float(xp.max(xp.abs(array)))
