"""What is launched for a recording: kernels, products with what goes along with them, single calls.

Elementwise calls that follow each other are one kernel, with sums and maxima of short rows among them. A
product takes the bias and the ReLU that follow it, or the sum of its second factor's columns.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, TypeAlias, TypeGuard

import numpy as np

from anyprop.compiled.cuda_kernels import KernelSource, can_be_written, kernel_source
from anyprop.compiled.fusion import grouped
from anyprop.compiled.namespace import join
from anyprop.compiled.row_kernels import (
    RowKernel,
    can_stand_in_rows,
    fits_in_rows,
    goes_through_rows,
    row_kernel,
    sums_all,
    total_kernel,
)
from anyprop.compiled.trace import Call, Value


class Rectified(NamedTuple):
    """A product, and the kernel that adds a bias to it and takes the maximum with 0.

    Parameters
    ----------
    product : Call
        Its result is read by the kernel alone.
    kernel : KernelSource
        What follows it.
    bias : Value
        What the kernel adds, a vector.
    """

    product: Call
    kernel: KernelSource
    bias: Value

    @property
    def inputs(self) -> list[Value]:
        """What it reads."""
        return [*self.product.inputs, self.bias]

    @property
    def outputs(self) -> list[Value]:
        """What it computes."""
        return self.kernel.outputs


class Summed(NamedTuple):
    """A product, and the sum of its second factor's columns.

    Parameters
    ----------
    product, total : Call
        Which read one array.
    """

    product: Call
    total: Call

    @property
    def inputs(self) -> list[Value]:
        """What it reads."""
        return self.product.inputs

    @property
    def outputs(self) -> list[Value]:
        """What it computes."""
        return [self.product.output, self.total.output]


Unit: TypeAlias = Call | KernelSource | RowKernel | Rectified | Summed


def units_of(calls: list[Call], results: list[Value]) -> list[Unit]:
    """Put calls into kernels and products; those whose results are not read are left out."""
    calls = _losses_last(_that_lead_to(results, calls), results)
    found = grouped(calls, results, can_stand_in_rows, fits_in_rows, _kernel)
    units = [
        _kernel([unit], [unit.output])
        if isinstance(unit, Call) and (can_be_written(unit) or sums_all(unit))
        else unit
        for unit in found
    ]
    return _summed(_rectified(units, results))


def _kernel(calls: list[Call], outputs: list[Value]) -> KernelSource | RowKernel:
    if any(map(sums_all, calls)):
        return total_kernel(calls, outputs)
    return (row_kernel if goes_through_rows(calls) else kernel_source)(calls, outputs)


def _that_lead_to(results: list[Value], calls: list[Call]) -> list[Call]:
    """List the calls whose outputs are read: by results, or by calls that lead to them."""
    read = {result.base for result in results}
    kept = []
    for call in reversed(calls):
        if call.output in read:
            read.update(value.base for value in call.inputs)
            kept.append(call)
    return kept[::-1]


def _losses_last(calls: list[Call], results: list[Value]) -> list[Call]:
    """Put sums that lead to the first result alone, which is the loss, behind all else.

    Amid the calls, they would part those before from those after them, which can be one kernel.
    """
    kept = {result.base for result in results[1:]}
    late: set[Value] = set()
    for i, call in enumerate(calls):
        if sums_all(call):
            follow = {call.output}
            for other in calls[i + 1 :]:
                if any(value.base in follow for value in other.inputs):
                    follow.add(other.output)
            late |= set() if follow & kept else follow
    first = [call for call in calls if call.output not in late]
    return first + [call for call in calls if call.output in late]


def _rectified(units: list[Call | KernelSource | RowKernel], results: list[Value]) -> list[Unit]:
    """Put products together with the kernels that do nothing but add a bias and take max(., 0)."""
    reads = Counter(value.base for unit in units for value in unit.inputs)
    reads.update(result.base for result in results)
    products: dict[Value, Call] = {}
    found: list[Unit] = []
    for unit in units:
        found.append(unit)
        if isinstance(unit, KernelSource):
            product = products.get(unit.inputs[0])
            if product is not None and _rectifies(unit, product.output):
                found.remove(product)
                found[-1] = Rectified(product, unit, unit.inputs[1])
        elif _is_product(unit) and reads[unit.output] == 1:
            products[unit.output] = unit
    return found


def _rectifies(kernel: KernelSource, product: Value) -> bool:
    """Tell whether a kernel stores max(product + bias, 0) and nothing else."""
    if len(kernel.calls) != 2 or len(kernel.inputs) != 2 or len(product.shape) != 2:
        return False
    add, maximum = kernel.calls
    bias = kernel.inputs[1]
    return (
        add.function is np.add
        and set(add.inputs) == {product, bias}
        and bias.shape == product.shape[1:]
        and bias.dtype == product.dtype == add.output.dtype
        and maximum.function is np.maximum
        and maximum.arguments[:2] == (add.output, 0.0)
        and kernel.outputs == [maximum.output]
    )


def _summed(units: list[Unit]) -> list[Unit]:
    """Put products together with the sums of their second factors' columns."""
    made_by = {value: i for i, unit in enumerate(units) for value in unit.outputs}
    products = {unit.inputs[1]: i for i, unit in enumerate(units) if _is_product(unit)}
    found: dict[int, Unit] = dict(enumerate(units))
    for i, unit in enumerate(units):
        k = products.get(unit.inputs[0], -1) if _sums_columns(unit) else -1
        product = found.get(k)
        # Both are done where the first of them was, so all that they read should be there by then.
        if (
            _sums_columns(unit)
            and product is not None
            and _is_product(product)
            and all(made_by.get(v.base, -1) < min(i, k) for v in product.inputs)
        ):
            del found[i], found[k]
            found[min(i, k)] = Summed(product, unit)
    return [found[i] for i in sorted(found)]


def _sums_columns(unit: Unit) -> TypeGuard[Call]:
    if not isinstance(unit, Call) or unit.function != np.add.reduce:
        return False
    x, axis, *_ = unit.arguments
    return len(x.shape) == 2 and axis in (0, -2) and x.dtype == unit.output.dtype


def is_join(unit: Unit) -> TypeGuard[Call]:
    """Return whether a unit joins vectors."""
    return isinstance(unit, Call) and unit.function is join


def _is_product(unit: Unit) -> TypeGuard[Call]:
    return isinstance(unit, Call) and unit.function is np.matmul


def last_uses(units: list[Unit], results: list[Value]) -> dict[Value, float]:
    """Tell after which unit nothing reads a value's memory any more."""
    last: dict[Value, float] = {}
    for i, unit in enumerate(units):
        last |= {value.base: i for value in (*unit.inputs, *unit.outputs)}
    return last | {result.base: np.inf for result in results}
