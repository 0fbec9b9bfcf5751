"""The optimizer that an estimator's parameters describe, and its learning rate from epoch to epoch."""

from __future__ import annotations

import math
from typing import Any

from anyprop.backend import read_number
from anyprop.optimizers.adam import Adam
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.momentum import Momentum
from anyprop.optimizers.nesterov import Nesterov
from anyprop.optimizers.registry import get_optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.schedules.registry import schedule_by_name
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run

LEARNING_RATES = ("constant", "invscaling", "adaptive")
"""The modes of scikit-learn; any other name is one of our schedules."""
SOLVERS = ("lbfgs", "sgd", "adam")
"""The solvers of scikit-learn; any other name is one of our optimizers."""


def make_optimizer(estimator: Any, steps: int) -> Optimizer:
    """Return the optimizer of an estimator; a schedule given by name extends over so many updates."""
    solver, rate = estimator.solver, estimator.learning_rate
    if isinstance(solver, Optimizer):
        return solver
    lr = estimator.learning_rate_init
    if callable(rate):
        lr = rate
    elif rate not in LEARNING_RATES:
        lr = schedule_by_name(rate, lr, steps)
    if solver == "sgd":
        kind = Nesterov if estimator.nesterovs_momentum else Momentum
        # scikit-learn allows 1, which is no decay; the number next to it is none to rounding.
        momentum = min(float(estimator.momentum), math.nextafter(1.0, 0.0))
        return kind(lr, momentum=momentum, lr_in_velocity=True)
    if solver == "adam":
        betas = {"beta1": estimator.beta_1, "beta2": estimator.beta_2}
        return Adam(lr, **betas, eps=estimator.epsilon, eps_before_correction=True)
    return get_optimizer(solver)(lr=lr)


class OptimizerMemory:
    """What an optimizer remembers from one `partial_fit` to the next; moves with the estimator."""

    def __init__(self, state: OptimizerState) -> None:
        self.state = state

    def __sklearn_array_api_convert__(self, converter: Any) -> OptimizerMemory:
        def moved(params: Parameters) -> Parameters:
            return params.replace(flat=converter(params.flat))

        state = self.state
        slots = {name: moved(slot) for name, slot in state.slots.items()}
        mask = None if state.decay_mask is None else moved(state.decay_mask)
        return OptimizerMemory(state._replace(slots=slots, decay_mask=mask))


def state_to_go_on_from(
    memory: OptimizerMemory | None, opt: Optimizer, params: Parameters
) -> OptimizerState:
    """Return the state that is remembered; a new one where the optimizer or the network changed."""
    fresh = opt.init(params)
    if memory is None:
        return fresh
    old = memory.state
    same = (
        old.slots.keys() == fresh.slots.keys()
        and (old.decay_mask is None) == (fresh.decay_mask is None)
        and all(slot.layout == params.layout for slot in old.slots.values())
    )
    return old if same else fresh


class LearningRate(Callback):
    """scikit-learn's modes of the learning rate, which change it at the end of an epoch, and its end.

    ``solver="adam"`` has none. The estimator's books must be kept first.
    """

    def __init__(self, estimator: Any, opt: Optimizer) -> None:
        self._est, self._opt = estimator, opt
        self._mode = "constant" if estimator.solver == "adam" else estimator.learning_rate

    def on_epoch(self, run: Run) -> None:
        est = self._est
        self.after_epoch(run, est.t_)
        if est._no_improvement_count <= est.n_iter_no_change:
            return
        stops, decision = self.after_plateau(run)
        if est.verbose:
            what = "Validation score" if est.early_stopping else "Training loss"
            print(
                f"{what} did not improve more than tol={est.tol:f} "
                f"for {est.n_iter_no_change} consecutive epochs. {decision}"
            )
        if stops:
            run.stop()
        else:
            est._no_improvement_count = 0

    def after_epoch(self, run: Run, t: int) -> None:
        """Adapt a run to t, the number of rows seen so far."""
        if self._mode == "invscaling":
            power = self._est.power_t
            run.state = run.state._replace(lr_scale=float((t + 1) ** -power))

    def after_plateau(self, run: Run) -> tuple[bool, str]:
        """Return whether to stop when nothing improves any more, and a description of what is done."""
        if self._mode != "adaptive":
            return True, "Stopping."
        lr = read_number(self._opt.learning_rate(run.state))
        if lr <= 1e-6:
            return True, "Learning rate too small. Stopping."
        run.state = run.state._replace(lr_scale=run.state.lr_scale / 5.0)
        return False, f"Setting learning rate to {lr / 5.0:f}"
