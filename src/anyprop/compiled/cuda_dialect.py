"""Kernels on CuPy: calls written down in CUDA C++, which `cupy.ElementwiseKernel` compiles.

A layer and a rule are recorded on arrays of NumPy in place of CuPy's; each call becomes a line that
names its type, so nothing is computed in another precision than NumPy's. The compiler may contract a
product and a sum, so results agree to rounding.

A thread does all calls of a kernel for one number, or for one row of a matrix, whose sums and maxima
are loops of the thread, or for sums of short vectors. The loss of a classifier is a dozen operations
on a few columns, each too small to keep a GPU busy for the time of its launch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array
from anyprop.compiled.kernels import (
    CELL,
    COLUMN,
    COMPARISONS,
    FORMS,
    ONE,
    ROW,
    Dialect,
    Kernel,
    Unit,
    grouped,
    kinds_of,
    product_of,
    shape_of,
    with_products,
)
from anyprop.compiled.namespace import choose, convert
from anyprop.compiled.trace import OUT, Call, Value
from anyprop.repeatable.stand_in import TraceError

# The C++ expression of a call for one number.
CUDA_FORMS: dict[Any, str] = FORMS | {
    np.power: "pow({0}, {1})",
    np.absolute: "fabs({0})",
    np.exp: "exp({0})",
    np.expm1: "expm1({0})",
    np.log: "log({0})",
    np.log1p: "log1p({0})",
    np.tanh: "tanh({0})",
    np.isfinite: "isfinite({0})",
    np.sign: "{0} > 0 ? 1 : {0} < 0 ? -1 : {0}",
    # fmax would return the other operand where one is NaN
    np.maximum: "{0} >= {1} || {0} != {0} ? {0} : {1}",
    np.minimum: "{0} <= {1} || {0} != {0} ? {0} : {1}",
    np.clip: "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    np.bitwise_or: "{0} | {1}",
    np.invert: "!{0}",
    choose: "{0} ? {1} : {2}",
    convert: "{0}",
}
_TYPES = {"bool": "bool", "float32": "float", "float64": "double"}
_TYPES |= {"int8": "signed char", "int16": "short", "int32": "int", "int64": "long long"}
_TYPES |= {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int"}
_TYPES |= {"uint64": "unsigned long long"}
# The longest rows: an array of a thread should fit in registers, and threads read rows apart.
LONGEST = 32
# The longest vector that one thread sums, in less time than the launches of a sum by many take.
MOST_OF_TOTAL = 1024
_SUM, _MAXIMUM = np.add.reduce, np.maximum.reduce
# Index of the numbers of each kind of value, for row i and column j of rows of {0}.
_AT = {CELL: "[i * {0} + j]", ROW: "[i]", COLUMN: "[j]", ONE: "[0]"}


class CudaDialect(Dialect):
    """What kernels in CUDA C++ can do. Every number is an array of shape () in their recordings."""

    # Threads do not wait for each other: what one stores, another may still have to read.
    reuses = False

    def kinds(self, calls: Sequence[Call]) -> Mapping[Value, str] | None:
        """Return the kinds of all values, none where each call goes number by number."""
        if any(map(_sums_all, calls)):
            values = (value for call in calls for value in (*call.inputs, call.output))
            totals = {value: CELL if value.shape else ONE for value in values}
            return totals if all(map(_is_of_totals, calls)) else None
        if not (can_be_written(calls[-1]) or _reduces_rows(calls[-1])):
            return None
        of_one_shape = len({call.output.shape for call in calls}) == 1
        if of_one_shape and not any(map(_reduces_rows, calls)):
            made = {call.output for call in calls}
            views = (v for call in calls for v in call.inputs if v.parent is not None)
            if not any(view.base in made for view in views):
                return {}
        # Rows of 1 have nothing to sum, and long ones more than a thread should do.
        shape = shape_of(calls)
        return kinds_of(calls) if len(shape) == 2 and 2 <= shape[1] <= LONGEST else None

    def in_place(self, unit: Unit) -> Sequence[Value]:
        """Return what is stored by the thread that alone reads the numbers at its place, and first."""
        by_number = isinstance(unit, Kernel) and not unit.kinds and not product_of(unit)
        return unit.outputs if by_number else ()


CUDA = CudaDialect()


def can_be_written(call: Call) -> bool:
    """Return whether a call has a form, of a recording in which numbers are arrays of shape ()."""
    dtypes = {str(value.dtype) for value in (*call.inputs, call.output)}
    written = call.function in CUDA_FORMS and dtypes <= _TYPES.keys()
    return written and (call.function is not np.invert or call.output.dtype == bool)


def _reduces_rows(call: Call) -> bool:
    if call.function not in (_SUM, _MAXIMUM):
        return False
    x, axis, *_ = call.arguments
    short = len(x.shape) == 2 and axis in (1, -1) and 2 <= x.shape[1] <= LONGEST
    return short and x.dtype == call.output.dtype and x.dtype in ("float32", "float64")


def _sums_all(call: Call) -> bool:
    """Return whether a call sums all numbers of a short vector, or of a small matrix."""
    if call.function != _SUM:
        return False
    x, axis, *_ = call.arguments
    return (
        (axis is None or (len(x.shape) == 1 and axis in (0, -1)))
        and call.output.shape == ()
        and 1 <= x.size <= MOST_OF_TOTAL
        and x.stand_in().flags.c_contiguous
        and x.dtype == call.output.dtype
        and x.dtype in ("float32", "float64")
    )


def _is_of_totals(call: Call) -> bool:
    """Return whether a call sums all numbers, or computes a number of numbers."""
    scalars = all(value.shape == () for value in (*call.inputs, call.output))
    return _sums_all(call) or (scalars and can_be_written(call))


class Written(NamedTuple):
    """A kernel in CUDA C++, which reads `Kernel.inputs` and writes `Kernel.outputs` in their order."""

    in_params: str
    out_params: str
    operation: str
    """What one thread does."""
    size: int | None
    """Number of threads; None if it follows from the arrays."""
    name: str

    def launch(self) -> Callable[..., Any]:
        """Create and launch the kernel; CuPy compiles it when it is first launched."""
        make = importlib.import_module("cupy").ElementwiseKernel
        made: Callable[..., Any] = make(self.in_params, self.out_params, self.operation, self.name)
        # Few rows in small blocks, so that more of the GPU's processors have some.
        return made if self.size is None else partial(made, size=self.size, block_size=32)


def written(kernel: Kernel, name: str = "anyprop_fused") -> Written:
    """Write a kernel in C++; its name is `name` if it goes number by number."""
    kinds, inputs, outputs = kernel.kinds, kernel.inputs, kernel.outputs
    size, raw, lines = None, "", []
    if kinds:
        # A kernel of sums alone is one of one row.
        totals = any(map(_sums_all, kernel.calls))
        size, raw = 1 if totals else kernel.shape[0], "raw "
        name = "anyprop_total" if totals else "anyprop_rows"
        names = {value: f"x{i}{_at(value, kinds)}" for i, value in enumerate(inputs)}
    else:
        # References to memory that may be written to below, so they are read here.
        lines = [f"const {type_of(v)} a{i} = x{i};" for i, v in enumerate(inputs)]
        names = {value: f"a{i}" for i, value in enumerate(inputs)}
    for i, call in enumerate(kernel.calls):
        value = call.output
        lines += _lines(call, f"v{i}", kinds.get(value), names)
        names[value] = f"v{i}[j]" if kinds.get(value) == CELL else f"v{i}"
    for i, value in enumerate(outputs):
        along = _along(value.shape[-1]) if kinds.get(value) == CELL else ""
        lines.append(f"{along}y{i}{_at(value, kinds)} = {names[value]};")
    return Written(
        ", ".join(f"{raw}{value.dtype} x{i}" for i, value in enumerate(inputs)),
        ", ".join(f"{raw}{value.dtype} y{i}" for i, value in enumerate(outputs)),
        "\n".join(lines),
        size,
        name,
    )


def _at(value: Value, kinds: Mapping[Value, str]) -> str:
    """Write the index of a number; "" where CuPy finds it."""
    return _AT[kinds[value]].format(*value.shape[-1:]) if kinds else ""


def _along(length: int) -> str:
    return f"for (int j = 0; j < {length}; ++j) "


def _lines(call: Call, name: str, kind: str | None, names: Mapping[Value, str]) -> list[str]:
    """Write a call: what is computed for a row is a number, for its columns the thread's array."""
    of = type_of(call.output)
    if call.function in (_SUM, _MAXIMUM):
        (x,) = call.inputs
        number, length = names[x], x.size if _sums_all(call) else x.shape[1]
        if call.function == _SUM:
            return [f"{of} {name} = 0;", f"{_along(length)}{name} += {number};"]
        larger = CUDA_FORMS[np.maximum].format(name, number)
        first = number.replace("j]", "0]")
        return [f"{of} {name} = {first};", f"{_along(length)}{name} = {larger};"]
    form = CUDA_FORMS[call.function].format(*_operands(call, names))
    if kind == CELL:
        k = call.output.shape[-1]
        return [f"{of} {name}[{k}];", f"{_along(k)}{name}[j] = {form};"]
    return [f"const {of} {name} = {form};"]


