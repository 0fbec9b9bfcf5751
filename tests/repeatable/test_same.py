"""What counts as the same in two recordings of a step, and what does not."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from anyprop.repeatable.same import same


class Refusing:
    """Cannot be compared, and shows nothing that it consists of."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other):
        raise LookupError("own")


class Array:
    """Looks like an array that no library knows."""

    shape, dtype = (2,), "float64"


class Counter:
    def __init__(self, start):
        self.count = start

    def next(self):
        return self.count


def in_itself(number):
    numbers = [number]
    numbers.append(numbers)
    return numbers


def with_a_late_variable():
    def function():
        return late

    if random is None:
        late = 1.0
    return function


SAME = {
    "numbers that are NaN": lambda: float("nan"),
    "arrays with NaN": lambda: np.asarray([1.0, np.nan]),
    "bound methods": lambda: Counter(3).next,
    "partial functions": lambda: partial(max, 3, key=abs),
    "lists that hold themselves": lambda: in_itself(1.0),
    "variables that are not set yet": with_a_late_variable,
    "generators": lambda: np.random.default_rng(4),
    "bit generators": lambda: np.random.PCG64(4),
    "old generators": lambda: np.random.RandomState(4),
    "Python's generators": lambda: random.Random(4),
    "slices": lambda: slice(1, None, 2),
}

OTHERS = {
    "a zero of the other sign": (0.0, -0.0),
    "shapes": (np.zeros(2), np.zeros((2, 1))),
    "dtypes": (np.zeros(2), np.zeros(2, "float32")),
    "kinds": (1, 1.0),
    "objects of bound methods": (Counter(3).next, Counter(4).next),
    "arguments of partial functions": (partial(max, 3), partial(max, 4)),
    "lists that hold themselves": (in_itself(1.0), in_itself(2.0)),
    "generators": (np.random.default_rng(4), np.random.default_rng(5)),
    "bit generators": (np.random.PCG64(4), np.random.PCG64(5)),
    "old generators": (np.random.RandomState(4), np.random.RandomState(5)),
    "Python's generators": (random.Random(4), random.Random(5)),
    "slices": (slice(1, None, 2), slice(1, None, 3)),
    "what cannot be compared": (Refusing(), Refusing()),
    "arrays that cannot be read": (Array(), Array()),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_twice_alike_is_the_same(name):
    assert same(SAME[name](), SAME[name]())


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_or_cannot_be_compared_is_not(name):
    assert not same(*OTHERS[name])
