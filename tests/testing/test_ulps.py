"""Distances in units in the last place, counted by steps from one number to the next."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anyprop.testing.ulps import distances, largest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", [1.0, 1.5, -3.1e10, 7.3e-20])
def test_as_many_as_there_are_steps(dtype, start):
    expected = np.asarray(start, dtype)
    for sign in (1, -1):
        actual = expected
        for steps in range(1, 5):
            actual = np.nextafter(actual, np.asarray(sign * math.inf, dtype))
            # at 1.0 numbers below are closer to each other than those above
            half = start == 1.0 and sign == -1
            assert float(distances(actual, expected)) == (steps / 2 if half else steps)


def test_the_unit_is_that_of_the_magnitude():
    one = np.float32(1.0)
    assert float(distances(np.float32(1.0 + 2**-20), one, np.asarray(8.0))) == 1.0


def test_numbers_that_are_not_finite():
    expected = np.asarray([np.nan, np.inf, -np.inf, 1.0, np.nan, np.inf], "float32")
    actual = np.asarray([np.nan, np.inf, -np.inf, np.nan, 1.0, -np.inf], "float32")
    np.testing.assert_array_equal(distances(actual, expected), [0, 0, 0, *[np.inf] * 3])


def test_what_is_too_small_for_a_normal_number_may_be_zero():
    tiny = np.float32(1e-40)
    assert float(distances(np.float32(0.0), tiny)) == 0.0
    assert float(distances(np.float32(0.0), np.float32(1e-37))) > 1.0


def test_whole_numbers_and_truth_values_are_counted():
    np.testing.assert_array_equal(distances(np.asarray([3, 7]), np.asarray([3, 5])), [0, 2])
    np.testing.assert_array_equal(distances(np.asarray([True]), np.asarray([False])), [1])


def test_whole_numbers_that_a_float_does_not_tell_apart():
    expected = np.asarray([2**53, 2**60], "int64")
    np.testing.assert_array_equal(distances(expected + 1, expected) > 0.0, True)


def test_shapes_that_differ_and_no_numbers():
    assert largest(distances(np.zeros((2, 1)), np.zeros(2))) == np.inf
    assert largest(distances(np.zeros(0), np.zeros(0))) == 0.0
