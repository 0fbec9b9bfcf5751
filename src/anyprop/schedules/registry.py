"""Schedules by name, for a run whose length is known."""

from __future__ import annotations

from collections.abc import Callable

from anyprop._checks import choice, count
from anyprop._names import members
from anyprop._usage import usage
from anyprop.schedules.base import Schedule

SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    name: schedule.for_run
    for name, schedule in members("schedules").items()
    if hasattr(schedule, "for_run")
}
"""Name -> function of (lr, steps) that makes a schedule for a run of so many updates."""


@usage("schedule_by_name(name, lr, steps)")
def schedule_by_name(name: str, lr: float, steps: int) -> Schedule:
    """Return a schedule for a whole training run by its name.

    Parameters
    ----------
    name : {"constant", "step", "exponential", "linear", "cosine", "one_cycle"}
        Which: ``"step"`` drops to a tenth after each third of the run, ``"exponential"`` falls to a
        hundredth by the end, ``"linear"`` and ``"cosine"`` fall to 0, ``"one_cycle"`` has `lr` as
        its highest.
    lr : float > 0
        Learning rate.
    steps : int >= 1
        Updates of the whole run.

    Returns
    -------
    Schedule

    Raises
    ------
    TypeError, ValueError
        The name is unknown, and the message shows the nearest one; or lr or steps is of another kind, or
        out of range.

    Examples
    --------
    >>> schedule_by_name("cosine", 0.1, 1000)
    Cosine(lr=0.1, steps=1000)
    """
    choice("schedule", name, SCHEDULES)
    return SCHEDULES[name](lr, count("schedule", "steps", steps))
