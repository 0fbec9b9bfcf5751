"""Calls of compiled code by its address: loops of numba's, and those that are in NumPy's functions.

Both have the form that NumPy's C API gives to the loop of a universal function,
``void loop(char **pointers, intptr_t *sizes, intptr_t *steps, void *data)``; a loop of numba's finds its
numbers in place of steps. NumPy's are called as NumPy calls them, so results are NumPy's to the bit, and
products are those of its BLAS.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop._helpers import ask, pause
from anyprop.compiled.memory import Bound, Local
from anyprop.compiled.numba_dialect import APART, PIECE

# `_pointer` converts an argument once: in each call that would take a fifth of its time.
_FORM, _pointer = ctypes.CFUNCTYPE(None), ctypes.c_void_p.from_param
# A function of the C library: to, from, how many bytes.
MOVE = int(ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0)


# By NumPy's C API the first field of an array is the address of its numbers; asked for it, NumPy would
# make an object of ctypes.
_word_at, _HEAD = ctypes.c_size_t.from_address, object.__basicsize__


def address_of(array: Any) -> int:
    """Return the address of an array's first number."""
    return int(_word_at(id(array) + _HEAD).value)


class NoOperationError(RuntimeError):
    """A call of NumPy cannot be done by address."""


class Cell(NamedTuple):
    """Where each run puts a number, or the address of an array."""

    table: Any
    k: int
    local: Local

    @property
    def address(self) -> int:
        """Where that is."""
        return address_of(self.table) + self.k * int(self.table.itemsize)

    @property
    def bound(self) -> Bound:
        """The call that puts it there."""
        words, k = memoryview(self.table), self.k

        def point_to(array: Any) -> None:
            words[k] = _word_at(id(array) + _HEAD).value

        if self.table.dtype == np.uintp:
            return Bound(point_to, (self.local,))
        return Bound(self.table.__setitem__, (k, self.local))


class Operation:
    """Compiled code, and what it works on.

    Parameters
    ----------
    words : sequence of int
        Its address, and its four arguments.
    kept : object
        What has these addresses.
    pointers : numpy.ndarray, optional
        The addresses of its arrays, where the words say only where these are.
    cells : sequence of Cell
        What each run gives.
    """

    def __init__(
        self, words: Sequence[int], kept: Any, pointers: Any = None, cells: Sequence[Cell] = ()
    ) -> None:
        self.words, self.pointers, self.cells, self._kept = words, pointers, cells, kept

    @property
    def bound(self) -> Bound:
        """Its call; what each run gives has been put into the cells before."""
        function: Any = _FORM(self.words[0])
        # A call by address keeps nothing in memory.
        function.operation = self
        return Bound(function, tuple(map(_pointer, self.words[1:])))


