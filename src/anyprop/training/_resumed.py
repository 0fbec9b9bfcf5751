"""Where a run starts: as it was given, or where a checkpoint left it; the same on all ranks."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from anyprop.checkpoint import Checkpoint
from anyprop.distributed.data_parallel import broadcast_parameters
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training._argument_checks import check_state
from anyprop.training._given import Given
from anyprop.training.evaluate import monitors
from anyprop.training.ranks import Ranks
from anyprop.training.resume import ResumeError, load_run
from anyprop.training.run import Run


class Start(NamedTuple):
    """The parameters and the state that a run starts from, and the checkpoint if it is resumed."""

    params: Parameters
    state: OptimizerState
    found: Checkpoint | None

    @property
    def callbacks(self) -> dict[str, Any] | None:
        """What the callbacks of a resumed run knew."""
        run = None if self.found is None else self.found.run
        return None if run is None else run["callbacks"]


def resumed(given: Given, ranks: Ranks) -> Start:
    """Return where a run starts."""
    params, state, found = given.params, given.state, None
    if given.resume is not None:
        changes = given.allow_changes
        load = partial(load_run, given.resume, params, given.settings, allow_changes=changes)
        found = ranks.read(load, params)
        params = found.params
        with ranks.agreeing(refusing=True):
            state = check_state(given.optimizer, params, found.state)
    assert state is not None
    if ranks.several:
        params, state = broadcast_parameters(params, state, ranks.communicator)
    return Start(params, state, found)


def begun(given: Given, start: Start, *, in_place: bool) -> Run:
    """Return the run; raise ResumeError if it has gone further than it should."""
    run = Run(
        given.net,
        given.loss,
        given.optimizer,
        start.params,
        start.state,
        monitors(given.net, start.params, given.loss, given.validation),
        in_place=in_place,
        settings=lambda: given.settings,
        callbacks=given.callbacks,
    )
    if start.found is not None:
        run.go_on(start.found, forget_stop=given.allow_changes)
    if (given.steps or run.step) < run.step or (given.epochs or run.epoch) < run.epoch:
        raise ResumeError(
            f"the run in {given.resume} has done {run.step} steps in {run.epoch} epochs already, more "
            "than it is asked for."
        )
    return run
