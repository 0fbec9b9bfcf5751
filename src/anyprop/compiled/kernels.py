"""Calls that one kernel does: which of them are grouped, and how its values are laid out.

A call by itself costs a pass through memory, and on a GPU a launch. A kernel does many calls for
one number, or one row, after the other. It goes through a vector, or through a matrix row by row,
and each of its values is of one kind: it has a number for each cell of the matrix, for each row (or
place of the vector), for each column, one number for all, or is a number.

Which calls a kernel can do, its `Dialect` knows: numba's loops (`numba_dialect.py`) or CUDA C++
(`cuda_dialect.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from anyprop.compiled.trace import Call, Value

CELL, ROW, COLUMN, ONE, NUMBER = "cell", "row", "column", "one", "number"
REDUCTIONS = (np.add.reduce, np.maximum.reduce)
COMPARISONS = {
    np.less: "{0} < {1}",
    np.less_equal: "{0} <= {1}",
    np.greater: "{0} > {1}",
    np.greater_equal: "{0} >= {1}",
    np.equal: "{0} == {1}",
    np.not_equal: "{0} != {1}",
}
# Expressions of both dialects; {0} and {1} are the operands.
FORMS = COMPARISONS | {
    np.add: "{0} + {1}",
    np.subtract: "{0} - {1}",
    np.multiply: "{0} * {1}",
    np.true_divide: "{0} / {1}",
    np.negative: "-{0}",
    np.sqrt: "sqrt({0})",
    np.bitwise_and: "{0} & {1}",
}


class Unit(Protocol):
    """What is done at once: a `Call`, or a `Kernel` of several."""

    @property
    def inputs(self) -> Sequence[Value]:
        """What it reads."""

    @property
    def outputs(self) -> Sequence[Value]:
        """What it computes and stores."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Calls that are done at once.

    Parameters
    ----------
    calls : list of Call
        In their order; without any, it copies its outputs, which are then its inputs.
    outputs : list of Value
        Those of their results that are read elsewhere.
    kinds : dict of Value to str
        The kind of each value; empty if all calls go number by number through one shape.
    """

    calls: list[Call]
    outputs: list[Value]
    kinds: Mapping[Value, str] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> list[Value]:
        """What it reads."""
        made = {call.output for call in self.calls}
        read = dict.fromkeys([*(v for call in self.calls for v in call.inputs), *self.outputs])
        return [value for value in read if value not in made]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the vector or matrix that it goes through."""
        return shape_of(self.calls)


class Dialect(ABC):
    """What grouping and memory ask of a backend."""

    reuses: ClassVar[bool]
    """Whether a result may be stored over an input that its own unit reads for the last time."""

    @abstractmethod
    def kinds(self, calls: Sequence[Call]) -> Mapping[Value, str] | None:
        """Return the kinds of all values in a kernel of these calls; None if no kernel can do them.

        A kernel can do all of them but the last.
        """

    @abstractmethod
    def in_place(self, unit: Unit) -> Sequence[Value]:
        """Return the outputs that may be stored where an input is that is read number by number."""


def grouped(
    calls: Sequence[Call],
    kept: Iterable[Value],
    dialect: Dialect,
    wholes: Mapping[Value, Value] | None = None,
) -> list[Call | Kernel]:
    """Group calls that follow each other into kernels, of two calls at least.

    Parameters
    ----------
    calls : sequence of Call
        Those of a recording.
    kept : iterable of Value
        Results that are read after the last call.
    dialect : Dialect
        In which the kernels will be written.
    wholes : mapping of Value to Value, optional
        For each result that is computed within another value, that value.

    Returns
    -------
    list of Call or Kernel
        The same work in the same order; calls on numbers, which depend on nothing else, come first.
    """
    wholes = wholes or {}
    reads = Counter(value.base for call in calls for value in call.inputs)
    # One reader more, outside every group, so that what the caller reads is stored.
    reads.update(value.base for value in kept)
    # A piece is read where the whole is.
    reads.update([*wholes])
    done: list[Call | Kernel] = [call for call in calls if call.output.is_number]
    group: list[Call] = []
    kinds: Mapping[Value, str] | None = None

    def close() -> None:
        if len(group) < 2:
            # One call by itself is left to the library's own function, which is compiled already.
            done.extend(group)
        else:
            # What is read within the group alone is never stored.
            inside = Counter(value.base for call in group for value in call.inputs)
            made = [call.output for call in group]
            outputs = [value for value in made if reads[value] > inside[value]]
            done.append(Kernel(group[:], outputs, kinds or {}))
        group.clear()

    # The order of calls stays: a kernel is of neighbours, so nothing is read before it is computed.
    for call in calls:
        if call.output.is_number:
            continue
        # Inside a kernel, a whole is not complete yet if a piece of it is computed in the same
        # kernel.
        parts = {wholes.get(other.output) for other in group}
        apart = any(value.base in parts for value in call.inputs)
        grown = None if apart else dialect.kinds([*group, call])
        if grown is None:
            close()
            # The call that ended one group may be the first of the next.
            grown = dialect.kinds([call])
        if grown is None:
            done.append(call)
        else:
            group.append(call)
            kinds = grown
    close()
    return done


