"""A step on CuPy as one CUDA graph: everything between the batch and the new parameters is one launch.

The recorded step becomes kernels and products, bound to buffers of its own. They are launched once, so
that all is compiled, and once more while the stream is capturing; parameters and state are put back.
`on_cupy.py` fills in a batch for each step, or has the graph take its batches by itself.

The file is long because what is launched and what is captured have to be seen together: a graph keeps
addresses, so each buffer that a launch names must belong to the graph that was captured with it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import dtype_name
from anyprop.compiled.cuda_dialect import CUDA, ordered, units_of, written
from anyprop.compiled.cuda_products import Products
from anyprop.compiled.kernels import Kernel, product_of
from anyprop.compiled.memory import Binding
from anyprop.compiled.program import Places, Program, leaves_of, mapped, named, record, values_of
from anyprop.compiled.trace import OUT, Call, Recording, Traced, Value
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.first_step import difference
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step

# Some releases of cuBLASLt choose no product while another thread is capturing.
_capturing = threading.RLock()
# CuPy's names of NumPy's reductions.
_REDUCTIONS = {np.add.reduce: "sum", np.maximum.reduce: "amax"}

Launch = Callable[[], Any]


class Launches(Binding):
    """Repeats a program, in which every number is an array of shape (), launch by launch.

    The arguments are in `places`; other given arrays are constants. The launches are made on `stream`,
    which is the current one. A call without a form for CuPy raises TraceError.
    """

    def __init__(self, program: Program, places: Sequence[Any], stream: Any) -> None:
        super().__init__(CUDA, dict(zip(program.arguments, places, strict=True)))
        self._cupy = importlib.import_module("cupy")
        self._launches: list[Launch] = []
        self._products = Products(stream)
        self.close = self._products.close
        try:
            # Joins are placed before calls are grouped: they would split kernels that can be one.
            results = program.results
            calls = ordered(program.calls, results)
            if any(0 in value.shape for call in calls for value in (*call.inputs, call.output)):
                raise TraceError("it has an array without numbers")
            calls = self.place_joined(calls)
            units = units_of(calls, results, self.wholes)
            self.outputs = self.bind_all(units, results, program.targets)
        except BaseException:
            self.close()
            raise

    def __call__(self) -> None:
        """Launch all of it."""
        for launch in self._launches:
            launch()

    def bind_kernel(self, kernel: Kernel, places: list[Any]) -> None:
        """Append what computes a kernel."""
        product = product_of(kernel)
        if product is None:
            given = map(self.place, kernel.inputs)
            self._launches.append(partial(written(kernel).launch(), *given, *places))
            return
        a, b = map(self.place, product.inputs)
        bias = [self.place(value) for value in kernel.inputs if value not in product.inputs]
        with_it = self._products.rectified if bias else self._products.summed
        launch = with_it(a, b, *bias, *places)
        if launch is not None:
            self._launches.append(launch)
            return
        # cuBLASLt cannot do both at once here; the rest then works in the place of the product.
        self.bind_call(product, places[0])
        if bias:
            self._places[product.output] = places[0]
            self.bind_kernel(Kernel(kernel.calls[1:], kernel.outputs), places)
        else:
            self.bind_call(kernel.calls[1], places[1])

    def bind_call(self, call: Call, out: Any) -> None:
        """Append a product, or what CuPy itself launches."""
        given = self.arguments(call)
        if call.function is np.matmul:
            if given[0].ndim != 2 or given[1].ndim != 2:
                raise TraceError("it multiplies what are not matrices")
            self._launches.append(self._products.plain(given[0], given[1], out))
        elif (name := _REDUCTIONS.get(call.function)) is not None:
            x, axis, dtype, _, keepdims = given
            options = {"axis": axis, "out": out, "keepdims": keepdims}
            options |= {"dtype": dtype} if name == "sum" else {}
            self._launches.append(partial(getattr(self._cupy, name), x, **options))
        elif isinstance(call.function, np.ufunc):
            ufunc = getattr(self._cupy, call.function.__name__)
            self._launches.append(partial(ufunc, *(x for x in given if x is not OUT), out=out))
        else:
            raise TraceError(f"it uses {call.function.__name__}, which has no form for CuPy")

    def copy(self, value: Value, place: Any) -> None:
        """Append a kernel that copies."""
        kernel = written(Kernel([], [value]), "anyprop_copy").launch()
        self._launches.append(partial(kernel, self.place(value), place))

    def constant(self, value: Value) -> Any:
        """Return a copy on the device."""
        return self._cupy.asarray(value.data)

    def view(self, value: Value, place: Any) -> Any:
        """Return a view, or refuse where a copy would be needed, which no graph would renew."""
        assert value.view is not None
        array = value.view(place)
        if not self._cupy.may_share_memory(array, place):
            raise TraceError("it uses a view that would be a copy in CuPy")
        return array

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new array."""
        return self._cupy.empty(shape, dtype)


