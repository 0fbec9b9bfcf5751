"""Where a run starts: as it was given, or where a checkpoint left it; the same on all ranks."""

from __future__ import annotations

from functools import partial

from anyprop.distributed.data_parallel import broadcast_parameters
from anyprop.training._argument_checks import check_state
from anyprop.training._given import Given
from anyprop.training._how import works_in_place
from anyprop.training.evaluate import monitors
from anyprop.training.ranks import Ranks
from anyprop.training.resume import ResumeError, load_run
from anyprop.training.run import Run


def begun(given: Given, ranks: Ranks) -> Run:
    """Return the run; raise ResumeError if it has gone further than it should."""
    params, state, found = given.params, given.state, None
    if given.resume is not None:
        known = params, given.settings, given.callbacks
        load = partial(load_run, given.resume, *known, allow_changes=given.allow_changes)
        found = ranks.read(load, params)
        params = found.params
        with ranks.agreeing(refusing=True):
            state = check_state(given.optimizer, params, found.state)
    if ranks.several:
        params, state = broadcast_parameters(params, state, ranks.communicator)
    with ranks.agreeing(refusing=True):
        run = Run(
            given.net,
            given.loss,
            given.optimizer,
            params,
            state,
            monitors(given.net, params, given.loss, given.validation),
            in_place=works_in_place(given),
            settings=lambda: given.settings,
            callbacks=given.callbacks,
        )
        if found is not None:
            run.go_on(found, forget_stop=given.allow_changes)
        if (given.steps or run.step) < run.step or (given.epochs or run.epoch) < run.epoch:
            raise ResumeError(
                f"the run in {given.resume} has done {run.step} steps in {run.epoch} epochs already, "
                "more than it is asked for."
            )
    return run
