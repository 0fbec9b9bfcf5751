"""What a schedule is.

A schedule maps the number of updates done so far, 0 for the first update, to a learning rate. It is a
frozen dataclass with one formula, `at(xp, t)`, written with the functions of a namespace, so the same
formula serves a Python int (it then returns a Python float) and a traced 0-d array.

A schedule that makes sense for a whole run, given the highest learning rate and the number of steps,
defines `for_run(lr, steps)` besides, and can then be chosen by the name of its file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from anyprop._checks import is_scalar_array, kind, non_negative
from anyprop._repr import ShortRepr
from anyprop._typing import Array, Namespace, Number
from anyprop._usage import Advising
from anyprop.backend import namespace


class Schedule(Advising, ShortRepr):
    """Base of all schedules; the text of its module, `anyprop.schedules.base`, is the contract.

    Raises
    ------
    TypeError, ValueError
        An option of a schedule is of another kind, or out of its range.
    """

    def __call__(self, step: int | Number) -> Number:
        """Compute the learning rate of the update that follows `step` updates.

        Parameters
        ----------
        step : int >= 0, or array of shape () and integer dtype
            Updates done so far.

        Returns
        -------
        float, or array of shape ()
            The learning rate: a float for an int; for an array one beside it, in the widest floating
            dtype of its namespace.

        Raises
        ------
        TypeError, ValueError
            `step` is no number, or a negative one.
        """
        if not is_scalar_array(step):
            t = np.asarray(non_negative(type(self).__name__, "step", step))
            with np.errstate(all="ignore"):  # powers overflow where `end` has long been reached
                return float(self.at(namespace(t), t))
        xp = namespace(step)
        widths = xp.__array_namespace_info__().dtypes(kind="real floating")
        return self.at(xp, xp.astype(step, widths.get("float64", xp.float32)))

    def at(self, xp: Namespace, t: Array) -> Array:
        """Evaluate the formula with the functions of `xp`.

        Parameters
        ----------
        xp : namespace
            That of t.
        t : array, shape (), float
            Updates done so far.

        Returns
        -------
        array, shape (), float
            The learning rate, of the dtype of t.
        """
        raise NotImplementedError


def half_cosine(
    xp: Namespace, start: float, end: float, x: Array, *, exponent: float = 1.0
) -> Array:
    """Interpolate from `start` at x = 0 to `end` at x = 1 along half a cosine, and stay there."""
    falling = 0.5 + 0.5 * xp.cos(math.pi * xp.minimum(x, 1.0))
    return end + (start - end) * (falling if exponent == 1.0 else falling**exponent)


def stopped(xp: Namespace, lr: Array, end: float | None, *, rising: bool = False) -> Array:
    """Return a learning rate that falls (or rises) no further than `end`; None means no limit."""
    if end is None:
        return lr
    return xp.minimum(lr, end) if rising else xp.maximum(lr, end)


def a_schedule(owner: str, name: str, value: Any) -> Schedule:
    """Return `value`, which must be a schedule."""
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{owner}: {name} must be a Schedule such as Constant(0.1), not {kind(value)}."
        )
    return value


def check_boundaries(
    owner: Schedule, name: str, pieces: Sequence[Any], boundaries: Sequence[int]
) -> None:
    """Raise ValueError unless `boundaries` rise and there is one fewer of them than `pieces`."""
    kind = type(owner).__name__
    if len(pieces) != len(boundaries) + 1:
        raise ValueError(
            f"{kind}: {len(pieces)} {name} need {max(len(pieces) - 1, 0)} boundaries, "
            f"not {len(boundaries)}."
        )
    if any(a >= b for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"{kind}: boundaries must rise, not {tuple(boundaries)}.")