class Graph:
    """A step on arrays of one set of shapes, and the arrays that it reads and updates.

    What is launched before and after a step, a subclass adds when it captures.

    Parameters
    ----------
    step : Step
        What to capture.
    params, state
        Donated.
    batch : dict
        Where the batch will be, under the names by which a step takes it.
    """

    def __init__(
        self, step: Step, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> None:
        cupy = importlib.import_module("cupy")
        self._step, self.places = step, Places.of(params, state)
        # A graph would freeze Python numbers, so it reads them from memory.
        count = 1 + len(step.optimizer.scalars(1, 1.0))
        self.numbers = cupy.empty(count, params.flat.dtype)
        self._each_number = [self.numbers[k, ...] for k in range(count)]
        # The null stream cannot be captured, and one that waits for it would be broken off by others.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        # What a kernel of the graph uses while it runs must stay its own, so it comes from here.
        self._memory = cupy.cuda.MemoryPool()

        def compute(params: Any, slots: Any, mask: Any, numbers: Any, batch: Any) -> Any:
            # As `step.compute` does, and the gradient, with which the first step is compared.
            value, grads, running = step.gradient(params, **batch)
            params, slots = step.optimizer.apply(params, grads, slots, mask, numbers)
            return value, params.replace(running=running), slots, grads.flat

        arrays = (*self.places, named(self._each_number, step.optimizer), batch)
        given = mapped(stand_in, arrays)
        calls, results = record(compute, given, step)
        targets = [None, *values_of(given[:2]), None]
        program = Program(calls, values_of(results), targets, values_of(given))
        with self._alone():
            self._launches = Launches(program, leaves_of(arrays), self._stream)
        weakref.finalize(self, self._launches.close).atexit = False
        self.value, self._gradient = self._launches.outputs[0], self._launches.outputs[-1]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Work on the stream and in the memory of the graph, while no other thread captures."""
        using = importlib.import_module("cupy").cuda.using_allocator
        with _capturing, using(self._memory.malloc), self._stream:
            yield

    def capture(self, before: Sequence[Launch] = (), after: Sequence[Launch] = ()) -> None:
        """Capture a step and what is launched around it; parameters and state stay as they are."""
        self._work: list[Launch] = [*before, self._launches, *after]
        written_to = leaves_of(self.places[:2])
        kept = [array.copy() for array in written_to]
        importlib.import_module("cupy").cuda.get_current_stream().synchronize()
        with self._alone():
            try:
                # First without a capture, in which CuPy can neither compile nor allocate.
                self._run()
                self._graph = self.captured(1)
            finally:
                for array, numbers in zip(written_to, kept, strict=True):
                    array[...] = numbers
                self._stream.synchronize()

    def captured(self, steps: int) -> Any:
        """Capture the graph of some steps."""
        with self._alone():
            self._stream.begin_capture()
            try:
                for _ in range(steps):
                    self._run()
            except BaseException:
                # A capture that failed cannot be ended without an error.
                with contextlib.suppress(Exception):
                    self._stream.end_capture()
                raise
            return self._stream.end_capture()

    def _run(self) -> None:
        for launch in self._work:
            launch()

    def difference(
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> str:
        """Return how the last step, which began with these, differs from the eager one.

        That is "" if it does not beyond rounding.
        """
        found = self.value, self._gradient, self.places.params, self.places.slots
        return difference(self._step, params, state, batch, found)


def stand_in(array: Any) -> Traced:
    """Return a stand-in of NumPy, of the same shape: to record takes no GPU."""
    return Recording.given(np.zeros(array.shape, dtype_name(array)))
