"""Kernels on NumPy: loops that numba compiles, kept on disk for the next process.

    for i                       each number of the vector, or each row
        for j                   each cell of the row: a walk along it
        the row's sum or maximum, and what is computed of these
        for j                   the next walk, for what depends on them

A sum down the columns is added up during a walk. Only operations that IEEE 754 rounds exactly take part,
and sums are taken in the order in which NumPy takes them, so results are NumPy's to the bit; exp, log
and their like, which each library rounds in its own way, are left to NumPy. numba is an extra,
anyprop[fast]; without it, or where it does not work, there are no kernels.

The file is long because what may go into a loop, and the line written for it, keep NumPy's rounding
only together.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anyprop._helpers import cores
from anyprop.compiled.kernels import (
    CELL,
    COLUMN,
    COMPARISONS,
    FORMS,
    NUMBER,
    ONE,
    REDUCTIONS,
    ROW,
    Dialect,
    Kernel,
    Unit,
    kinds_of,
)
from anyprop.compiled.namespace import choose, convert
from anyprop.compiled.trace import OUT, Call, Value

# The Python expression of a call for one number; T is the floating dtype.
SCALAR_FORMS: dict[Any, str] = FORMS | {
    np.absolute: "abs({0})",
    # Of -0.0 it is 0.0, of NaN NaN.
    np.sign: "T(1.0) if {0} > 0 else T(-1.0) if {0} < 0 else {0} + T(0.0)",
    # NumPy's maximum keeps NaN, Python's max does not; of -0.0 and 0.0 it takes the second.
    np.maximum: "{0} if {0} > {1} or {0} != {0} else {1}",
    np.minimum: "{0} if {0} < {1} or {0} != {0} else {1}",
    np.clip: "{1} if {0} < {1} else {2} if {0} > {2} else {0}",
    choose: "{1} if {0} else {2}",
    convert: "{0}",
}
# If no array has at least this many elements, compiling loops pays off only in a long run.
SMALLEST = 16384
# With so many numbers for each core a loop is shared: sooner, waking a helper may take what it saves.
SHARE = 2**19
# Numbers that are taken at a time, and bytes between two counters.
PIECE, APART = 2**14, 256
# The longest rows that are reduced in a loop. NumPy sums longer ones by halves; maxima of longer
# ones are left to it.
_LONGEST: dict[Any, int] = {np.add.reduce: 128, np.maximum.reduce: 32}
# Index of the numbers of each kind of value.
_AT = {CELL: "[i, {j}]", ROW: "[i]", COLUMN: "[{j}]", ONE: "[0]"}
_SHAPES = {CELL: "(n0, n1)", ROW: "(n0,)", COLUMN: "(n1,)", ONE: "(1,)"}

# A shared loop. Each core has a part of the vector, whose pieces it takes in their order, so that what
# is in its own cache stays there; then it takes what is left of the other parts. It is told which part
# is its own (the first is that of who begins), how many there are, and addresses: of the counters of
# the pieces that are taken of each part, far apart as cores that write into one line of the cache wait
# for each other; of a counter of the pieces that are done; of one of the helpers that look for pieces;
# and of the function of the system that lets other threads go first. A helper goes on looking for a
# moment when all is done, so that the next loop finds it awake.
_SHARED = f"""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy import intp

def atomic(operation):
 @intrinsic
 def on(typing, place, number):
  def code(context, builder, signature, words):
   place = builder.inttoptr(words[0], words[1].type.as_pointer())
   return builder.atomic_rmw(operation, place, words[1], "seq_cst")
  return types.intp(types.intp, types.intp), code
 return on

add, exchange = atomic("add"), atomic("xchg")

@intrinsic
def call(typing, function):
 def code(context, builder, signature, words):
  kind = ir.FunctionType(ir.VoidType(), [])
  builder.call(builder.inttoptr(words[0], kind.as_pointer()), [])
  return context.get_dummy_value()
 return types.void(types.intp), code

def kernel(pointers, sizes, numbers, data):
 words = carray(data, (6,), intp)
 own, parts, taken, done, looking, pause = words[0], words[1], words[2], words[3], words[4], words[5]
 pieces = (sizes[0] + {PIECE} - 1) // {PIECE}
 if own == 0:
  exchange(done, 0)
  for k in range(parts):
   exchange(taken + {APART} * k, 0)
 else:
  add(looking, 1)
 part, looks = own, 0
 while looks < 100:
  first = pieces * part // parts
  piece = first + add(taken + {APART} * part, 1)
  if piece < pieces * (part + 1) // parts:
   start = {PIECE} * piece
   n0 = min(start + {PIECE}, sizes[0])
 PIECE
   add(done, 1)
   part, looks = own, 0
   continue
  part = (part + 1) % parts
  if part == own:
   if own == 0 and add(done, 0) >= pieces:
    break
   looks += 1
   call(pause)
 if own:
  add(looking, -1)
