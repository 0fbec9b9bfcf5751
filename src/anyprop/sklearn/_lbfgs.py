"""Training by L-BFGS: all rows at once, on the flat vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from anyprop.backend import device_of, dtype_name, from_host, to_host
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sklearn._objective import Objective
from anyprop.sklearn._rows import Data


def minimize(
    estimator: Any, net: Sequential, loss: Loss, params: Parameters, data: Data
) -> Parameters:
    """Minimize the loss of all rows, with the L2 term, as an estimator's parameters say.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Its `alpha`, `max_iter`, `max_fun` and `tol` hold; gets `n_iter_`.
    net : Sequential
        The network.
    loss : Loss
        What to make smaller; its value must be what its gradient belongs to.
    params : Parameters
        Where to start.
    data : Data
        The rows.

    Returns
    -------
    params : Parameters
        Those that were found.
    """
    objective = Objective(net, loss, estimator.alpha, params)
    xp, device, dtype = params.xp, device_of(params.flat), dtype_name(params.flat)

    def moved(vector: Any) -> Parameters:
        return params.replace(flat=from_host(vector, xp, dtype=dtype, device=device))

    def value_and_gradient(vector: Any) -> tuple[float, Any]:
        with np.errstate(all="ignore"):
            value, gradient = objective.of_parts(moved(vector), data.parts())
        return float(to_host(value)), to_host(gradient).astype(np.float64)

    found = scipy.optimize.minimize(
        value_and_gradient,
        to_host(params.flat).astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        options={
            "maxfun": estimator.max_fun,
            "maxiter": estimator.max_iter,
            "gtol": estimator.tol,
        },
    )
    estimator.n_iter_ = _check_optimize_result("lbfgs", found, estimator.max_iter)
    return moved(found.x)


def loss_of(net: Sequential, loss: Loss, alpha: float, params: Parameters, data: Data) -> float:
    """Compute the loss of all rows, with the L2 term."""
    with np.errstate(all="ignore"):
        value, _ = Objective(net, loss, alpha, params).of_parts(params, data.parts())
    return float(to_host(value))