def domain_of(call: Call) -> tuple[int, ...]:
    """Return the shape of what a call goes through."""
    of = call.inputs[0] if call.function in REDUCTIONS else call.output
    return tuple(of.shape)


def shape_of(calls: Sequence[Call]) -> tuple[int, ...]:
    """Return the shape of the vector or matrix that a kernel of these calls goes through."""
    return max(map(domain_of, calls), key=lambda shape: (len(shape), math.prod(shape)))


def kinds_of(calls: Sequence[Call]) -> dict[Value, str] | None:
    """Return the kinds of all values in one walk through rows; None if the calls need several."""
    shape = shape_of(calls)
    # Beside the cells only one number for each row can be computed in the same walk.
    others = {domain_of(call) for call in calls} - {shape}
    if not others <= {shape[:1], (shape[0], 1)}:
        return None
    kinds: dict[Value, str | None] = {}
    made: dict[Value, str] = {}
    for call in calls:
        within = domain_of(call)
        for value in call.inputs:
            kind = _kind(value, within, shape)
            # A view of a result needs all of it, and so does what reads a sum down the columns; and one
            # vector cannot have a number for each row here and for each column there.
            of_a_result = value.parent is not None and value.base in made
            if of_a_result or kinds.setdefault(value, kind) != kind or made.get(value) == COLUMN:
                return None
        gives = CELL if within == shape and len(shape) == 2 else ROW
        if call.function in REDUCTIONS:
            gives = COLUMN if call.arguments[1] == 0 else ROW
        kinds[call.output] = made[call.output] = gives
    # A loop has one floating dtype, in which all its constants are.
    floating = {v.dtype for v in kinds if not v.is_number and v.dtype.kind == "f"}
    if len(floating) > 1 or None in kinds.values():
        return None
    return {value: kind for value, kind in kinds.items() if kind}


def _kind(value: Value, within: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
    """Return how a call that goes through `within` reads a value; None if a kernel cannot."""
    if value.is_number:
        return NUMBER
    own = tuple(value.shape)
    # Row by row is in the order of memory, or the walk would jump.
    if not value.stand_in().flags.c_contiguous:
        return None
    if own == within:
        return CELL if len(shape) == 2 and within == shape else ROW
    if len(shape) == 2 and within == shape:
        if own == (shape[0], 1):
            return ROW
        if own in (shape[1:], (1, *shape[1:])):
            return COLUMN
    return ONE if value.size == 1 else None


def product_of(unit: Unit) -> Call | None:
    """Return the product that a unit is or begins with; None if it does none."""
    calls = unit.calls if isinstance(unit, Kernel) else [unit]
    first = calls[0] if calls else None
    return first if isinstance(first, Call) and first.function is np.matmul else None


def with_products(units: list[Call | Kernel], kept: Sequence[Value]) -> list[Call | Kernel]:
    """Group products with what a library can do along with them.

    That is a bias and max(., 0) on the result, or the sum of the second factor's columns, which is how
    the gradient of a bias goes with that of its matrix.
    """
    reads = Counter(value.base for unit in units for value in unit.inputs)
    reads.update(result.base for result in kept)
    made_by = {value: i for i, unit in enumerate(units) for value in unit.outputs}
    found = dict(enumerate(units))
    for k, product in enumerate(units):
        if not isinstance(product, Call) or not product_of(product):
            continue
        for i, unit in [*found.items()]:
            if isinstance(unit, Kernel):
                # Where the product itself is read elsewhere, it has to be stored, too.
                if reads[product.output] == 1 and _rectifies(unit, product.output):
                    del found[k]
                    found[i] = Kernel([product, *unit.calls], unit.outputs)
                    break
            # Both are done where the first of them was, so everything they read should be computed
            # by then.
            elif _sums_columns(unit, product.inputs[1]) and all(
                made_by.get(value.base, -1) < min(i, k) for value in product.inputs
            ):
                del found[i], found[k]
                found[min(i, k)] = Kernel([product, unit], [product.output, unit.output])
                break
    return [found[i] for i in sorted(found)]


def _rectifies(kernel: Kernel, product: Value) -> bool:
    """Return whether a kernel stores max(product + bias, 0) and nothing else."""
    if len(kernel.calls) != 2 or kernel.inputs[:1] != [product] or len(product.shape) != 2:
        return False
    add, maximum = kernel.calls
    bias = kernel.inputs[-1]
    return (
        add.function is np.add
        and set(add.inputs) == set(kernel.inputs) == {product, bias}
        and bias.shape == product.shape[1:]
        and bias.dtype == product.dtype == add.output.dtype
        and maximum.function is np.maximum
        and maximum.arguments[:2] == (add.output, 0.0)
        and kernel.outputs == [maximum.output]
    )


def _sums_columns(call: Call, x: Value) -> bool:
    if call.function != np.add.reduce or call.inputs[0] is not x:
        return False
    axis = call.arguments[1]
    return len(x.shape) == 2 and axis in (0, -2) and x.dtype == call.output.dtype
