"""What the contestants' numbers are compared with: anyprop's eager step on NumPy, in float64.

The contestants compute in float32 and come from six libraries, so a mistake would have to be made in all
of them alike to pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyprop.optimizers.adam import Adam
from anyprop.optimizers.base import Optimizer
from benchmarks.contestants import ours, scikit
from benchmarks.workloads import ADAM_EPS, STEP, TRAINING, UPDATE, Problem


def reference(problem: Problem, optimizer: str) -> list[float]:
    """Compute the numbers that all contestants with this optimizer must agree on.

    Parameters
    ----------
    problem : Problem
        Workload and arrays.
    optimizer : {"rmsprop", "adam"}
        How parameters are updated.

    Returns
    -------
    list of float
        Losses, entries of the updated vector, or zero for a training that reaches its accuracy.
    """
    workload = problem.workload
    if workload.kind == TRAINING:
        return [0.0]
    arrays = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in problem.arrays.items()
    }
    opt: Optimizer | None = None
    if optimizer == "adam":
        opt = Adam(workload.lr, eps=ADAM_EPS)
        if "order" in arrays:
            arrays["order"] = scikit.epoch_order(problem)
    precise = Problem(workload, arrays)
    if workload.kind == STEP:
        runner = ours.step(precise, "cpu", backend="numpy", optimizer=opt)
    elif workload.kind == UPDATE:
        runner = ours.update(precise, "cpu", backend="numpy")
    else:
        runner = ours.epoch(precise, "cpu", backend="numpy", optimizer=opt)
    return runner.check(workload.checked)


def difference(values: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest difference, relative to `expected`, or to 0.01 where that is larger.

    It is NaN if one of the values is.
    """
    pairs = zip(values, expected, strict=False)  # an epoch of scikit-learn gives its mean loss only
    return float(np.max([0.0, *(abs(v - e) / max(abs(e), 0.01) for v, e in pairs)]))
