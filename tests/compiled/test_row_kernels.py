"""Kernels that go through rows, compiled by the C compiler, against the eager step and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop.backend import get_namespace
from anyprop.compiled import namespace as traced
from anyprop.compiled.cuda_dialect import LONGEST, ordered, units_of, written
from anyprop.compiled.kernels import Kernel
from anyprop.compiled.trace import Recording
from fake_cupy import put, put_params, put_state

pytestmark = pytest.mark.needs("cc")
xp = get_namespace("numpy")


def _captured(k, loss, hidden=50, n=40):
    """Compare a step for k classes with its graph; return what was captured."""
    rng, opt = np.random.default_rng(0), ap.SGD(lr=0.1)
    net = ap.MLP([4, hidden, k])
    x, t = rng.standard_normal((n, 4)).astype("float32"), rng.integers(0, k, n)
    params = net.init(8)
    step, state = ap.make_step(net, loss, opt), opt.init(params)
    wanted, _, value = step(params, state, x, t)
    with fake_cupy.installed() as device:
        graph = ap.compile(step)
        ours, _, ours_value = graph(put_params(params), put_state(state), put(x), put(t))
        np.testing.assert_allclose(ours_value.view(np.ndarray), value, rtol=1e-5)
        np.testing.assert_allclose(ours.flat.view(np.ndarray), wanted.flat, rtol=1e-5, atol=1e-6)
        assert device.log.count("launch") == 1
        begin, end = device.log.index("begin capture"), device.log.index("end capture")
        return device.log[begin + 1 : end]


def test_the_loss_of_a_classifier_takes_one_and_its_mean_another():
    captured = _captured(LONGEST, ap.SoftmaxCrossEntropy(label_smoothing=0.1))
    assert captured.count("anyprop_rows") == 1
    assert captured.count("anyprop_total") == 1
    # the gradients of two biases, if they are not their products'
    assert captured.count("sum") + captured.count("summed") == 2
    assert "amax" not in captured


def test_longer_rows_are_left_to_cupy():
    captured = _captured(LONGEST + 1, ap.SoftmaxCrossEntropy())
    assert "anyprop_rows" not in captured
    assert "amax" in captured


def _kernels(function, *arrays):
    """Return the kernels that are made of a function, and what they compute."""
    with np.errstate(all="ignore"), Recording() as recording:
        given = [Recording.given(a) for a in arrays]
        result = function(traced, *given)
    units = units_of(ordered(recording.calls, [result.value]), [result.value])
    places = {g.value: a for g, a in zip(given, arrays, strict=True)}
    for unit in units:
        source = written(unit) if isinstance(unit, Kernel) else None
        if source is None or source.size is None:
            return units, None
        kernel = fake_cupy.ElementwiseKernel(source.in_params, source.out_params, source.operation)
        outs = [np.full(v.shape, 7, v.dtype) for v in unit.outputs]
        kernel(*(places.get(v, v.data) for v in unit.inputs), *outs, size=source.size)
        places |= dict(zip(unit.outputs, outs, strict=True))
    return units, places[result.value]


FUNCTIONS = {
    "sum": lambda xp, a, row, column: xp.sum(a * row, axis=1),
    "max": lambda xp, a, row, column: xp.max(a - column, axis=-1, keepdims=True),
    "mean": lambda xp, a, row, column: a - xp.mean(a + column, axis=1, keepdims=True),
    "softmax": lambda xp, a, row, column: (
        xp.exp(a - xp.max(a, axis=1, keepdims=True))
        / xp.sum(xp.exp(a - xp.max(a, axis=1, keepdims=True)), axis=1, keepdims=True)
    ),
    "rows alone": lambda xp, a, row, column: xp.where(row > 0.0, a, column) * (row * 2.0),
    "several": lambda xp, a, row, column: (
        xp.sum(
            xp.sqrt(xp.abs(a - xp.max(a, axis=1, keepdims=True))) * column, axis=1, keepdims=True
        )
        + xp.max(a * row, axis=1, keepdims=True)
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 5), (5, 5), (1, 2), (3, LONGEST)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_forms(name, shape, dtype, rng):
    n, k = shape
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((n, k), (n, 1), (k,))]
    units, ours = _kernels(FUNCTIONS[name], *arrays)
    assert len(units) == 1
    wanted = FUNCTIONS[name](xp, *arrays)
    assert (ours.shape, ours.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(ours, wanted, rtol=40 * np.finfo(dtype).eps, atol=1e-6)


def test_nan_is_the_largest():
    a = np.array([[1, np.nan, 2], [np.nan, 3, 4], [-np.inf, -np.inf, -np.inf], [5, 6, np.nan]])
    _, ours = _kernels(lambda xp, a: xp.max(a * 1.0, axis=1), a)
    np.testing.assert_array_equal(ours, np.max(a, axis=1))


@pytest.mark.parametrize(
    "function",
    [
        # a result for rows is read for columns, or as a view of it, which only another kernel can
        lambda xp, a: a * xp.sum(a * a, axis=1),
        lambda xp, a: a * xp.reshape(xp.sum(a * a, axis=1), (4, 1)),
        lambda xp, a: xp.sum(a * 2.0, axis=0),
        lambda xp, a: xp.sum(a * 2.0),
    ],
)
def test_what_needs_more_than_a_row(function, rng):
    units, _ = _kernels(function, rng.standard_normal((4, 4)))
    assert len(units) > 1


def test_what_is_not_read_is_not_computed(rng):
    """Neither inside a kernel nor as a product of its own."""

    def function(xp, x, w):
        sums = xp.sum(x * 2.0, axis=1, keepdims=True)
        unread = xp.exp(x - sums)
        _ = xp.matmul(unread, w) + xp.tanh(x)
        return x + sums

    x = rng.standard_normal((5, 3)).astype("float32")
    with Recording() as recording:
        result = function(traced, *map(Recording.given, (x, x[:3])))
    (unit,) = units_of(ordered(recording.calls, [result.value]), [result.value])
    source = written(unit)
    assert source.size == 5
    assert "exp" not in source.operation
    assert "tanh" not in source.operation
