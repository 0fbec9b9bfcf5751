"""A recording as kernels on CuPy arrays, each bound to its buffers: calling them repeats it.

Elementwise calls that follow each other are one kernel (`cuda_kernels.py`), with sums and maxima of
short rows among them (`row_kernels.py`). A product goes to cuBLASLt, with the bias and the ReLU that
follow it (`cublaslt.py`), and other sums and maxima are CuPy's. Buffers are C-contiguous; one is used
again once nothing reads it any more. What is joined is computed in its place where it can be.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from anyprop.compiled.cublaslt import Products
from anyprop.compiled.cuda_kernels import KernelSource, can_be_written, kernel_source
from anyprop.compiled.fusion import grouped
from anyprop.compiled.recording import OUT, Call, Recording, Traced, TraceError, Value
from anyprop.compiled.row_kernels import (
    RowKernel,
    can_stand_in_rows,
    fits_in_rows,
    goes_through_rows,
    row_kernel,
    sums_all,
    total_kernel,
)
from anyprop.compiled.traced import join


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


class Launches:
    """What repeats a recording on CuPy arrays.

    Parameters
    ----------
    recording : Recording
        In which every number is an array of shape ().
    outputs : sequence of Traced
        Results that the caller reads.
    targets : sequence of Traced or None
        For each output, from the first, the argument in whose memory it shall end up, if any.
    arguments : mapping of Value to array
        Where the arguments lie; other arrays of the recording are constants.
    stream : cupy.cuda.Stream
        The current one, on which the launches will be made.

    Raises
    ------
    TraceError
        A call has no form for CuPy.

    Attributes
    ----------
    outputs : list of cupy.ndarray
        Places of the outputs.
    """

    def __init__(
        self,
        recording: Recording,
        outputs: Sequence[Traced],
        targets: Sequence[Traced | None],
        arguments: Mapping[Value, Any],
        stream: Any,
    ) -> None:
        self._cupy = importlib.import_module("cupy")
        self._arrays = dict(arguments)
        self._free: dict[tuple[int, str], list[Any]] = {}
        self._launches: list[Callable[[], Any]] = []
        self._products = Products(stream)
        self.close = self._products.close
        try:
            self.outputs = self._bind_all(recording.calls, outputs, targets)
        except BaseException:
            self.close()
            raise

    def _bind_all(
        self, calls: list[Call], outputs: Sequence[Traced], targets: Sequence[Traced | None]
    ) -> list[Any]:
        """Bind all calls to buffers; give the places of the outputs."""
        results = [output.value for output in outputs]
        units = _units(calls, results)
        last = _last_uses(units, results)
        self._place_joined(units, results, last)
        late = self._take_targets(units, results, targets, last)
        for i, unit in enumerate(units):
            places = [self._array(value) for value in unit.outputs]
            self._bind(unit, places)
            # Only now: no kernel stores a result where another of its numbers is still to be read.
            self._release(value for value, end in last.items() if end == i)
        for result, target in late:
            self._copy(result, self._array(target))
        return [self._array(result) for result in results]

    def __call__(self) -> None:
        """Launch all of it."""
        for launch in self._launches:
            launch()

    def _place_joined(
        self, units: list[Unit], results: list[Value], last: dict[Value, float]
    ) -> None:
        """Let vectors that are joined be computed in their places, as far as that is possible."""
        makers = {value: unit for unit in units for value in unit.outputs}
        times = Counter(vector.base for unit in units if _is_join(unit) for vector in unit.inputs)
        times.update(result.base for result in results)
        whole: dict[Value, Value] = {}  # what a vector is computed in
        # From the last, so that what is joined may be joined with others in turn.
        for unit in filter(_is_join, reversed(units)):
            for vector, place in _pieces(unit, self._array(unit.output)):
                source = vector.base
                maker = makers.get(source)
                if (
                    maker is None
                    or times[source] > 1
                    or vector.dtype != unit.output.dtype
                    or vector.size != source.size
                    or not vector.stand_in().flags.c_contiguous
                ):
                    continue
                self._arrays[source] = place.reshape(source.shape)
                # It is not free for another before the whole is, and that not before it.
                whole[source] = owner = whole.get(unit.output, unit.output)
                last[owner] = max(last[owner], last.pop(source))

    def _take_targets(
        self,
        units: list[Unit],
        results: list[Value],
        targets: Sequence[Traced | None],
        last: dict[Value, float],
    ) -> list[tuple[Value, Value]]:
        """Let results be stored in their targets; list those that must be copied there."""
        made_by = {value: i for i, unit in enumerate(units) for value in unit.outputs}
        late = []
        for result, traced in zip(results, targets, strict=True):
            if traced is None:
                continue
            target, i = traced.value, made_by.get(result, -1)
            if result is target:
                continue
            if result.base.given:  # which may be written over before it is copied
                raise TraceError("it hands an argument back in another place")
            unit = units[i]
            in_place = (
                i >= 0
                and isinstance(unit, KernelSource)
                and result.shape == target.shape
                and last.get(target, -1) <= i
                and result not in self._arrays
                # Read number by number, it may be written to.
                and all(v is target for v in unit.inputs if v.base is target)
            )
            if in_place:
                self._arrays[result] = self._arrays[target]
            else:
                late.append((result, target))
        return late

    def _bind(self, unit: Unit, places: list[Any]) -> None:
        if isinstance(unit, (KernelSource, RowKernel)):
            given = [self._array(value) for value in unit.inputs]
            kernel = unit.kernel() if isinstance(unit, RowKernel) else unit.kernel("anyprop_fused")
            self._launches.append(partial(kernel, *given, *places))
            return
        if isinstance(unit, Summed):
            a, b = map(self._array, unit.inputs)
            launch = self._products.summed(a, b, *places)
            if launch is not None:
                self._launches.append(launch)
                return
            for call, place in zip(unit[:2], places, strict=True):
                self._bind(call, [place])
            return
        (out,) = places
        if isinstance(unit, Rectified):
            self._bind_rectified(unit, out)
            return
        if _is_join(unit):
            for vector, place in _pieces(unit, out):
                if self._array(vector).data.ptr != place.data.ptr:
                    self._copy(vector, place)
            return
        given = [self._array(x) if isinstance(x, Value) else x for x in unit.arguments]
        if unit.function is np.matmul:
            if given[0].ndim != 2 or given[1].ndim != 2:
                raise TraceError("it multiplies what are no matrices")
            self._launches.append(self._products.plain(given[0], given[1], out))
            return
        name = {np.add.reduce: "sum", np.maximum.reduce: "amax"}.get(unit.function)
        if name is not None:
            x, axis, dtype, _, keepdims = given
            options = {"axis": axis, "out": out, "keepdims": keepdims}
            options |= {"dtype": dtype} if name == "sum" else {}
            self._launches.append(partial(getattr(self._cupy, name), x, **options))
            return
        if not isinstance(unit.function, np.ufunc):
            raise TraceError(f"it uses {unit.function.__name__}, which has no form for CuPy")
        operands = [x for x in given if x is not OUT]
        ufunc = getattr(self._cupy, unit.function.__name__)
        self._launches.append(partial(ufunc, *operands, out=out))

    def _bind_rectified(self, unit: Rectified, out: Any) -> None:
        a, b, bias = map(self._array, unit.inputs)
        launch = self._products.rectified(a, b, bias, out)
        if launch is not None:
            self._launches.append(launch)
            return
        self._launches.append(self._products.plain(a, b, out))
        self._arrays[unit.product.output] = out  # in whose place the kernel then works
        self._bind(unit.kernel, [out])

    def _copy(self, value: Value, place: Any) -> None:
        copy = kernel_source([], [value]).kernel("anyprop_copy")
        self._launches.append(partial(copy, self._array(value), place))

    def _release(self, values: Iterable[Value]) -> None:
        for value in values:
            if not value.given and value in self._arrays:
                array = self._arrays[value].reshape(-1)
                self._free.setdefault((array.size, str(array.dtype)), []).append(array)

    def _array(self, value: Value) -> Any:
        if value not in self._arrays:
            self._arrays[value] = self._new_array(value)
        return self._arrays[value]

    def _new_array(self, value: Value) -> Any:
        if 0 in value.shape:
            raise TraceError("it has an array without numbers")
        if value.parent is not None and value.view is not None:
            parent = self._array(value.parent)
            array = value.view(parent)
            if not self._cupy.may_share_memory(array, parent):
                raise TraceError("it uses a view that would be a copy in CuPy")
            return array
        if value.given:
            return self._cupy.asarray(value.data)
        free = self._free.get((int(np.prod(value.shape)), str(value.dtype)))
        return (
            free.pop().reshape(value.shape) if free else self._cupy.empty(value.shape, value.dtype)
        )


def _units(calls: list[Call], results: list[Value]) -> list[Unit]:
    """Put calls into kernels and products; those whose results nobody reads are left out."""
    calls = _losses_last(calls, results)
    found = grouped(calls, results, can_stand_in_rows, fits_in_rows, _kernel)
    units = [
        _kernel([unit], [unit.output])
        if isinstance(unit, Call) and (can_be_written(unit) or sums_all(unit))
        else unit
        for unit in found
        if unit.outputs
    ]
    return _summed(_rectified(units, results))


def _kernel(calls: list[Call], outputs: list[Value]) -> KernelSource | RowKernel:
    if any(map(sums_all, calls)):
        return total_kernel(calls, outputs)
    return (row_kernel if goes_through_rows(calls) else kernel_source)(calls, outputs)


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


def _is_join(unit: Unit) -> TypeGuard[Call]:
    return isinstance(unit, Call) and unit.function is join


def _is_product(unit: Unit) -> TypeGuard[Call]:
    return isinstance(unit, Call) and unit.function is np.matmul


def _pieces(unit: Call, whole: Any) -> list[tuple[Value, Any]]:
    """List the vectors that are joined, each with its place."""
    stops = np.cumsum([vector.size for vector in unit.inputs]).tolist()
    return [(v, whole[stop - v.size : stop]) for v, stop in zip(unit.inputs, stops, strict=True)]


def _last_uses(units: list[Unit], results: list[Value]) -> dict[Value, float]:
    """Tell after which unit nothing reads a value's memory any more."""
    last: dict[Value, float] = {}
    for i, unit in enumerate(units):
        last |= {value.base: i for value in (*unit.inputs, *unit.outputs)}
    return last | {result.base: np.inf for result in results}
