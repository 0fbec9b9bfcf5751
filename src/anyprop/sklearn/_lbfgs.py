"""Training by L-BFGS: all rows at once, on the flat vector."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result
from threadpoolctl import ThreadpoolController

from anyprop.backend import device_of, dtype_name, from_host, to_host
from anyprop.compiled.compile import compile_gradient
from anyprop.layers.sequential import Sequential
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sklearn._objective import Objective, pays
from anyprop.sklearn._rows import Data


def minimize(
    estimator: Any, net: Sequential, loss: Loss, params: Parameters, data: Data
) -> Parameters:
    """Minimize the loss of all rows, with the L2 term, as an estimator's parameters say; set `n_iter_`.

    The gradient of the loss must be exactly that of its value. ValueError says that the loss would
    differ each time that it is computed.
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
        flat = from_host(vector, xp, dtype=dtype, device=device)
        return Parameters(params.layout, flat, params.running)

    add_part = _compiled(objective, params, data.t.shape[0])
    total = loss.total_weight(data.t, data.weight, dtype=params.flat.dtype)

    def value_and_gradient(vector: Any) -> tuple[float, Any]:
        at = moved(vector)
        sums: Any = None
        with np.errstate(all="ignore"):
            for x, t, w in data.parts():
                sums = add_part(at, {"x": x, "t": t, "sample_weight": w, "before": sums})
            value, gradient = sums[0] / total, sums[1] / total
        return float(to_host(value)), to_host(gradient).astype(np.float64, copy=False)

    with _one_thread_for_scipy(data.t.shape[0] * params.size):
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


def _one_thread_for_scipy(work: int) -> AbstractContextManager[Any]:
    """Return a context in which SciPy computes on one core, for products of so many multiplications.

    L-BFGS itself has next to nothing to compute, but SciPy's wheels have a BLAS of their own: its
    threads and those of NumPy's would wait for the same cores, for milliseconds at each change.
    """
    # With fewer, NumPy's products take no threads, and to look for the libraries takes a while.
    return _blas_of_scipy().limit(limits=1) if work > 1 << 18 else nullcontext()


@functools.cache
def _blas_of_scipy() -> ThreadpoolController:
    """Return what sets the threads of SciPy's BLAS, if that is one of its own."""
    loaded = ThreadpoolController()
    folders = {lib.filepath: Path(lib.filepath).parent for lib in loaded.lib_controllers}
    own = [
        path
        for path, folder in folders.items()
        if folder.name == "scipy.libs" or folder.parts[-2:] == ("scipy", ".dylibs")
    ]
    return loaded.select(filepath=own)


def loss_of(net: Sequential, loss: Loss, alpha: float, params: Parameters, data: Data) -> float:
    """Compute the loss of all rows, with the L2 term."""
    with np.errstate(all="ignore"):
        value = Objective(net, loss, alpha, params).value_of_parts(params, data.parts())
    return float(to_host(value))


def _compiled(objective: Objective, like: Parameters, rows: int) -> Callable[..., Any]:
    """Return `Objective.of_part`, compiled from the call on from which that pays."""
    of_part = _OfTrees(objective)
    compiled = compile_gradient(of_part, like.xp)
    calls = _calls_of(objective, rows)

    def compute(params: Parameters, batch: Mapping[str, Any]) -> Any:
        # How many there will be, nothing says. Half as many as pay lose the time that it takes to plan,
        # so in all no more than twice that time is lost.
        return (compiled if pays(2 * next(calls), rows, like) else of_part)(params, batch)

    return compute


@functools.lru_cache(maxsize=8)
def _calls_of(objective: Objective, rows: int) -> Iterator[int]:
    """Count how often an objective is computed, in one fit or in several."""
    return itertools.count(1)


@dataclass(frozen=True)
class _OfTrees:
    """`Objective.of_part` as a function of two trees."""

    objective: Objective

    def __call__(self, params: Parameters, batch: Mapping[str, Any]) -> Any:
        return self.objective.of_part(params, **batch)
