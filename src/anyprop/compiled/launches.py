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
from typing import Any

import numpy as np

from anyprop.compiled.cublaslt import Products
from anyprop.compiled.cuda_kernels import KernelSource, kernel_source
from anyprop.compiled.row_kernels import RowKernel
from anyprop.compiled.trace import OUT, Call, Recording, Traced, TraceError, Value
from anyprop.compiled.units import Rectified, Summed, Unit, is_join, last_uses, units_of


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
        units = units_of(calls, results)
        last = last_uses(units, results)
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
        times = Counter(vector.base for unit in units if is_join(unit) for vector in unit.inputs)
        times.update(result.base for result in results)
        whole: dict[Value, Value] = {}  # what a vector is computed in
        # From the last, so that what is joined may be joined with others in turn.
        for unit in filter(is_join, reversed(units)):
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
        if is_join(unit):
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


def _pieces(unit: Call, whole: Any) -> list[tuple[Value, Any]]:
    """List the vectors that are joined, each with its place."""
    stops = np.cumsum([vector.size for vector in unit.inputs]).tolist()
    return [(v, whole[stop - v.size : stop]) for v, stop in zip(unit.inputs, stops, strict=True)]
