"""Functions that many parts share."""

from __future__ import annotations

import numpy as np
import pytest

from anyprop._numerics import all_finite

CASES = {
    "zeros": ([0.0, 0.0], True),
    "nothing": ([], True),
    "a sum that overflows": ([3e38, 3e38, -1.0], True),
    "a NaN": ([1.0, np.nan], False),
    "an infinity": ([1.0, np.inf], False),
    "infinities that cancel": ([np.inf, -np.inf], False),
}


@pytest.mark.parametrize("name", CASES)
def test_all_finite_is_so_number_by_number(backend, name):
    numbers, wanted = CASES[name]
    assert all_finite(backend.asarray(np.asarray(numbers, dtype="float32"))) is wanted