def type_of(value: Value | Array) -> str:
    """Return the C++ type of the numbers of a value or an array."""
    kind = _TYPES.get(str(value.dtype))
    if kind is None:
        raise TraceError(f"kernels read no arrays of {value.dtype}")
    return kind


def _operands(call: Call, names: Mapping[Value, str]) -> list[str]:
    """Write the operands in the type in which the call computes."""
    given = [x for x in call.arguments if x is not OUT]
    kind = call.output.dtype
    if call.function in COMPARISONS:
        kind = np.result_type(*(x.dtype if isinstance(x, Value) else x for x in given))
    elif call.function is np.isfinite:
        kind = np.result_type(np.float32, *(value.dtype for value in call.inputs))
    written = [
        names[x] if isinstance(x, Value) and x.dtype == kind else
        f"({_TYPES[str(kind)]})({names[x] if isinstance(x, Value) else _number(x)})"
        for x in given
    ]  # fmt: skip
    if call.function in (choose, convert):  # whose first operand has a type of its own
        written[0] = names[given[0]]
    return written


def _number(x: float) -> str:
    """Write a constant; a quotient that is one would be computed at run time, in double precision."""
    if math.isnan(x):
        return "__int_as_float(0x7fc00000)"
    return repr(float(x)) if math.isfinite(x) else "-" * (x < 0) + "__int_as_float(0x7f800000)"


