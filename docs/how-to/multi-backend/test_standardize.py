"""Each test runs once on every backend that was asked for."""

import pytest
from array_api_compat import array_namespace, size

from standardize import standardize


def test_mean_and_deviation(xp):
    x = xp.asarray([[1.0, 10.0], [2.0, 30.0], [6.0, 20.0]])
    y = standardize(x)
    assert array_namespace(y) is array_namespace(x)
    for column in range(2):
        values = [float(y[row, column]) for row in range(3)]
        assert sum(values) == pytest.approx(0.0, abs=1e-6)
        assert sum(v * v for v in values) / 3 == pytest.approx(1.0, abs=1e-6)


def test_the_dtype_stays(xp):
    x = xp.asarray([[1.0], [2.0]], dtype=xp.float32)
    assert standardize(x).dtype == xp.float32
    assert size(standardize(x)) == 2
