"""Sums and maxima of short rows, with the elementwise calls around them, as one CUDA kernel.

So is the sum of a short vector, with what is done with the sum: the loss of a batch.

The loss of a classifier is a dozen operations on matrices of a few columns, each too small to keep a GPU
busy for the time of its launch. Here a thread does all of them for one row: what is computed for a row
is a number, what is computed for its columns an array of the thread's.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop.compiled.cuda_kernels import can_be_written, fits, form_of, larger_of, type_of
from anyprop.compiled.kinds import CELL, COLUMN, ONE, ROW, kinds_of, shape_of
from anyprop.compiled.trace import Call, Value

# The longest rows: an array of a thread shall lie in registers, and threads read rows apart.
LONGEST = 32
# The longest vector that one thread sums, in less time than the launches of a sum by many take.
MOST_OF_TOTAL = 1024

_SUM, _MAXIMUM = np.add.reduce, np.maximum.reduce
# How a value is read for row i and column j.
_AT = {CELL: "[i * {0} + j]", ROW: "[i]", COLUMN: "[j]", ONE: "[0]"}


class RowKernel(NamedTuple):
    """What `cupy.ElementwiseKernel` makes a kernel of that goes through rows.

    Parameters
    ----------
    inputs, outputs : list of Value
        What the kernel reads and stores, in the order of its parameters.
    in_params, out_params : str
        Types and names of what it reads and writes.
    operation : str
        What is done for row i.
    rows : int
        Their number.
    name : str
        What it is called.
    """

    inputs: list[Value]
    outputs: list[Value]
    in_params: str
    out_params: str
    operation: str
    rows: int
    name: str

    def kernel(self) -> Any:
        """Make the kernel; CuPy compiles it when it is first launched."""
        cupy = importlib.import_module("cupy")
        made = cupy.ElementwiseKernel(self.in_params, self.out_params, self.operation, self.name)
        # Few rows in small blocks, so that more of the GPU's processors have some.
        return partial(made, size=self.rows, block_size=32)


def can_stand_in_rows(call: Call) -> bool:
    """Tell whether a call is elementwise, or sums or takes the maximum of what is short."""
    return can_be_written(call) or _reduces_rows(call) or sums_all(call)


def fits_in_rows(call: Call, group: list[Call]) -> bool:
    """Tell whether a call can stand in one kernel with those before it, through rows or not."""
    both = [*group, call]
    if any(map(sums_all, both)):
        return all(map(_is_of_totals, both))
    alike = not goes_through_rows(group) and fits(call, group)
    return alike or (can_stand_in_rows(call) and _kinds(both) is not None)


def row_kernel(calls: Sequence[Call], outputs: Sequence[Value]) -> RowKernel:
    """Write calls down as one kernel that goes through rows.

    Parameters
    ----------
    calls : sequence of Call
        Those that `fits_in_rows`, in their order.
    outputs : sequence of Value
        Results that are stored.

    Returns
    -------
    RowKernel
    """
    kinds = _kinds(calls)
    assert kinds is not None
    n, k = shape_of(calls)
    made = {call.output for call in calls}
    inputs = [v for v in dict.fromkeys(v for c in calls for v in c.inputs) if v not in made]
    names = {v: f"x{i}{_AT[kinds[v]].format(k)}" for i, v in enumerate(inputs)}
    results = {v: f"y{i}{_AT[kinds[v]].format(k)}" for i, v in enumerate(outputs)}
    lines: list[str] = []
    for i, call in enumerate(calls):
        value, of = call.output, type_of(call.output)
        names[value] = f"v{i}[j]" if kinds[value] == CELL else f"v{i}"
        over_columns = f"for (int j = 0; j < {k}; ++j)"
        if _reduces_rows(call):
            x = names[call.inputs[0]]
            step = f"v{i} + {x}" if call.function == _SUM else larger_of(f"v{i}", x)
            first = "0" if call.function == _SUM else x.replace("j]", "0]")
            lines += [f"{of} v{i} = {first};", f"{over_columns} v{i} = {step};"]
        elif kinds[value] == CELL:
            lines += [f"{of} v{i}[{k}];", f"{over_columns} v{i}[j] = {form_of(call, names)};"]
        else:
            lines.append(f"const {of} v{i} = {form_of(call, names)};")
        if value in results:
            within = f"{over_columns} " if kinds[value] == CELL else ""
            lines.append(f"{within}{results[value]} = {names[value]};")
    return _raw_kernel(inputs, outputs, lines, n, "anyprop_rows")


def total_kernel(calls: Sequence[Call], outputs: Sequence[Value]) -> RowKernel:
    """Write sums of all numbers, and what is computed of the sums, as one kernel of one thread.

    Parameters
    ----------
    calls : sequence of Call
        Of which `sums_all` is true, or which `fits_in_rows` with such.
    outputs : sequence of Value
        Results that are stored.

    Returns
    -------
    RowKernel
    """
    made = {call.output for call in calls}
    inputs = [v for v in dict.fromkeys(v for c in calls for v in c.inputs) if v not in made]
    names = {v: f"x{i}[0]" for i, v in enumerate(inputs)}
    lines = []
    for i, call in enumerate(calls):
        of, name = type_of(call.output), f"v{i}"
        if sums_all(call):
            x = call.inputs[0]
            lines.append(f"{of} {name} = 0;")
            lines.append(f"for (int j = 0; j < {x.size}; ++j) {name} += x{inputs.index(x)}[j];")
        else:
            lines.append(f"const {of} {name} = {form_of(call, names)};")
        names[call.output] = name
    lines += [f"y{i}[0] = {names[value]};" for i, value in enumerate(outputs)]
    return _raw_kernel(inputs, outputs, lines, 1, "anyprop_total")


def _raw_kernel(
    inputs: list[Value], outputs: Sequence[Value], lines: list[str], rows: int, name: str
) -> RowKernel:
    return RowKernel(
        inputs,
        list(outputs),
        ", ".join(f"raw {value.dtype} x{i}" for i, value in enumerate(inputs)),
        ", ".join(f"raw {value.dtype} y{i}" for i, value in enumerate(outputs)),
        "\n".join(lines),
        rows,
        name,
    )


def sums_all(call: Call) -> bool:
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
    return sums_all(call) or (scalars and can_be_written(call))


def goes_through_rows(calls: Sequence[Call]) -> bool:
    """Tell whether calls need a kernel that goes through rows."""
    return any(map(_reduces_rows, calls)) or len({call.output.shape for call in calls}) > 1


def _reduces_rows(call: Call) -> bool:
    if call.function not in (_SUM, _MAXIMUM):
        return False
    x, axis, *_ = call.arguments
    return (
        len(x.shape) == 2
        and axis in (1, -1)
        and 2 <= x.shape[1] <= LONGEST
        and x.dtype == call.output.dtype
        and x.dtype in ("float32", "float64")
    )


def _kinds(calls: Sequence[Call]) -> dict[Value, str] | None:
    """Find the kinds of all values; None if the calls do not go through one matrix of short rows."""
    shape = shape_of(calls)
    return kinds_of(calls) if len(shape) == 2 and 2 <= shape[1] <= LONGEST else None