def ordered(calls: list[Call], results: Sequence[Value]) -> list[Call]:
    """Leave out calls whose outputs are not read, and move those for the loss alone to the end.

    Between the calls, they would separate those before from those after them, which can be one
    kernel.
    """
    read, needed = {result.base for result in results}, []
    for call in reversed(calls):
        if call.output in read:
            read.update(value.base for value in call.inputs)
            needed.append(call)
    needed.reverse()
    others = {result.base for result in results[1:]}
    late: set[Value] = set()
    for i, call in enumerate(needed):
        if _sums_all(call):
            follow = {call.output}
            for other in needed[i + 1 :]:
                if any(value.base in follow for value in other.inputs):
                    follow.add(other.output)
            late |= set() if follow & others else follow
    first = [call for call in needed if call.output not in late]
    return first + [call for call in needed if call.output in late]


def units_of(
    calls: list[Call], kept: Sequence[Value], wholes: Mapping[Value, Value] | None = None
) -> list[Call | Kernel]:
    """Group calls into kernels as `grouped` does, and products with what is done along with them."""
    units: list[Call | Kernel] = []
    for unit in grouped(calls, kept, CUDA, wholes):
        # A kernel of one call saves nothing, but CuPy's own sums and ufuncs cost the host more.
        if isinstance(unit, Call) and (can_be_written(unit) or _sums_all(unit)):
            unit = Kernel([unit], [unit.output], CUDA.kinds([unit]) or {})
        units.append(unit)
    return with_products(units, [*kept, *(wholes or ())])