"""


class NoKernelError(RuntimeError):
    """A loop cannot be compiled here."""


class NumbaDialect(Dialect):
    """What loops can do, and what NumPy's functions can."""

    reuses = True

    def kinds(self, calls: Sequence[Call]) -> Mapping[Value, str] | None:
        """Return the kinds of all values in a loop of these calls."""
        return kinds_of(calls) if _can_be_written(calls[-1]) else None

    def in_place(self, unit: Unit) -> Sequence[Value]:
        """Return what is stored after everything that it depends on has been read."""
        if isinstance(unit, Call):
            return unit.outputs if unit.elementwise else ()
        assert isinstance(unit, Kernel)
        # A second walk reads a row again when the first has stored in it.
        if any(_reduces_rows(call, unit.kinds) for call in unit.calls):
            return ()
        whole = CELL if len(unit.shape) == 2 else ROW
        return [value for value in unit.outputs if unit.kinds[value] == whole]


NUMBA = NumbaDialect()


def are_large(calls: Iterable[Call]) -> bool:
    """Return whether there is one of many numbers among calls that a loop can do."""
    return any(call.output.size >= SMALLEST for call in calls if _can_be_written(call))


def _can_be_written(call: Call) -> bool:
    if call.output.is_number:
        return False
    arrays = [value for value in (*call.inputs, call.output) if not value.is_number]
    dtypes = {array.dtype for array in arrays} - {np.dtype(bool)}
    one_floating = len(dtypes) == 1 and dtypes <= {np.dtype("float32"), np.dtype("float64")}
    if call.function in REDUCTIONS:
        return one_floating and _can_be_reduced(call)
    if call.function not in SCALAR_FORMS or len(call.output.shape) not in (1, 2):
        return False
    if call.function is np.bitwise_and:  # of booleans
        return not dtypes
    if call.function in COMPARISONS:
        whole = [dtype.kind for dtype in dtypes] == ["i"]
        return one_floating or (whole and not any(value.is_number for value in call.inputs))
    return one_floating and call.output.dtype != bool


def _can_be_reduced(call: Call) -> bool:
    x, axis, *_ = call.arguments
    if len(x.shape) != 2 or x.shape[1] < 2:
        return False
    if axis == 0:
        return call.function == np.add.reduce
    return axis in (1, -1) and x.shape[1] <= _LONGEST[call.function]


def _reduces_rows(call: Call, kinds: Mapping[Value, str]) -> bool:
    return call.function in REDUCTIONS and kinds[call.output] == ROW


class Written(NamedTuple):
    """A kernel as a loop, and what it is called with."""

    source: str
    """A Python module with a function `kernel`, of pointers, sizes and numbers."""
    arrays: list[Any]
    """What the pointers point to."""
    sizes: tuple[int, ...]
    numbers: list[Any]
    """Floats, or where they are found."""


def written(kernel: Kernel, places: Mapping[Value, Any], *, shared: bool = False) -> Written:
    """Write a kernel as a loop; its inputs and outputs are in the shapes of `shape_in`.

    One that is `shared` goes through a vector piece by piece, each for who takes it.
    """
    loop = _Loop(kernel, places, "[start:]" if shared else "")
    body = loop.lines()
    values = [v for call in kernel.calls for v in (*call.inputs, call.output) if not v.is_number]
    floating = next((v.dtype for v in values if v.dtype.kind == "f"), np.float64.__name__)
    given = [
        *(f"c{k} = numbers[{k}]" for k in range(len(loop.numbers))),
        *loop.views,
    ]
    lines = [
        "import numpy",
        "from numba import carray",
        "from numpy import sqrt",
        f"from numpy import {floating} as T",
    ]
    if shared:
        before, after = _SHARED.split(" PIECE\n")
        # All that differs from run to run is read when a piece is taken: a helper may be late.
        piece = "\n".join(_indented(_indented(_indented([*given, "n0 -= start", *body]))))
        source = "\n".join(lines) + f"{before}{piece}\n{after}"
    else:
        lines += ["def kernel(pointers, sizes, numbers, data):"]
        lines += [f" n{axis} = sizes[{axis}]" for axis in range(len(loop.shape))]
        source = "\n".join([*lines, *_indented([*given, *body])]) + "\n"
    return Written(source, loop.arrays, loop.shape, loop.numbers)


