"""Functions that many parts share."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest

from anyprop._numerics import all_finite, cast, counted, largest, matmul, summed
from anyprop.backend import reshaped, to_host

X = np.random.default_rng(8).standard_normal((17, 5)) * 10.0
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


def _same(ours, theirs):
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums(dtype, axis, keepdims):
    x = X.astype(dtype)
    _same(summed(x, axis, keepdims=keepdims), xp.sum(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_of_16_bits_are_taken_in_32(keepdims):
    x = np.full((3000, 2), 1.0, dtype="float16")
    total = summed(x, 0, keepdims=keepdims)
    assert total.dtype == x.dtype
    assert total.tolist() == ([[3000.0, 3000.0]] if keepdims else [3000.0, 3000.0])


@pytest.mark.parametrize(
    "shapes", [((3, 1), (1, 4)), ((1, 1), (1, 1)), ((0, 1), (1, 4)), ((3, 1), (1,))], ids=str
)
def test_a_column_times_a_row_is_their_product(backend, shapes):
    x, W = (np.resize([0.1, -2.0, 0.0, 3.7], shape).astype("float32") for shape in shapes)
    found = matmul(backend.asarray(x), backend.asarray(W))
    assert found.shape == (x @ W).shape
    np.testing.assert_array_equal(to_host(found), x @ W)


@pytest.mark.parametrize("shapes", [((2, 1), (2, 4)), ((3, 2), (1, 4))], ids=str)
def test_what_has_no_product_is_not_stretched(backend, shapes):
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        matmul(*(backend.asarray(np.ones(shape, "float32")) for shape in shapes))


def test_factors_of_two_dtypes_are_promoted_as_the_standard_has_it(backend):
    x, W = X[:, :2].astype("float32"), X[:2].astype("float64")
    found = matmul(backend.asarray(x, "float32"), backend.asarray(W, "float64"))
    assert found.dtype == backend.asarray(W, "float64").dtype
    np.testing.assert_allclose(to_host(found), x @ W, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_others(dtype):
    x = X.astype(dtype)
    for rows in (x, np.repeat(x, 20, axis=0), x[:, :1], x[0]):
        _same(largest(rows), xp.max(rows, axis=-1, keepdims=True))
    _same(matmul(x, x.T), xp.matmul(x, x.T))
    _same(cast(xp, x > 0.0, x.dtype), xp.astype(x > 0.0, x.dtype))
    _same(reshaped(x, (-1,)), xp.reshape(x, (-1,)))
    assert cast(xp, x, x.dtype) is x
    assert np.shares_memory(reshaped(x, (5, 17)), x)
    _same(counted(x, 4), xp.arange(4))
