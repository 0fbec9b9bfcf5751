"""Whether what is compiled for a step can be kept for all steps that are equal to it."""

from __future__ import annotations

from types import FunctionType

from anyprop.training.step import Step


def is_constant(step: Step) -> bool:
    """Return whether a step, and what is equal to it, computes the same for ever.

    Parameters
    ----------
    step : Step
        Any.

    Returns
    -------
    bool
        Whether it consists of numbers, strings, tuples and objects that compare by such, and of
        functions; of two gradients that are functions nobody can tell whether they are equal.
    """
    return not isinstance(step.gradient, FunctionType) and _is_constant(step)


def _is_constant(value: object) -> bool:
    if value is None or isinstance(value, (bool, int, float, str)):
        return True
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    if type(value).__hash__ in (None, object.__hash__):
        return callable(value)  # as any function that is traced
    return all(map(_is_constant, vars(value).values())) if hasattr(value, "__dict__") else False