def helpers_for(kernel: Kernel) -> int:
    """Return how many cores besides one it pays to share a loop with; 0 if it cannot be shared."""
    shape, _ = _walked(kernel)
    if len(shape) > 1 or any(call.function in REDUCTIONS for call in kernel.calls):
        return 0
    return min(cores() - 1, shape[0] // SHARE)


def _walked(kernel: Kernel) -> tuple[tuple[int, ...], Mapping[Value, str]]:
    """Return the shape that a loop goes through, and its kinds: where rows do not matter, a vector."""
    kinds, by_rows = kernel.kinds, {ROW, COLUMN} & set(kernel.kinds.values())
    if by_rows or any(call.function in REDUCTIONS for call in kernel.calls):
        return kernel.shape, kinds
    # One loop is vectorized better than two.
    one = {value: ROW if kind == CELL else kind for value, kind in kinds.items()}
    return (math.prod(kernel.shape),), one


def shape_in(kernel: Kernel, value: Value) -> tuple[int, ...] | None:
    """Return the shape in which a loop takes an input or output; None for a number."""
    shape, kinds = _walked(kernel)
    kind = kinds[value]
    return None if kind == NUMBER else shape if kind == CELL else (-1,)


class _Loop:
    """The lines of a loop, and the names in them."""

    def __init__(self, kernel: Kernel, places: Mapping[Value, Any], piece: str) -> None:
        self._piece = piece
        self.calls, self.inputs, self.outputs = kernel.calls, kernel.inputs, kernel.outputs
        self.shape, self.kinds = _walked(kernel)
        self.arrays: list[Any] = []
        # The lines that make arrays of the pointers.
        self.views: list[str] = []
        # Of what is the same only once: two names for one memory would keep vector instructions away.
        self._known: dict[Any, str] = {}
        self.numbers: list[Any] = []
        # For each result the walk in which it is computed, or before which if it belongs to a row.
        self.walks: dict[Value, int] = {}
        for call in self.calls:
            latest = max(self.walks.get(value, 0) for value in call.inputs)
            self.walks[call.output] = latest + _reduces_rows(call, self.kinds)
        self.names = {value: f"v{k}" for k, value in enumerate([*self.inputs, *self.walks])}
        self.spots = {v: self._spot_of(v, x, self.kinds[v]) for v, x in places.items()}
        for value in self.walks:
            if value not in self.spots and self._is_read_later(value):
                # A name holds one cell at a time, so the next walk reads the row from here.
                scratch = np.empty(self.shape[1], value.dtype)
                self.spots[value] = self._spot_of(value, scratch, COLUMN)

    def _spot_of(self, value: Value, place: Any, kind: str) -> str:
        if kind == NUMBER:
            return self._number(place)
        is_array = isinstance(place, np.ndarray)
        key = (place.ctypes.data, place.shape, place.dtype) if is_array else place
        name = self._known.get(key)
        if name is None:
            k = len(self.arrays)
            name = self._known[key] = f"a{k}"
            self.arrays.append(place)
            dtype = f"numpy.{value.dtype.type.__name__.rstrip('_')}"
            piece = self._piece if kind == ROW else ""
            self.views.append(f"{name} = carray(pointers[{k}], {_SHAPES[kind]}, {dtype}){piece}")
        return name + _AT[kind]

    def _number(self, number: Any) -> str:
        if number not in self._known:
            self._known[number] = f"c{len(self.numbers)}"
            self.numbers.append(number)
        return self._known[number]

    def _is_read_later(self, value: Value) -> bool:
        """Return whether a walk needs what an earlier one computed of its cells."""
        later = (call for call in self.calls if self.walks[call.output] > self.walks[value])
        return self.kinds[value] == CELL and any(value in call.inputs for call in later)

    def lines(self) -> list[str]:
        """Return all of them."""
        kinds, walks = self.kinds, self.walks
        head = [
            f"{self.names[v]} = T({self._spot(v)})" if kinds[v] == NUMBER else self._load(v)
            for v in self.inputs
            if kinds[v] in (NUMBER, ONE)
        ]
        # These are added up over all rows, in the order in which NumPy adds them.
        sums = [value for value in self.outputs if kinds[value] == COLUMN]
        head += [f"for j in range(n1): {self._spot(value)} = T(0.0)" for value in sums]
        row = [self._load(value) for value in self.inputs if kinds[value] == ROW]
        for walk in range(max(walks.values()) + 1):
            calls = [call for call in self.calls if walks[call.output] == walk]
            for call in calls:
                if kinds[call.output] == ROW:
                    row += self._work(call)
            cells = self._walk([call for call in calls if kinds[call.output] != ROW], walk)
            row += ["for j in range(n1):", *_indented(cells)] if cells else []
        row += [self._store(value) for value in self.outputs if kinds[value] == ROW]
        return [*head, "for i in range(n0):", *_indented(row)]

    def _walk(self, calls: list[Call], walk: int) -> list[str]:
        """Write what is done in each cell: read all, compute, then store over what has been read."""
        read = dict.fromkeys(value for call in calls for value in call.inputs)
        loads = [
            self._load(value)
            for value in read
            if self.kinds[value] in (CELL, COLUMN) and self.walks.get(value, -1) < walk
        ]
        work, stores = [], []
        for call in calls:
            a_sum = self.kinds[call.output] == COLUMN
            work += [] if a_sum else self._work(call)
            if call.output in self.spots:
                added = f"{self._spot(call.output)} += {self.names[call.inputs[0]]}"
                stores.append(added if a_sum else self._store(call.output))
        return [*loads, *work, *stores]

    def _work(self, call: Call) -> list[str]:
        """Write a call, for one cell or row."""
        name = self.names[call.output]
        if call.function == np.add.reduce:
            return self._sum(name, call.inputs[0])
        if call.function == np.maximum.reduce:
            (x,) = call.inputs
            longest = SCALAR_FORMS[np.maximum].format(name, self._spot(x))
            first = f"{name} = {self._spot(x, '0')}"
            return [first, "for j in range(1, n1):", f" {name} = {longest}"]
        operands = [self._operand(call, x) for x in call.arguments if x is not OUT]
        cast = "" if call.output.dtype == bool else "T"
        return [f"{name} = {cast}({SCALAR_FORMS[call.function].format(*operands)})"]

    def _operand(self, call: Call, x: Any) -> str:
        if isinstance(x, Value):
            return self.names[x]
        if any(not value.is_number and value.dtype.kind == "i" for value in call.inputs):
            # As they are: NumPy compares whole numbers with a fraction in float64.
            return str(int(x)) if isinstance(x, (int, np.integer)) else self._number(float(x))
        # Constants are arguments, so that loops that differ in these alone are compiled once.
        return f"T({float(x)})" if x in (0.0, 1.0, -1.0) else f"T({self._number(float(x))})"

    def _sum(self, name: str, x: Value) -> list[str]:
        """Write a row's sum as NumPy takes it: of eight numbers and more by eight partial sums."""
        if self.shape[1] < 8:
            return [f"{name} = T(0.0)", "for j in range(n1):", f" {name} += {self._spot(x)}"]
        return [
            *(f"s{k} = {self._spot(x, str(k))}" for k in range(8)),
            "n8 = n1 - n1 % 8",
            "for j in range(8, n8, 8):",
            *(f" s{k} += {self._spot(x, f'j + {k}')}" for k in range(8)),
            f"{name} = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))",
            "for j in range(n8, n1):",
            f" {name} += {self._spot(x)}",
        ]

    def _load(self, value: Value) -> str:
        return f"{self.names[value]} = {self._spot(value)}"

    def _store(self, value: Value) -> str:
        return f"{self._spot(value)} = {self.names[value]}"

    def _spot(self, value: Value, j: str = "j") -> str:
        return self.spots[value].format(j=j)


def _indented(lines: list[str]) -> list[str]:
    return [f" {line}" for line in lines]


def get_kernel(source: str) -> Any:
    """Compile a loop that `written` wrote; its `address` is that of a function of C.

    It raises NoKernelError where numba is not installed, or does not work.
    """
    if not is_installed():
        raise NoKernelError("numba is not installed")
    try:
        return _kernel(source)
    except Exception as error:  # a broken installation can raise anything
        raise NoKernelError(str(error)) from error


@functools.cache
def is_installed() -> bool:
    """Return whether there is a numba."""
    return importlib.util.find_spec("numba") is not None


@functools.lru_cache(maxsize=256)
def _kernel(source: str) -> Any:
    numba = importlib.import_module("numba")
    # numba distinguishes what it has compiled by module and name.
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:24]}"
    source = source.replace("def kernel(", f"def {name}(")
    path = _source_file(name, source)
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, str(path or f"<{name}>"), "exec"), scope)
    types = importlib.import_module("numba.types")
    pointers = map(types.CPointer, (types.voidptr, types.intp, types.float64))
    # That of `operation.py`.
    signature = types.void(*pointers, types.voidptr)
    # error_model: x / 0 is NumPy's, unchecked
    make = numba.cfunc(signature, cache=path is not None, error_model="numpy")
    return make(scope[name])


def _source_file(name: str, source: str) -> Path | None:
    """Write the source where numba can cache what it compiles next to it; None if that is impossible."""
    path = _folder() / f"{name}.py"
    with contextlib.suppress(OSError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another process may be writing the same file; either is whole.
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(source)
            os.replace(file.name, path)
        if os.access(path.parent, os.W_OK):
            return path
    return None


def _folder() -> Path:
    """Return the folder for compiled loops: NUMBA_CACHE_DIR, or the user's own for such files."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / "anyprop"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(base).expanduser() / "anyprop"
