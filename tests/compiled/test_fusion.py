"""Loops that numba compiles compute what NumPy's calls compute, also of NaN, infinity and zeros."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop._numerics import matmul
from anyprop.compiled import namespace as xp, numba_dialect
from anyprop.compiled.numpy_plan import make_plan
from anyprop.compiled.program import Program, values_of
from anyprop.compiled.trace import Recording

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, -3.7, 1e-30, 3e38, np.inf, -np.inf, np.nan]


@pytest.fixture(autouse=True)
def _small_arrays_are_fused(monkeypatch):
    monkeypatch.setattr(numba_dialect, "SMALLEST", 1)


def planned(function, *arrays, targets=(), arguments=()):
    """Plan a function of arrays; return what its plan computes, and how many calls that takes."""
    with np.errstate(all="ignore"):
        with Recording() as recording:
            given = [
                Recording.number(a) if isinstance(a, float) else Recording.given(np.array(a))
                for a in arrays
            ]
            outputs = function(*given)
        chosen = [None if i is None else given[i].value for i in targets]
        by_run = [given[i].value for i in arguments]
        plan = make_plan(Program(recording.calls, values_of(outputs), chosen, by_run))
        plan.run(*(arrays[i] for i in arguments))
    return plan, given


FORMS = {
    "+": lambda xp, a, b: a + b,
    "-": lambda xp, a, b: a - b,
    "*": lambda xp, a, b: a * b,
    "/": lambda xp, a, b: a / b,
    "negative": lambda xp, a, b: -a,
    "abs": lambda xp, a, b: xp.abs(a),
    "sqrt": lambda xp, a, b: xp.sqrt(a),
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
}


def test_every_form_is_tested():
    assert len(numba_dialect.SCALAR_FORMS) == len(FORMS) + len(["where", "astype", "&"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, dtype):
    a, b = np.array([*itertools.product(SPECIAL, SPECIAL)]).T.astype(dtype)
    plan, _ = planned(lambda a, b: [FORMS[form](xp, a, b) * 0.3], a, b)
    assert len(plan.calls) == 1
    with np.errstate(all="ignore"):
        wanted = FORMS[form](np_namespace, a, b) * np.asarray(0.3, dtype)
    assert plan.outputs[0].dtype == dtype
    np.testing.assert_array_equal(plan.outputs[0], wanted)
    if platform.machine() in ("x86_64", "AMD64"):  # ARM's maximum of two zeros is another
        signs = [np.where(np.isnan(x), 0.0, np.copysign(1.0, x)) for x in (plan.outputs[0], wanted)]
        np.testing.assert_array_equal(*signs)


class np_namespace:
    abs, sqrt, sign, maximum, minimum = np.abs, np.sqrt, np.sign, np.maximum, np.minimum

    @staticmethod
    def clip(a, low, high):
        return np.clip(a, a.dtype.type(low), a.dtype.type(high))

    @staticmethod
    def where(condition, a, b):
        return np.where(condition, a, b)

    @staticmethod
    def astype(a, dtype):
        return a.astype(dtype)


@pytest.mark.parametrize(
    "shape", [(3, 4), (4,), (1, 4), (3, 1), (1, 1), (), (2, 3, 4), (4, 3)], ids=str
)
def test_broadcasting(shape, rng):
    """What no loop can read, as three dimensions or a transposed matrix, is left to NumPy."""
    a, b = rng.standard_normal((3, 4)), rng.standard_normal(shape)

    def function(a, b):
        b = b.T if shape == (4, 3) else b
        return [(a + b) * (a - b) - 1.0]

    plan, _ = planned(function, a, b)
    np.testing.assert_array_equal(plan.outputs[0], function(a, b)[0])
    assert (len(plan.calls) == 1) == (shape not in ((2, 3, 4), (4, 3)))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_whole_numbers_are_compared_with_fractions(dtype):
    def function(labels):
        return [(labels > 0.5) & (labels < 2.5) & (labels != 1)]

    labels = np.arange(-2, 5).astype(dtype)
    plan, _ = planned(function, labels)
    assert len(plan.calls) == 1
    np.testing.assert_array_equal(plan.outputs[0], function(labels)[0])


def test_results_in_the_place_of_arguments(rng):
    a, b = rng.standard_normal((2, 50))
    plan, (first, second) = planned(lambda a, b: [a * b + 1.0, a - b * 2.0], a, b, targets=[0, 1])
    assert len(plan.calls) == 1
    np.testing.assert_array_equal(first.value.data, a * b + 1.0)
    np.testing.assert_array_equal(second.value.data, a - b * 2.0)


def test_a_row_that_is_read_for_all_rows_is_not_written_over(rng):
    """The first row of the loop would spoil it for the others."""

    def function(a):
        y = a / 3.0
        z = xp.exp(y)
        return [(z + z[0]) * 2.0]

    a = rng.standard_normal((4, 4))
    plan, _ = planned(function, a)
    z = np.exp(a / 3.0)
    np.testing.assert_array_equal(plan.outputs[0], (z + z[0]) * 2.0)
    assert len(plan.calls) == 3


def test_a_joined_vector_is_not_read_in_the_loop_that_computes_it(rng):
    a = rng.standard_normal(50)

    def function(a):
        return [xp.concat([a * 2.0 + 1.0]) * 3.0 - a]

    plan, _ = planned(function, a)
    np.testing.assert_array_equal(plan.outputs[0], (a * 2.0 + 1.0) * 3.0 - a)


def test_intermediate_results_that_are_read_later_are_kept(rng):
    a = rng.standard_normal((5, 6))

    def function(a):
        y = a * 2.0
        z = xp.maximum(y, 0.0) - 1.0
        return [xp.matmul(y, xp.reshape(z, (6, 5))), xp.sum(z, axis=0)]

    plan, _ = planned(function, a)
    y = a * 2.0
    z = np.maximum(y, 0.0) - 1.0
    np.testing.assert_array_equal(plan.outputs[0], y @ z.reshape(6, 5))
    np.testing.assert_array_equal(plan.outputs[1], z.sum(axis=0))
    assert len(plan.calls) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("k", "calls"),
    [(2, 1), (7, 1), (8, 1), (9, 1), (16, 1), (32, 1), (33, 3), (127, 3), (128, 3), (129, 5)],
)
def test_sums_and_maxima_are_those_of_numpy_to_the_bit(k, calls, dtype, rng):
    """Those of long rows are left to NumPy."""
    a = (rng.standard_normal((5, k)) * 10.0 ** rng.integers(-3, 4, (5, k))).astype(dtype)

    def function(a):
        y = a + 1.0
        total = xp.sum(y, axis=1, keepdims=True)
        return [y / total, xp.max(y, axis=1), xp.sum(y, axis=0)]

    plan, _ = planned(function, a)
    y = a + np.asarray(1.0, dtype)
    wanted = [y / y.sum(axis=1, keepdims=True), y.max(axis=1), y.sum(axis=0)]
    for ours, theirs in zip(plan.outputs, wanted, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    assert len(plan.calls) == calls


@pytest.mark.parametrize("number", SPECIAL)
def test_sums_and_maxima_of_special_numbers(number):
    a = np.arange(36.0).reshape(3, 12)
    a[1, 9], a[2, :] = number, number

    def function(a):
        return [xp.max(a, axis=1), xp.sum(a, axis=-1), xp.sum(a, axis=0)]

    plan, _ = planned(function, a)
    assert len(plan.calls) == 1
    with np.errstate(invalid="ignore"):
        wanted = [a.max(axis=1), a.sum(axis=1), a.sum(axis=0)]
    for ours, theirs in zip(plan.outputs, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_loss_of_the_article_takes_few_calls(rng):
    loss = ap.SoftmaxCrossEntropy()
    y, t = rng.standard_normal((6, 10)), rng.integers(0, 10, 6)

    def function(y, t):
        value, residuals = loss.forward(y, t)
        return [value, loss.backward(residuals)]

    plan, _ = planned(function, y, t)
    for ours, wanted in zip(plan.outputs, function(y, t), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    # loop, exp, sum, log, loop, sum over the batch, its mean, loop
    assert len(plan.calls) == 8


def _program(seed):
    """Return a random function of a matrix, a column of numbers, a row of them, and labels."""

    def function(a, b, c, labels):
        draw = np.random.default_rng(seed)
        n, k = a.shape
        cells, columns, rows, row_vectors = [a], [xp.reshape(b, (n, 1))], [c], [b]
        groups = [cells, columns, rows, row_vectors]
        for _ in range(draw.integers(3, 25)):
            one = cells[draw.integers(len(cells))]
            group = groups[draw.choice(4, p=[0.7, 0.15, 0.05, 0.1])]
            same = group[draw.integers(len(group))]
            other = columns if draw.random() < 0.5 else rows
            any_of = other[draw.integers(len(other))] if group is cells else same
            what = draw.integers(10)
            if what == 0:
                columns.append(xp.sum(one, axis=1, keepdims=True) * 0.25)
            elif what == 1:
                columns.append(xp.max(one, axis=1, keepdims=True))
            elif what == 2:
                row_vectors.append(xp.sum(one, axis=1))
            elif what == 3:
                rows.append(xp.sum(one, axis=0))
            elif what == 4:
                group.append(xp.where(same > 0.5, same, any_of * 0.5))
            elif what == 5:
                one_hot = xp.reshape(labels, (n, 1)) == xp.arange(k, dtype=labels.dtype)
                cells.append(one + xp.astype(one_hot & (one < 1.0), one.dtype))
            elif what == 6:
                columns.append(xp.reshape(row_vectors[-1], (n, 1)))
            else:
                group.append(same * 0.5 + any_of)
        found = [array for group in groups for array in group[1:]]
        return [found[i] for i in draw.permutation(len(found))[:4]]

    return function


_FORM = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_ssize_t),
    ctypes.POINTER(ctypes.c_double),
    ctypes.c_void_p,
)


class _Interpreted:
    """A loop that Python runs, to be called by its address."""

    def __init__(self, kernel):
        self._function = _FORM(kernel)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value


def _array_at(address, shape, dtype):
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(address), dtype).reshape(shape)


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (1, 9), (5, 10), (10, 10), (2, 2)], ids=str)
def test_random_programs(shape, rng, monkeypatch):
    """The loops are run by Python: compiling so many would take minutes."""
    loops_made = []

    def interpreted(source):
        scope = {}
        exec(source, scope)
        scope["carray"] = _array_at
        loops_made.append(source)
        return _Interpreted(scope["kernel"])

    monkeypatch.setattr("anyprop.compiled.numpy_plan.get_kernel", interpreted)
    n, k = shape
    numpy_xp = ap.get_namespace("numpy")
    for seed in range(100):
        function = _program(seed)
        arrays = [*map(rng.standard_normal, (shape, n, k)), rng.integers(0, k, n)]
        plan, given = planned(function, *arrays)
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(sys.modules[__name__], "xp", numpy_xp)
                wanted = function(*(traced.value.data for traced in given))
            for ours, expected in zip(plan.outputs, wanted, strict=True):
                np.testing.assert_array_equal(ours, expected, err_msg=f"program {seed}")
            for traced in given[:3]:
                traced.value.data[...] = rng.standard_normal(traced.shape)
            plan.run()
    walks = [source.count("for j in range(n1):\n") for source in loops_made]
    assert max(walks) > (n > 1)  # so that programs with several walks were among them


def test_a_column_times_a_row_is_part_of_the_loop_that_reads_it(rng):
    def gradient(dy, W, y):
        return [matmul(dy, W.T) * xp.astype(y > 0.0, y.dtype)]

    given = [rng.standard_normal(shape) for shape in ((20, 1), (9, 1), (20, 9))]
    plan, _ = planned(gradient, *given)
    assert len(plan.calls) == 1
    dy, W, y = given
    np.testing.assert_array_equal(plan.outputs[0], (dy @ W.T) * (y > 0.0))


def test_numbers_and_arrays_of_each_run():
    def function(a, lr):
        half = lr * 0.5
        return [a * half + lr, (1.0 - lr) * a]

    with Recording() as recording:
        a, lr = Recording.given(np.ones((2, 3), "float32")), Recording.number(1.0)
        outputs = function(a, lr)
    plan = make_plan(Program(recording.calls, values_of(outputs), arguments=[a.value, lr.value]))
    for order in ("C", "F"):
        x = np.asarray([[0.1, 0.2, 0.3], [1, 2, 3]], "float32", order=order)
        x.flags.writeable = False
        plan.run(x, 0.1)
        for ours, wanted in zip(plan.outputs, function(x, 0.1), strict=True):
            assert ours.dtype == wanted.dtype
            np.testing.assert_array_equal(ours, wanted)


def test_each_dtype_has_a_loop_of_its_own(rng):
    a, b = rng.standard_normal(9).astype("float32"), rng.standard_normal(9)

    def function(a, b):
        return [a * 0.1 + 1.0, b * 0.1 + 1.0]

    plan, _ = planned(function, a, b)
    assert len(plan.calls) == 2
    for ours, wanted in zip(plan.outputs, function(a, b), strict=True):
        assert ours.dtype == wanted.dtype
        np.testing.assert_array_equal(ours, wanted)


def test_exp_is_left_to_numpy(rng):
    a = rng.standard_normal(1000).astype("float32")
    plan, _ = planned(lambda a: [xp.exp(a + 1.0) * 2.0], a)
    np.testing.assert_array_equal(plan.outputs[0], np.exp(a + np.float32(1.0)) * np.float32(2.0))
    assert np.exp in [call.function for call in plan.calls]


PROGRAM = """
import numpy as np
from anyprop.compiled.numba_dialect import get_kernel
from anyprop.compiled.operation import kernel_operation
source = [
    "from numba import carray, float64",
    "def kernel(pointers, sizes, numbers, data):",
    " a = carray(pointers[0], (sizes[0],), float64)",
    " for i in range(sizes[0]):",
    "  a[i] = 2 * a[i]",
]
kernel = get_kernel(chr(10).join(source))
a = np.ones(3)
call = kernel_operation(kernel, [a], [3], []).bound
call.function(*call.arguments)
assert a.tolist() == [2.0, 2.0, 2.0]
print(kernel.cache_hits)
"""


def test_what_is_compiled_is_kept_for_the_next_process(tmp_path):
    """And where nothing can be written, the loop is compiled each time."""
    file = tmp_path / "file"
    file.touch()
    hits = []
    for folder in (tmp_path / "cache", tmp_path / "cache", file):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout))
    assert hits == [0, 1, 0]


@pytest.mark.parametrize(
    ("platform", "variable", "folder"),
    [
        ("linux", "XDG_CACHE_HOME", "there/anyprop"),
        ("win32", "LOCALAPPDATA", "there/anyprop"),
        ("linux", None, "~/.cache/anyprop"),
        ("darwin", None, "~/Library/Caches/anyprop"),
        ("win32", None, "~/AppData/Local/anyprop"),
    ],
)
def test_the_folder_for_compiled_loops_is_the_platforms_own(
    platform, variable, folder, monkeypatch
):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "there")
    monkeypatch.setattr("anyprop.compiled.numba_dialect.sys.platform", platform)
    assert numba_dialect._folder() == Path(folder).expanduser()
