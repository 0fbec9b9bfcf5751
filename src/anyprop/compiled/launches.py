"""A recording as kernels on CuPy arrays, each bound to its buffers: calling them repeats it.

Elementwise calls that follow each other are one kernel (`cuda_kernels.py`), a product goes to cuBLASLt
through nvmath-python, since CuPy's own way to cuBLAS refuses to be captured, and sums and maxima are
CuPy's. Buffers are C-contiguous; one is used again once nothing reads it any more.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop.compiled.cuda_kernels import KernelSource, can_be_written, fits, kernel_source
from anyprop.compiled.fusion import grouped
from anyprop.compiled.recording import OUT, Call, Recording, Traced, TraceError, Value
from anyprop.compiled.traced import join

# Bytes that a product may use besides; by default nvmath-python would let it have most of the GPU.
WORKSPACE = 32 * 2**20


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
        self._stream = stream
        self._arrays = dict(arguments)
        self._free: dict[tuple[int, str], list[Any]] = {}
        self._launches: list[Callable[[], Any]] = []
        self._products: list[Any] = []
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

    def after_capture(self) -> None:
        """Do the products once more, outside of the capture: their events are waited for in the end."""
        for product in self._products:
            product.execute(stream=self._stream)

    def close(self) -> None:
        """Give back what the products hold."""
        for product in self._products:
            product.free()

    def _take_targets(
        self,
        units: list[Call | KernelSource],
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

    def _bind(self, unit: Call | KernelSource, places: list[Any]) -> None:
        if isinstance(unit, KernelSource):
            given = [self._array(value) for value in unit.inputs]
            self._launches.append(partial(unit.kernel("anyprop_fused"), *given, *places))
            return
        (out,) = places
        if unit.function is join:
            start = 0
            for vector in unit.inputs:
                stop = start + vector.shape[0]
                self._copy(vector, out[start:stop])
                start = stop
            return
        given = [self._array(x) if isinstance(x, Value) else x for x in unit.arguments]
        if unit.function is np.matmul:
            self._bind_product(given[0], given[1], out)
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

    def _bind_product(self, a: Any, b: Any, out: Any) -> None:
        if a.ndim != 2 or b.ndim != 2:
            raise TraceError("it multiplies what are no matrices")
        advanced = importlib.import_module("nvmath.linalg.advanced")
        # In place of a third matrix that counts 0 times, so that the result lies where it shall.
        options = {"inplace": True, "memory_limit": WORKSPACE}
        product = advanced.Matmul(a, b, out, beta=0.0, options=options, stream=self._stream)
        self._products.append(product)
        product.plan(stream=self._stream)
        self._launches.append(partial(product.execute, stream=self._stream))

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


def _units(calls: list[Call], results: list[Value]) -> list[Call | KernelSource]:
    """Put elementwise calls into kernels; those whose results nobody reads are left out."""
    found = grouped(calls, results, can_be_written, fits, kernel_source)
    return [
        kernel_source([unit], [unit.output])
        if isinstance(unit, Call) and can_be_written(unit)
        else unit
        for unit in found
        if unit.outputs
    ]


def _last_uses(units: list[Call | KernelSource], results: list[Value]) -> dict[Value, float]:
    """Tell after which unit nothing reads a value's memory any more."""
    last: dict[Value, float] = {}
    for i, unit in enumerate(units):
        last |= {value.base: i for value in (*unit.inputs, *unit.outputs)}
    return last | {result.base: np.inf for result in results}
