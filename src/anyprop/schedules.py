"""Learning rates that depend on the step.

A schedule maps the number of updates done so far, 0 for the first update, to a learning rate. It is
written with the functions of a namespace, so the same formula serves a Python int (it then gives a
Python float) and a traced 0-d array.

    Constant       lr
    StepDecay      lr factor^floor(step / every)
    Exponential    lr factor^(step / every)
    InverseTime    lr / (1 + decay step)
    Linear         lr + (end - lr) step / steps                           and `end` from there on
    Cosine         end + (lr - end) (1 + cos(pi step / steps)) / 2        and `end` from there on
    OneCycle       half a cosine up to lr, then half a cosine down
    Piecewise      values[i] while boundaries[i-1] <= step < boundaries[i]
    Join           schedules[i] there, counting from boundaries[i-1]
    Warmup         linear from 0 over the first steps, then another schedule, counting from there

The last two are made of schedules, and may stand in each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import (
    choice,
    count,
    fields,
    fraction,
    is_scalar_array,
    non_negative,
    positive,
    real,
)
from anyprop._typing import Array, Namespace, Number
from anyprop.backend import namespace


class Schedule:
    """Base of all schedules; see the module's text for the formulas."""

    def __call__(self, step: int | Number) -> Number:
        """Give the learning rate of the update that follows `step` updates.

        Parameters
        ----------
        step : int >= 0, or array of shape () and integer dtype
            Updates done so far.

        Returns
        -------
        float, or array of shape ()
            The learning rate: a float for an int; for an array one beside it, in the widest floating
            dtype of its namespace.
        """
        if not is_scalar_array(step):
            t = np.asarray(real(type(self).__name__, "step", step))
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


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate at all times; it stands for one inside `Join` and `Warmup`.

    Parameters
    ----------
    lr : float > 0
        Learning rate.

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    lr: float

    def __post_init__(self) -> None:
        fields(self, lr=positive)

    def at(self, xp: Namespace, t: Array) -> Array:
        return xp.full_like(t, self.lr)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the learning rate by a factor after every so many steps.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first steps.
    factor : float > 0
        Factor at each drop.
    every : int >= 1
        Steps from one drop to the next.

    Examples
    --------
    >>> schedule = StepDecay(0.1, factor=0.5, every=100)
    >>> schedule(99), schedule(100)
    (0.1, 0.05)
    """

    lr: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        fields(self, lr=positive, factor=positive, every=count)

    def at(self, xp: Namespace, t: Array) -> Array:
        return self.lr * self.factor ** xp.floor(t / self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Let the learning rate fall (or rise) by the same factor over any equal number of steps.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    factor : float > 0
        Factor over `every` steps; above 1, the learning rate rises.
    every : int >= 1
        Steps that the factor refers to.

    Examples
    --------
    >>> schedule = Exponential(0.1, factor=0.01, every=1000)
    >>> round(schedule(500), 6)
    0.01
    """

    lr: float
    factor: float
    every: int = 1

    def __post_init__(self) -> None:
        fields(self, lr=positive, factor=positive, every=count)

    def at(self, xp: Namespace, t: Array) -> Array:
        return self.lr * self.factor ** (t / self.every)


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Divide the learning rate by a number that grows with the step.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    decay : float > 0
        Growth of the divisor in each step; after 1 / decay steps the learning rate has halved.

    References
    ----------
    Robbins & Monro, "A stochastic approximation method", 1951: such a decay lets SGD converge.

    Examples
    --------
    >>> InverseTime(0.1, decay=0.01)(100)
    0.05
    """

    lr: float
    decay: float

    def __post_init__(self) -> None:
        fields(self, lr=positive, decay=positive)

    def at(self, xp: Namespace, t: Array) -> Array:
        return self.lr / (1.0 + self.decay * t)


@dataclass(frozen=True)
class Linear(Schedule):
    """Go from one learning rate to another in a straight line.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    steps : int >= 1
        Steps after which `end` is reached.
    end : float >= 0
        Learning rate from there on.

    Examples
    --------
    >>> schedule = Linear(0.1, steps=100)
    >>> schedule(50), schedule(200)
    (0.05, 0.0)
    """

    lr: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, end=non_negative)

    def at(self, xp: Namespace, t: Array) -> Array:
        return self.lr + (self.end - self.lr) * (xp.minimum(t, float(self.steps)) / self.steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Go from one learning rate to another along half a cosine: flat at first, and at the end.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    steps : int >= 1
        Steps after which `end` is reached.
    end : float >= 0
        Learning rate from there on.

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> schedule = Cosine(0.1, steps=100)
    >>> schedule(0), round(schedule(50), 6), schedule(200)
    (0.1, 0.05, 0.0)
    """

    lr: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, end=non_negative)

    def at(self, xp: Namespace, t: Array) -> Array:
        return _half_cosine(xp, self.lr, self.end, t / self.steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise to a high learning rate, then fall far below the first one, each along half a cosine.

    The highest is reached at step `rise` * `steps` - 1, the lowest at `steps` - 1. Where that leaves no
    step to rise in, with `rise` = 0 or very few steps, it begins at the highest; PyTorch's OneCycleLR
    begins a little below it there, and is the same otherwise.

    Parameters
    ----------
    lr : float > 0
        Highest learning rate.
    steps : int >= 1
        Steps of the whole cycle; afterwards the last learning rate stays.
    rise : float in [0, 1)
        Share of the steps in which it rises.
    start_factor : float > 0
        First learning rate, as a factor of lr.
    end_factor : float > 0
        Last learning rate, as a factor of lr.

    References
    ----------
    Smith & Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2019.

    Examples
    --------
    >>> schedule = OneCycle(0.1, steps=100)
    >>> [round(schedule(step), 7) for step in (0, 29, 99)]
    [0.004, 0.1, 4e-07]
    """

    lr: float
    steps: int
    rise: float = 0.3
    start_factor: float = 1 / 25
    end_factor: float = 1 / 250_000

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, rise=fraction)
        fields(self, start_factor=positive, end_factor=positive)

    def at(self, xp: Namespace, t: Array) -> Array:
        # Where the steps are too few for a rise, the cycle begins at its top.
        top = max(self.rise * self.steps - 1.0, 0.0)
        width = max(self.steps - 1.0 - top, 1.0)
        down = _half_cosine(xp, self.lr, self.end_factor * self.lr, (t - top) / width)
        if top == 0.0:
            return down
        return xp.where(
            t < top, _half_cosine(xp, self.start_factor * self.lr, self.lr, t / top), down
        )


def _half_cosine(xp: Namespace, start: float, end: float, x: Array) -> Array:
    """Go from `start` at x = 0 to `end` at x = 1, and stay there."""
    return end + (start - end) * (0.5 + 0.5 * xp.cos(math.pi * xp.minimum(x, 1.0)))


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Use one learning rate after another.

    Parameters
    ----------
    values : sequence of float >= 0
        Learning rates.
    boundaries : sequence of int >= 1, one fewer than values
        Steps from which on the next value holds, rising.

    Raises
    ------
    ValueError
        The numbers of values and boundaries do not fit, or the boundaries do not rise.

    Examples
    --------
    >>> schedule = Piecewise([0.1, 0.01, 0.001], [100, 200])
    >>> schedule(99), schedule(100), schedule(500)
    (0.1, 0.01, 0.001)
    """

    values: Sequence[float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        fields(self, values=_each(non_negative), boundaries=_each(count))
        _check_boundaries(self, "values", self.values, self.boundaries)

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = xp.full_like(t, self.values[0])
        for value, boundary in zip(self.values[1:], self.boundaries, strict=True):
            lr = xp.where(t >= float(boundary), value, lr)
        return lr


@dataclass(frozen=True)
class Join(Schedule):
    """Use one schedule after another; each counts the steps from where it begins.

    Parameters
    ----------
    schedules : sequence of Schedule
        The schedules.
    boundaries : sequence of int >= 1, one fewer than schedules
        Steps from which on the next schedule holds, rising.

    Raises
    ------
    ValueError
        The numbers of schedules and boundaries do not fit, or the boundaries do not rise.

    Examples
    --------
    >>> schedule = Join([Constant(0.1), Linear(0.1, steps=100)], [1000])
    >>> schedule(999), schedule(1050)
    (0.1, 0.05)
    """

    schedules: Sequence[Schedule]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        fields(self, schedules=_each(_schedule), boundaries=_each(count))
        _check_boundaries(self, "schedules", self.schedules, self.boundaries)

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = self.schedules[0].at(xp, t)
        for schedule, boundary in zip(self.schedules[1:], self.boundaries, strict=True):
            start = float(boundary)
            lr = xp.where(t >= start, schedule.at(xp, xp.maximum(t - start, 0.0)), lr)
        return lr


@dataclass(frozen=True)
class Warmup(Schedule):
    """Raise the learning rate from 0 in a straight line, then go on with another schedule.

    The first update has a learning rate of 0; it only lets an optimizer collect its first means.

    Parameters
    ----------
    steps : int >= 1
        Steps after which `then` begins.
    then : Schedule
        What follows; the line leads to its first learning rate.

    Examples
    --------
    >>> schedule = Warmup(10, Cosine(0.1, steps=100))
    >>> schedule(0), schedule(5), schedule(10), schedule(110)
    (0.0, 0.05, 0.1, 0.0)
    """

    steps: int
    then: Schedule

    def __post_init__(self) -> None:
        fields(self, steps=count, then=_schedule)

    def at(self, xp: Namespace, t: Array) -> Array:
        first = self.then.at(xp, xp.zeros_like(t))
        after = self.then.at(xp, xp.maximum(t - float(self.steps), 0.0))
        return xp.where(t < float(self.steps), first * (t / self.steps), after)


def _each(check: Callable[[str, str, Any], Any]) -> Callable[[str, str, Any], Any]:
    """Make a check of every member of a sequence, which it stores as a tuple."""

    def check_each(owner: str, name: str, values: Any) -> tuple[Any, ...]:
        if isinstance(values, (str, bytes, Mapping, Set)) or not hasattr(values, "__iter__"):
            raise TypeError(f"{owner}: {name} must be a sequence, not {values!r}.")
        return tuple(check(owner, f"{name}[{i}]", value) for i, value in enumerate(values))

    return check_each


def _schedule(owner: str, name: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule):
        raise TypeError(f"{owner}: {name} must be a Schedule such as Constant(0.1), not {value!r}.")
    return value


def _check_boundaries(
    owner: Schedule, name: str, pieces: Sequence[Any], boundaries: Sequence[int]
) -> None:
    kind = type(owner).__name__
    if len(pieces) != len(boundaries) + 1:
        raise ValueError(
            f"{kind}: {len(pieces)} {name} need {max(len(pieces) - 1, 0)} boundaries, "
            f"not {len(boundaries)}."
        )
    if any(a >= b for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"{kind}: boundaries must rise, not {tuple(boundaries)}.")


SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: Constant(lr),
    "step": lambda lr, steps: StepDecay(lr, factor=0.1, every=math.ceil(steps / 3)),
    "exponential": lambda lr, steps: Exponential(lr, factor=0.01, every=steps),
    "linear": lambda lr, steps: Linear(lr, steps),
    "cosine": lambda lr, steps: Cosine(lr, steps),
    "one_cycle": lambda lr, steps: OneCycle(lr, steps),
}
"""Name -> function of (lr, steps) that makes a schedule for a run of so many updates."""


def schedule_by_name(name: str, lr: float, steps: int) -> Schedule:
    """Make a schedule for a whole training run from its name.

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
    ValueError
        The name is unknown, and the message shows the nearest one; or lr or steps is out of range.

    Examples
    --------
    >>> schedule_by_name("cosine", 0.1, 1000)
    Cosine(lr=0.1, steps=1000, end=0.0)
    """
    choice("schedule", name, SCHEDULES)
    return SCHEDULES[name](lr, count("schedule", "steps", steps))
