"""Recorded calls written down in CUDA C++ compute what NumPy computes, of special values too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fake_cupy
from anyprop.backend import get_namespace
from anyprop.compiled import cuda_dialect, namespace as traced
from anyprop.compiled.kernels import Kernel
from anyprop.compiled.trace import Recording

pytestmark = pytest.mark.needs("cc")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, -3.7, 1e-30, 3e38, np.inf, -np.inf, np.nan]
FORMS = {
    "+": lambda xp, a, b: a + b,
    "-": lambda xp, a, b: a - b,
    "*": lambda xp, a, b: a * b,
    "/": lambda xp, a, b: a / b,
    "**": lambda xp, a, b: a**b,
    "negative": lambda xp, a, b: -a,
    "abs": lambda xp, a, b: xp.abs(a),
    "isfinite": lambda xp, a, b: xp.where(xp.isfinite(a), a, b),
    "sqrt": lambda xp, a, b: xp.sqrt(a),
    "exp": lambda xp, a, b: xp.exp(a),
    "expm1": lambda xp, a, b: xp.expm1(a),
    "log": lambda xp, a, b: xp.log(a),
    "log1p": lambda xp, a, b: xp.log1p(a),
    "tanh": lambda xp, a, b: xp.tanh(a),
    "sign": lambda xp, a, b: xp.sign(a),
    "maximum": lambda xp, a, b: xp.maximum(a, b),
    "minimum": lambda xp, a, b: xp.minimum(a, b),
    "clip": lambda xp, a, b: xp.clip(a, -0.5, 2.0),
    "<": lambda xp, a, b: xp.where(a < b, a, b),
    "<=": lambda xp, a, b: xp.where(a <= b, a, b),
    ">": lambda xp, a, b: xp.where(a > b, a, b),
    ">=": lambda xp, a, b: xp.where(a >= b, a, b),
    "==": lambda xp, a, b: xp.where(a == b, 5.0, b),
    "!=": lambda xp, a, b: xp.where(a != b, 5.0, b),
    "&": lambda xp, a, b: xp.where((a < b) & (a > 0.0), a, b),
    "|": lambda xp, a, b: xp.where((a < b) | (a > 0.0), a, b),
    "~": lambda xp, a, b: xp.where(~(a < b), a, b),
    "where": lambda xp, a, b: xp.where(a > 0.0, np.nan, xp.where(b > 0.0, -np.inf, a)),
    "astype": lambda xp, a, b: xp.astype(a < b, a.dtype),
}


def test_every_form_is_tested():
    assert len(cuda_dialect.CUDA_FORMS) == len(FORMS)


def _computed(function, *arrays):
    """Return what the kernel of a function's calls computes."""
    with np.errstate(all="ignore"), Recording() as recording:
        given = [Recording.given(a) for a in arrays]
        result = function(traced, *given)
    assert all(map(cuda_dialect.can_be_written, recording.calls))
    kernel = Kernel(recording.calls, [result.value])
    source = cuda_dialect.written(kernel)
    launch = fake_cupy.ElementwiseKernel(source.in_params, source.out_params, source.operation)
    places = {g.value: a for g, a in zip(given, arrays, strict=True)}
    return launch(*(places.get(value, value.data) for value in kernel.inputs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, dtype):
    a, b = np.array([*itertools.product(SPECIAL, SPECIAL)]).T.astype(dtype)
    ours = _computed(FORMS[form], a, b)
    with np.errstate(all="ignore"):
        wanted = FORMS[form](get_namespace("numpy"), a, b)
    assert ours.dtype == wanted.dtype
    np.testing.assert_allclose(ours, wanted, rtol=4 * np.finfo(dtype).eps)


def test_mixed_dtypes_and_broadcasting(rng):
    """A one-hot target from labels, as the loss makes it."""
    labels, classes = np.array([[2], [0]]), np.arange(3, dtype="float32")
    y = rng.random((2, 3)).astype("float32")

    def function(xp, y, labels, classes):
        return y - xp.astype(xp.astype(labels, classes.dtype) == classes, y.dtype)

    wanted = function(get_namespace("numpy"), y, labels, classes)
    np.testing.assert_array_equal(_computed(function, y, labels, classes), wanted)


def test_whole_numbers_are_compared_with_fractions():
    labels = np.arange(-2, 5)

    def function(xp, labels):
        return (labels > 0.5) & (labels < 2.5) & (labels != 1)

    np.testing.assert_array_equal(_computed(function, labels), function(np, labels))


@pytest.mark.parametrize(
    "refused",
    [
        lambda xp, a: xp.astype(a, "float16"),
        lambda xp, a: xp.sin(a),
        lambda xp, a: ~xp.astype(a, "int32"),
        lambda xp, a: xp.sum(a),
    ],
)
def test_what_has_no_form_is_told(refused):
    with Recording() as recording:
        refused(traced, Recording.given(np.ones(2, "float32")))
    assert not cuda_dialect.can_be_written(recording.calls[-1])


def test_the_stand_in_refuses_what_cupy_refuses():
    kernel = fake_cupy.ElementwiseKernel("float32 x0", "float32 y0", "y0 = x0;")
    assert kernel(np.ones(2, "float32"), np.empty((3, 2), "float32")).shape == (3, 2)
    with pytest.raises(TypeError, match="mismatched"):
        kernel(np.ones(2))
    with pytest.raises(ValueError, match="shape"):
        kernel(np.ones(2, "float32"), np.empty(1, "float32"))
