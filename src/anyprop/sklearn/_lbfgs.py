"""Training by L-BFGS: all rows at once, on the flat vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from anyprop._typing import Array, Namespace, Number, Rule
from anyprop.backend import device_of, dtype_name, from_host, to_host
from anyprop.compiled.dispatch import compile as compile_step
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.network import value_and_grad
from anyprop.optimizers.base import Optimizer
from anyprop.parameters import Parameters
from anyprop.sklearn._objective import Objective
from anyprop.sklearn._rows import Data
from anyprop.step import Step


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

    Raises
    ------
    ValueError
        The loss is another one each time that it is computed.
    """
    if estimator.dropout or estimator.norm == "batch":
        what = "dropout" if estimator.dropout else "norm='batch'"
        raise ValueError(
            f"solver='lbfgs' needs a loss that is the same whenever it is computed, which {what} "
            "does not allow; choose solver='adam'."
        )
    objective = Objective(net, loss, estimator.alpha, params)
    xp, device, dtype = params.xp, device_of(params.flat), dtype_name(params.flat)

    def moved(vector: Any) -> Parameters:
        return params.replace(flat=from_host(vector, xp, dtype=dtype, device=device))

    compute = _compiled(net, loss, params)

    def value_and_gradient(vector: Any) -> tuple[float, Any]:
        with np.errstate(all="ignore"):
            value, gradient = objective.of_parts(moved(vector), data.parts(), compute)
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


@dataclass(frozen=True)
class _Kept(Optimizer):
    """An optimizer that changes nothing and remembers the gradient: p <- p, g_kept <- g."""

    def slots(self) -> dict[str, float | None]:
        return {"g": 0.0}

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        return {}

    def rule(self, xp: Namespace) -> Rule:
        def rule(p, g, before):  # type: ignore[no-untyped-def]
            return p, g

        return rule


def _compiled(net: Sequential, loss: Loss, like: Parameters) -> Callable[..., Any]:
    """Make `value_and_grad` as a compiled step; a gradient holds until the next one."""
    opt = _Kept()
    step = compile_step(Step(value_and_grad(net, loss), opt))
    state = opt.init(like)

    def compute(
        params: Parameters, x: Array, t: Array, *, sample_weight: Array | None
    ) -> tuple[Array, Parameters]:
        nonlocal state
        # A copy, since the step takes over what it is given, and this may be memory of scipy's.
        _, state, value = step(params.copy(), state, x, t, sample_weight=sample_weight)
        return value, state.slots["g"]

    return compute