class SharedOperation:
    """A loop that helpers take part in, one of those that `written` shares; call it.

    Parameters
    ----------
    kernel, arrays, sizes, numbers
        As `kernel_operation` takes them.
    helpers : int >= 1
        How many are asked.
    """

    def __init__(
        self,
        kernel: Any,
        arrays: Sequence[Any],
        sizes: Sequence[int],
        numbers: Sequence[Any],
        helpers: int,
    ) -> None:
        parts, self._pieces = helpers + 1, -(-sizes[0] // PIECE)
        counters = np.zeros((parts + 2, APART // np.dtype(np.intp).itemsize), np.intp)
        # A helper that comes before the first run finds all taken.
        counters[:parts, 0] = self._pieces
        addresses = [address_of(row) for row in (counters[0], *counters[parts:])]
        words = np.array([[own, parts, *addresses, pause()] for own in range(parts)], np.intp)
        begins, *helps = [address_of(row) for row in words]
        own = kernel_operation(kernel, arrays, sizes, numbers, (counters, words), begins)
        self._run, self.cells = own.bound, own.cells
        function: Any = _FORM(own.words[0])
        function.operation = own
        self._helps = [partial(function, *self._run.arguments[:3], _pointer(w)) for w in helps]
        self._done, self._looking = counters[parts, :1], counters[parts + 1, :1]

    @property
    def bound(self) -> Bound:
        """Its call."""
        return Bound(self, ())

    def __call__(self) -> None:
        """Run it; what each run gives has been put into the cells before."""
        if self._looking.item() < len(self._helps):
            ask(self._helps)
        self._run.function(*self._run.arguments)
        # A helper that has lost its core has yet to finish its piece.
        while self._done.item() < self._pieces:
            time.sleep(1e-5)


def kernel_operation(
    kernel: Any,
    arrays: Sequence[Any],
    sizes: Any,
    numbers: Sequence[Any],
    kept: Any = None,
    data: int = 0,
) -> Operation:
    """Return a loop of numba's on contiguous arrays and floats, of which each run gives the Locals."""
    pointers = np.array([0 if _varies(x) else address_of(x) for x in arrays], np.uintp)
    floats = np.array([0.0 if _varies(x) else x for x in numbers], np.float64)
    cells = [
        Cell(table, k, x)
        for table, given in ((pointers, arrays), (floats, numbers))
        for k, x in enumerate(given)
        if _varies(x)
    ]
    kept = (kernel, arrays, kept)
    return _operation(kernel.address, pointers, sizes, floats, data, kept, cells)


def _varies(x: Any) -> bool:
    return isinstance(x, Local)


def _operation(
    address: int,
    pointers: Any,
    sizes: Any,
    last: Any,
    data: int,
    kept: Any,
    cells: Sequence[Cell] = (),
) -> Operation:
    tables = (pointers, np.asarray(sizes, np.intp), last)
    words = (address, *(address_of(table) for table in tables), data)
    return Operation(words, (kept, tables), pointers, cells)


def copy(x: Any, out: Any) -> Operation:
    """Return a copy from one contiguous array to another."""
    if x.dtype != out.dtype or x.size != out.size or not _contiguous(x, out):
        raise NoOperationError(f"a copy of {x.dtype} {x.shape} to {out.dtype} {out.shape}")
    words = (MOVE, address_of(out), address_of(x), int(out.nbytes), 0)
    return Operation(words, (x, out))


def _contiguous(*arrays: Any) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def operations(function: Callable[..., Any], given: Sequence[Any], out: Any) -> Iterator[Operation]:
    """Yield what a call of NumPy does.

    Parameters
    ----------
    function : callable
        A universal function, or the `reduce` of one.
    given : sequence of numpy.ndarray, float and other constants
        Its arguments but `out`.
    out : numpy.ndarray
        Where it stores the result.

    Raises
    ------
    NoOperationError
        It is another function, or goes through its arrays in an order of its own.
    """
    if function is np.matmul:
        yield _product(given[0], given[1], out)
    elif not _contiguous(*(x for x in (*given, out) if isinstance(x, np.ndarray))):
        raise NoOperationError(f"{function} in an order of its own")
    elif isinstance(function, np.ufunc):
        yield _elementwise(function, given, out)
    elif getattr(function, "__name__", "") == "reduce":
        ufunc, (x, axis, *_) = function.__self__, given  # type: ignore[attr-defined]
        yield from _reduction(ufunc, x, axis, out)
    else:
        raise NoOperationError(f"{function} has no address")


def _product(a: Any, b: Any, out: Any) -> Operation:
    if max(a.ndim, b.ndim) > 2:
        raise NoOperationError(f"a product of {a.shape} and {b.shape}")
    # To NumPy a vector is a matrix of one row on the left, and of one column on the right.
    left, right = a.ndim == 2, b.ndim == 2
    rows, columns = a.shape[0] if left else 1, b.shape[1] if right else 1
    of_a, of_b = (0, *a.strides)[-2:], (*b.strides, 0)[:2]
    of_out = (out.strides[0] if left else 0, out.strides[-1] if right else 0)
    # The first size is the number of products, with the steps from one to the next.
    steps = (0, 0, 0, *of_a, *of_b, *of_out)
    return _numpy(np.matmul, (a, b, out), (1, rows, a.shape[-1], columns), steps)


def _elementwise(ufunc: Any, given: Sequence[Any], out: Any) -> Operation:
    like = [x.dtype if isinstance(x, np.ndarray) else type(x) for x in given]
    dtypes = ufunc.resolve_dtypes((*like, None))
    arrays = [
        x if isinstance(x, np.ndarray) else np.asarray(x, dtype)
        for x, dtype in zip(given, dtypes, strict=False)
    ]
    if any(isinstance(x, np.ndarray) and x.shape != out.shape for x in given):
        raise NoOperationError(f"{ufunc} with an array for another")
    steps = [x.itemsize if isinstance(x, np.ndarray) else 0 for x in (*given, out)]
    return _numpy(ufunc, (*arrays, out), (out.size,), steps)


def _reduction(ufunc: Any, x: Any, axis: Any, out: Any) -> Iterator[Operation]:
    """Yield the reduction of all numbers, or of each row or column of a matrix."""
    result, one, begins = out.reshape(-1), x.itemsize, ufunc.identity is None
    if out.size > 1 and x.ndim != 2:
        raise NoOperationError(f"{ufunc} along an axis of {x.shape}")
    if out.size > 1 and (axis in (0, -2) or x.shape[1] == 1):
        # To all results at once what one row adds to each.
        groups, steps = [(result, [*x.reshape(-1, out.size)])], (one, one, one)
    else:
        places, rows = np.split(result, out.size), x.reshape(out.size, -1)
        groups = [(p, [r[:1], r[1:]] if begins else [r]) for p, r in zip(places, rows, strict=True)]
        steps = (0, one, 0)
    for place, terms in groups:
        # As a maximum has no identity, it begins with the first number.
        yield copy(terms.pop(0) if begins else np.full_like(place, ufunc.identity), place)
        for term in terms:
            yield _numpy(ufunc, (place, term, place), (term.size,), steps)


class _UFunc(ctypes.Structure):
    """The first fields of a universal function, as in ufuncobject.h of NumPy's C API."""

    _fields_ = [
        ("head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    ]


def _numpy(
    ufunc: Any, arrays: Sequence[Any], sizes: Sequence[int], steps: Sequence[int]
) -> Operation:
    """Return the loop that a function of NumPy has for arrays of these dtypes."""
    chars = [x.dtype.char for x in arrays]
    form = f"{''.join(chars[: ufunc.nin])}->{''.join(chars[ufunc.nin :])}"
    found = _UFunc.from_address(id(ufunc))
    ours = (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes)
    if (found.nin, found.nout, found.nargs, found.ntypes) != ours or form not in ufunc.types:
        raise NoOperationError(f"{ufunc} has no loop of the form {form}")
    k = ufunc.types.index(form)
    data = found.data[k] if found.data else None
    pointers = np.array([address_of(x) for x in arrays], np.uintp)
    last = np.array(steps, np.intp)
    return _operation(found.functions[k] or 0, pointers, sizes, last, data or 0, arrays)
