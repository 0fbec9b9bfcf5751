"""Elementwise calls of a recording as one CUDA kernel, which `cupy.ElementwiseKernel` compiles.

A layer and a rule are recorded on arrays of NumPy that stand for CuPy's (`trace.py`); the calls are
written down in CUDA C++, a line for each. Each line names its type, so nothing is computed in another
precision than NumPy's; the compiler may contract a product and a sum, so results agree to rounding.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array
from anyprop.compiled.loops import COMPARISONS
from anyprop.compiled.namespace import choose, convert
from anyprop.compiled.trace import OUT, Call, Value

# What does the work of a call for one number.
_FORMS: dict[Any, str] = COMPARISONS | {
    np.add: "{0} + {1}",
    np.subtract: "{0} - {1}",
    np.multiply: "{0} * {1}",
    np.true_divide: "{0} / {1}",
    np.power: "pow({0}, {1})",
    np.negative: "-{0}",
    np.absolute: "fabs({0})",
    np.sqrt: "sqrt({0})",
    np.exp: "exp({0})",
    np.expm1: "expm1({0})",
    np.log: "log({0})",
    np.log1p: "log1p({0})",
    np.tanh: "tanh({0})",
    np.isfinite: "isfinite({0})",
    np.sign: "{0} > 0 ? 1 : {0} < 0 ? -1 : {0}",
    np.maximum: "{0} >= {1} || {0} != {0} ? {0} : {1}",
    np.minimum: "{0} <= {1} || {0} != {0} ? {0} : {1}",
    np.clip: "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    np.bitwise_and: "{0} & {1}",
    np.bitwise_or: "{0} | {1}",
    np.invert: "!{0}",
    choose: "{0} ? {1} : {2}",
    convert: "{0}",
}
_TYPES = {"bool": "bool", "float32": "float", "float64": "double"}
_TYPES |= {"int8": "signed char", "int16": "short", "int32": "int", "int64": "long long"}
_TYPES |= {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int"}
_TYPES |= {"uint64": "unsigned long long"}


class KernelSource(NamedTuple):
    """What `cupy.ElementwiseKernel` makes a kernel of.

    Parameters
    ----------
    calls : list of Call
        What it does.
    inputs, outputs : list of Value
        What the kernel reads and stores, in the order of its parameters.
    in_params, out_params : str
        Types and names of what it reads and writes.
    operation : str
        What is done for one number. All is read before anything is written, so a result may be
        stored in the place of an input.
    """

    calls: list[Call]
    inputs: list[Value]
    outputs: list[Value]
    in_params: str
    out_params: str
    operation: str

    def kernel(self, name: str) -> Any:
        """Make the kernel; CuPy compiles it when it is first launched."""
        cupy = importlib.import_module("cupy")
        return cupy.ElementwiseKernel(self.in_params, self.out_params, self.operation, name)


def can_be_written(call: Call) -> bool:
    """Tell whether `kernel_source` can write a call down.

    Parameters
    ----------
    call : Call
        Of a recording in which every number is an array of shape ().
    """
    dtypes = {str(value.dtype) for value in (*call.inputs, call.output)}
    written = call.function in _FORMS and dtypes <= _TYPES.keys()
    return written and (call.function is not np.invert or call.output.dtype == bool)


def fits(call: Call, group: list[Call]) -> bool:
    """Tell whether a call can stand in one kernel with those before it."""
    made = {other.output for other in group}
    return (
        can_be_written(call)
        and call.output.shape == group[0].output.shape
        and not any(value.base in made for value in call.inputs if value.parent is not None)
    )


def kernel_source(calls: Sequence[Call], outputs: Sequence[Value]) -> KernelSource:
    """Write calls down as one kernel.

    Parameters
    ----------
    calls : sequence of Call
        Those of which `can_be_written` is true, in their order; shapes broadcast to one.
    outputs : sequence of Value
        What the kernel stores: results, or inputs as they are.

    Returns
    -------
    KernelSource
    """
    made = {call.output for call in calls}
    read = dict.fromkeys([*(v for call in calls for v in call.inputs), *outputs])
    inputs = [value for value in read if value not in made]
    names = {value: f"v{k}" for k, value in enumerate([*inputs, *(c.output for c in calls)])}
    # References to memory that may be written to below, so they are read here.
    lines = [f"const {type_of(v)} {names[v]} = x{k};" for k, v in enumerate(inputs)]
    for call in calls:
        lines.append(f"const {type_of(call.output)} {names[call.output]} = {form_of(call, names)};")
    lines += [f"y{k} = {names[value]};" for k, value in enumerate(outputs)]
    return KernelSource(
        list(calls),
        inputs,
        list(outputs),
        ", ".join(f"{value.dtype} x{k}" for k, value in enumerate(inputs)),
        ", ".join(f"{value.dtype} y{k}" for k, value in enumerate(outputs)),
        "\n".join(lines),
    )


def form_of(call: Call, names: dict[Value, str]) -> str:
    """Write down what a call computes for one number.

    Parameters
    ----------
    call : Call
        One that `can_be_written`.
    names : dict of Value to str
        How its inputs are called.
    """
    return _FORMS[call.function].format(*_operands(call, names))


def larger_of(a: str, b: str) -> str:
    """Write down the larger of two numbers, or NaN if one of them is."""
    return _FORMS[np.maximum].format(a, b)


def type_of(value: Value | Array) -> str:
    """Return the C++ type of the numbers of a value or an array."""
    return _TYPES[str(value.dtype)]


def _operands(call: Call, names: dict[Value, str]) -> list[str]:
    """Write the operands in the type in which the call computes."""
    given = [x for x in call.arguments if x is not OUT]
    kind = call.output.dtype
    if call.function in COMPARISONS:
        kind = np.result_type(*(value.dtype for value in call.inputs))
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
