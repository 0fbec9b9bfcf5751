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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
from anyprop.compiled.cuda_dialect import CUDA, ordered, units_of, written
from anyprop.compiled.cuda_products import Products
from anyprop.compiled.kernels import Kernel, product_of
from anyprop.compiled.memory import Binding
from anyprop.compiled.namespace import join
from anyprop.compiled.program import Places, Program, leaves_of, listed, mapped, record
from anyprop.compiled.trace import OUT, Call, Recording, Traced, Value
from anyprop.optimizers.state import OptimizerState, beside
from anyprop.parameters import Parameters
from anyprop.repeatable.first_step import difference
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step

# Some releases of cuBLASLt choose no product while another thread is capturing.
_capturing = threading.RLock()
# CuPy's names of NumPy's reductions.
_REDUCTIONS = {np.add.reduce: "sum", np.maximum.reduce: "amax"}

AT_ONCE = 16
"""Number of steps captured in one graph where many are done in a row."""

Around = Callable[[Callable[[], None], Array, Array], Callable[[], None]]


class Launches(Binding):
    """Repeats a recording, in which every number is an array of shape (), launch by launch.

    For each output, from the first, `targets` has the argument in whose memory it should end up, if any.
    `arguments` says where the arguments are; other arrays of the recording are constants. The launches
    are made on `stream`, which is the current one. A call without a form for CuPy raises TraceError.
    """

    def __init__(
        self,
        recording: Recording,
        outputs: Sequence[Traced],
        targets: Sequence[Traced | None],
        arguments: Mapping[Value, Any],
        stream: Any,
    ) -> None:
        super().__init__(CUDA, arguments)
        self._cupy = importlib.import_module("cupy")
        self._launches: list[Callable[[], Any]] = []
        self._products = Products(stream)
        self.close = self._products.close
        try:
            results = [output.value for output in outputs]
            # Joins are placed before calls are grouped: they would split kernels that can be one.
            calls = ordered(recording.calls, results)
            if any(0 in value.shape for call in calls for value in (*call.inputs, call.output)):
                raise TraceError("it has an array without numbers")
            calls = self.place_joined(calls)
            units = units_of(calls, results, self.wholes)
            wanted = [None if target is None else target.value for target in targets]
            self.outputs = self.bind_all(units, results, wanted)
        except BaseException:
            self.close()
            raise

    def __call__(self) -> None:
        """Launch all of it."""
        for launch in self._launches:
            launch()

    def bind(self, unit: Call | Kernel, places: list[Any]) -> None:
        """Append what computes a unit."""
        if isinstance(unit, Kernel):
            self._bind_kernel(unit, places)
        elif unit.function is join:
            self.copy_pieces(unit)
        else:
            self._bind_call(unit, *places)

    def _bind_kernel(self, unit: Kernel, places: list[Any]) -> None:
        product = product_of(unit)
        if product is None:
            given = map(self.place, unit.inputs)
            self._launches.append(partial(written(unit).launch(), *given, *places))
            return
        a, b = map(self.place, product.inputs)
        bias = [self.place(value) for value in unit.inputs if value not in product.inputs]
        with_it = self._products.rectified if bias else self._products.summed
        launch = with_it(a, b, *bias, *places)
        if launch is not None:
            self._launches.append(launch)
            return
        # cuBLASLt cannot do both at once here; the rest then works in the place of the product.
        self._bind_call(product, places[0])
        if bias:
            self._places[product.output] = places[0]
            self._bind_kernel(Kernel(unit.calls[1:], unit.outputs), places)
        else:
            self._bind_call(unit.calls[1], places[1])

    def _bind_call(self, call: Call, out: Any) -> None:
        given = [self.place(x) if isinstance(x, Value) else x for x in call.arguments]
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
    """The graph of one set of shapes, and the arrays that it reads and updates.

    Parameters
    ----------
    step : Step
        What to capture.
    params, state
        Donated.
    batch : list of array or None
        Where x, t, sample_weight, and the leaves of the noise will be.
    noise : tree
        The structure of the noise; None is a leaf.
    around : callable, optional
        ``around(launches, value, numbers)`` returns what is captured: it calls `launches`, and may
        launch more before, which fills the batch and the numbers, and after, which reads the value.
        The loss is in `value`; in `numbers` are the learning rate and the scalars of the rule.
    """

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        batch: list[Array | None],
        noise: Any,
        around: Around | None = None,
    ) -> None:
        self.batch = batch
        self._optimizer = step.optimizer
        self._several: Any = None
        slots = {name: _owned(slot) for name, slot in state.slots.items()}
        mask = None if state.decay_mask is None else _owned(state.decay_mask)
        self._places = Places(_owned(params), slots, mask)
        # Stand-ins of NumPy, of the same shapes: to record takes no GPU.
        self._given: list[tuple[Traced, Any]] = []  # what replaces an array, and the array

        names = ["lr", *step.optimizer.scalars(1, 1.0)]
        self.numbers = namespace(params.flat).empty(len(names), dtype=params.flat.dtype)
        # A graph would freeze Python numbers, so it reads them from memory.
        self._numbers = [self.numbers[k, ...] for k in range(len(names))]
        numbers = [self._stand_in(number) for number in self._numbers]
        fill = Kernel([], [number.value for number in numbers])
        self._write_numbers = written(fill, "anyprop_numbers").launch()

        def compute(params: Any, slots: Any, mask: Any, numbers: Any, batch: Any) -> Any:
            # As `step.compute` does, and the gradient, with which the first step is compared.
            value, grads, running = step.gradient(params, **batch)
            params, slots = step.optimizer.apply(params, grads, slots, mask, numbers)
            return value, params.replace(running=running), slots, grads.flat

        leaves = [None if leaf is None else self._stand_in(leaf) for leaf in batch]
        given = _named(step, leaves, noise)
        held = mapped(self._stand_in, tuple(self._places))
        scalars = dict(zip(names[1:], numbers[1:], strict=True))
        with _capturing:
            program = record(compute, (*held, (numbers[0], scalars), given), step)
            self._prepare(program, [None, *leaves_of(held[:2]), None], around)
        self._given.clear()

    def _stand_in(self, array: Any) -> Traced:
        traced = Recording.given(np.zeros(array.shape, dtype_name(array)))
        self._given.append((traced, array))
        return traced

    def _prepare(
        self, program: Program, targets: list[Traced | None], around: Around | None
    ) -> None:
        """Turn the recording into a graph; parameters and state are the same afterwards."""
        cupy = importlib.import_module("cupy")
        written_to = [p.flat for p in (self.params, *self._places.slots.values())]
        written_to += [] if self.params.running is None else [self.params.running]
        # The null stream cannot be captured, and one that waits for it would be broken off by others.
        self._stream = stream = cupy.cuda.Stream(non_blocking=True)
        # What a kernel of the graph uses while it runs must stay its own, so it comes from here.
        self._memory = cupy.cuda.MemoryPool()
        before = [array.copy() for array in written_to]
        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.using_allocator(self._memory.malloc), stream:
            arguments = {traced.value: array for traced, array in self._given}
            launches = Launches(program.recording, program.outputs, targets, arguments, stream)
            weakref.finalize(self, launches.close).atexit = False
            self.value, self._gradient = launches.outputs[0], launches.outputs[-1]
            self._work = launches if around is None else around(launches, self.value, self.numbers)
            self._launches = launches  # whose buffers are the graph's
            try:
                # First without a capture, in which CuPy can neither compile nor allocate.
                self._work()
                self._graph = self._captured(1)
            finally:
                for array, values in zip(written_to, before, strict=True):
                    array[...] = values
                stream.synchronize()

    def _captured(self, steps: int) -> Any:
        """Capture the graph of some steps."""
        cupy, stream = importlib.import_module("cupy"), self._stream
        with _capturing, cupy.cuda.using_allocator(self._memory.malloc), stream:
            stream.begin_capture()
            try:
                for _ in range(steps):
                    self._work()
            except BaseException:
                # A capture that failed cannot be ended without an error.
                with contextlib.suppress(Exception):
                    stream.end_capture()
                raise
            return stream.end_capture()

    @property
    def params(self) -> Parameters:
        """The parameters that it updates."""
        return self._places.params

    def fill(self, params: Parameters, state: OptimizerState) -> None:
        """Copy in parameters and state, unless they are there already."""
        self._places.fill(params, state)

    @property
    def nbytes(self) -> int:
        """Memory that it holds, in bytes."""
        vectors = (1 + len(self._places.slots)) * self.params.flat.nbytes
        return int(vectors + self._memory.total_bytes())

    def launch(self, state: OptimizerState) -> OptimizerState:
        """Run a step, on what was filled in; return the state that follows."""
        numbers = listed(self._optimizer.numbers(state))
        given = [beside(self.params.flat, number, "lr") for number in numbers]
        self._write_numbers(*given, *self._numbers)
        self._graph.launch()
        return self._places.after(state)

    def make_ready(self, steps: int) -> None:
        """Capture several steps in one graph, if so many will be launched."""
        if steps >= AT_ONCE and self._several is None:
            self._several = self._captured(AT_ONCE)

    def launch_many(self, steps: int) -> None:
        """Run steps whose batch and numbers are put in place by what is captured with them."""
        several, single = divmod(steps, AT_ONCE)
        for _ in range(several):
            self._several.launch()
        for _ in range(single):
            self._graph.launch()

    def copy_out(
        self, params: Parameters, state: OptimizerState, steps: int
    ) -> tuple[Parameters, OptimizerState]:
        """Return what follows from `params` and `state`, in their memory."""
        # The graph goes on writing into its own buffers, whose numbers the caller must not see change.
        slots = {name: _owned(slot) for name, slot in state.slots.items()}
        places = Places(_owned(params), slots, state.decay_mask)
        places.fill(self.params, state._replace(slots=self._places.slots))
        return places.params, state._replace(step=state.step + steps, slots=slots)

    def difference(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        batch: list[Array | None],
        noise: Any,
    ) -> str:
        """Return how the last step differs from the eager one beyond rounding; "" if it does not.

        All but `step` is what the launch began with.
        """
        found = self.value, self._gradient, self.params, self._places.slots
        return difference(step, params, state, _named(step, batch, noise), found)


def _named(step: Step, leaves: Sequence[Any], noise: Any) -> dict[str, Any]:
    """Put the leaves of a batch under the names by which a step takes them."""
    x, t, sample_weight, *drawn = leaves
    return step.batch(x, t, noise=_tree.rebuild(noise, drawn), sample_weight=sample_weight)


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what a reshaped view could not be made of."""
    return params if params.flat.flags.c_contiguous else params.copy()
