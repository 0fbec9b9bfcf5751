"""The step on CuPy as one CUDA graph: everything between the batch and the new parameters is one launch.

The first call with arrays of new shapes records the step and turns it into kernels on buffers of its own
(`launches.py`). They are launched once, so that all is compiled, and once more while the stream is
capturing; parameters and state are put back. From then on a call copies the batch into its buffers,
writes the numbers of the step into theirs, and launches the graph. Parameters and state are donated:
they are updated where they lie. `graph_loop.py` has the graph take the batch by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace, to_host
from anyprop.compiled import cublaslt
from anyprop.compiled.cuda_kernels import kernel_source
from anyprop.compiled.fused_update import FusedUpdateStep
from anyprop.compiled.launches import Launches
from anyprop.compiled.recorded_step import Places, RecordedStep, numbers_of_step, record_step
from anyprop.compiled.recording import Recording, Traced, TraceError
from anyprop.network import check_batch
from anyprop.optimizers.base import OptimizerState
from anyprop.parameters import Parameters, map_vectors
from anyprop.training.step import Step

# Some releases of cuBLASLt choose no product while another thread is capturing.
_capturing = threading.Lock()

Run = Callable[..., tuple[Parameters, OptimizerState, Array]]


def graph_step(step: Step) -> Run:
    """Make the compiled form of a step on CuPy arrays, with the means that are installed.

    Parameters
    ----------
    step : Step
        What to compile.

    Returns
    -------
    callable
        A `GraphStep`; a `FusedUpdateStep` where cuBLASLt is missing.

    Warns
    -----
    RuntimeWarning
        It is missing.
    """
    if not cublaslt.is_available():
        _warn('it needs cuBLASLt, which pip installs with CuPy\'s extra "ctk"', stacklevel=5)
        return FusedUpdateStep(step)
    return GraphStep(step)


class GraphStep:
    """A step on CuPy arrays, captured anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to capture.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._uncaptured = FusedUpdateStep(step)
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Parameters, OptimizerState, Array]:
        graphs: dict[Any, Graph | None] = self._of_thread.__dict__
        batch = [x, t, sample_weight, *_tree.leaves(noise)]
        key = (params.layout, params.flat.dtype, *map(kind_of, batch))
        reason, before = "", None
        if key not in graphs:
            try:
                check_together(params, batch)
            except (TypeError, ValueError):  # the eager step says it in its own words
                return self._uncaptured(
                    params, state, x, t, noise=noise, sample_weight=sample_weight
                )
            try:
                empty = namespace(params.flat).empty
                places = [
                    leaf if leaf is None else empty(leaf.shape, dtype=leaf.dtype) for leaf in batch
                ]
                before = params.copy(), state.copy()
                graphs[key] = Graph(self._step, params, state, places, noise)
            except refusals() as error:
                reason = reason_of(error)
        graph = graphs.get(key)
        if graph is not None:
            graph.fill(params, state)
            for place, leaf in zip(graph.batch, batch, strict=True):
                if place is not None:
                    place[...] = leaf
            done = graph.params, graph.launch(state), graph.value.copy()
            reason = "" if before is None else graph.difference(self._step, *before, batch, noise)
            if before is None or not reason:
                return done
            params, state = before
        # This raises what is wrong with a batch, if that was the reason.
        done = self._uncaptured(params, state, x, t, noise=noise, sample_weight=sample_weight)
        if reason:
            graphs[key] = None
            _warn(reason.rstrip("."), stacklevel=4)
        return done


def refusals() -> tuple[type[Exception], ...]:
    """List what is raised if a step cannot be captured; all else is a mistake, and goes through."""
    compiler = importlib.import_module("cupy").cuda.compiler
    return TraceError, RuntimeError, MemoryError, compiler.CompileException


def reason_of(error: Exception) -> str:
    """Say why a step cannot be captured."""
    return str(error) if isinstance(error, TraceError) else f"{type(error).__name__}: {error}"


def _warn(reason: str, stacklevel: int) -> None:
    text = f"the step runs without a CUDA graph: {reason}."
    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)


def kind_of(leaf: Array | None) -> Any:
    """Give what a graph depends on of an array."""
    if leaf is None:
        return None
    return type(leaf), leaf.shape, leaf.dtype, getattr(leaf.data, "device_id", None)


def check_together(params: Parameters, batch: list[Array | None]) -> None:
    """Raise unless parameters and batch fit together: x, t, and arrays or None."""
    for leaf in batch:
        if leaf is not None:
            namespace(params.flat, leaf)
    check_batch(params, batch[0], batch[1])


class Graph:
    """The graph of one set of shapes, and the arrays that it reads and updates.

    Parameters
    ----------
    step : Step
        What to capture.
    params : Parameters
        Donated.
    state : OptimizerState
        Donated.
    batch : list of array or None
        Where x, t, sample_weight, and the leaves of the noise will lie.
    noise : tree
        The structure of the noise; None is a leaf.
    around : callable, optional
        ``around(launches, value, numbers)`` gives what is captured: it calls `launches`, and may
        launch more before, which fills the batch and the numbers, and after, which reads the value.

    Attributes
    ----------
    batch : list of array or None
        As given.
    value : array, shape ()
        Where it puts the loss.
    numbers : array, shape (K,)
        Where it finds the learning rate and the scalars of the rule.
    """

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        batch: list[Array | None],
        noise: Any,
        around: Callable[[Callable[[], None], Array, Array], Callable[[], None]] | None = None,
    ) -> None:
        self.batch = batch
        self._opt, self._around = step.opt, around
        slots = {name: _owned(slot) for name, slot in state.slots.items()}
        mask = None if state.decay_mask is None else _owned(state.decay_mask)
        self._places = Places(_owned(params), slots, mask)
        self._given: list[tuple[Traced, Any]] = []  # what stands for an array, and the array

        xp = namespace(params.flat)
        names = ["lr", *self._opt.scalars(1, 1.0)]
        self.numbers = xp.empty(len(names), dtype=params.flat.dtype)
        self._numbers = [self.numbers[k, ...] for k in range(len(names))]
        numbers = [self._stand_in(number) for number in self._numbers]
        self._write_numbers = kernel_source([], [n.value for n in numbers]).kernel(
            "anyprop_numbers"
        )

        leaves = [None if leaf is None else self._stand_in(leaf) for leaf in batch]
        traced_slots = {name: self._traced(slot) for name, slot in slots.items()}
        before = OptimizerState(0, 1.0, traced_slots, None if mask is None else self._traced(mask))
        scalars = dict(zip(names[1:], numbers[1:], strict=True))
        traced = self._traced(self._places.params)
        kept: list[Traced] = []

        def gradient(*args: Any, **options: Any) -> tuple[Traced, Parameters]:
            value, grads = step.gradient(*args, **options)
            kept.append(grads.flat)
            return value, grads

        watched = replace(step, gradient=gradient)
        with _capturing:
            recorded = record_step(watched, traced, before, leaves, noise, numbers[0], scalars)
            made = {call.output for call in recorded.recording.calls}
            # A step may be recorded more than once.
            grads = next(flat for flat in kept if flat.value.base in made)
            outputs, targets = [*recorded.outputs, grads], [*recorded.targets, None]
            self._capture(RecordedStep(recorded.recording, outputs, targets))
        self._given.clear()

    def _stand_in(self, array: Any) -> Traced:
        traced = Recording.given(np.zeros(array.shape, dtype_name(array)))
        self._given.append((traced, array))
        return traced

    def _traced(self, params: Parameters) -> Parameters:
        return map_vectors(params, self._stand_in)

    def _capture(self, recorded: RecordedStep) -> None:
        """Turn the recording into a graph; parameters and state are the same afterwards."""
        cupy = importlib.import_module("cupy")
        written = [p.flat for p in (self._places.params, *self._places.slots.values())]
        written += [] if self._places.params.running is None else [self._places.params.running]
        stream = cupy.cuda.Stream(non_blocking=True)
        # What a kernel of the graph uses while it runs must stay its own, so it comes from here.
        self._memory = cupy.cuda.MemoryPool()
        before = [array.copy() for array in written]
        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.using_allocator(self._memory.malloc), stream:
            arguments = {traced.value: array for traced, array in self._given}
            self._launches = launches = Launches(*recorded, arguments, stream)
            weakref.finalize(self, launches.close).atexit = False
            self.value, self._gradient = launches.outputs[0], launches.outputs[-1]
            work: Callable[[], None] = launches
            if self._around is not None:
                work = self._around(launches, self.value, self.numbers)
            try:
                work()
                self._graph = _captured(stream, work)
            finally:
                for array, values in zip(written, before, strict=True):
                    array[...] = values
                stream.synchronize()

    @property
    def params(self) -> Parameters:
        """The parameters that it updates."""
        return self._places.params

    def fill(self, params: Parameters, state: OptimizerState) -> None:
        """Copy in parameters and state, unless they lie there already."""
        self._places.fill(params, state)

    def launch(self, state: OptimizerState) -> OptimizerState:
        """Do a step, on what was filled in; give the state that follows."""
        lr = self._opt.learning_rate(state)
        numbers = numbers_of_step(self._opt, state, lr, self.params.flat.dtype)
        self._write_numbers(*numbers, *self._numbers)
        return self.launch_with_numbers(state)

    def launch_with_numbers(self, state: OptimizerState) -> OptimizerState:
        """Do a step whose numbers are there, or put there by what is captured with it."""
        self._graph.launch()
        return self._places.after(state)

    def difference(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        batch: list[Array | None],
        noise: Any,
    ) -> str:
        """Say how the last launch differs from the eager step beyond rounding; "" if it does not.

        The loss and the gradient are compared with the eager ones, and what was updated with what the
        eager rule makes of the graph's gradient: a rule such as Adam's turns the sign of a gradient
        that is nothing but rounding into a whole update.

        Parameters
        ----------
        step : Step
            What the graph was made of.
        params, state, batch, noise
            What the launch began with.

        Returns
        -------
        str
        """
        x, t, sample_weight, *drawn = batch
        value, grads = step.gradient(
            params, x, t, noise=_tree.rebuild(noise, drawn), sample_weight=sample_weight
        )
        ours = grads.replace(flat=self._gradient)
        updated, after = step.opt.update(params, ours, state)
        pairs = {
            "loss": (self.value, value, None),
            "gradient": (self._gradient, grads.flat, None),
            "parameters": (self.params.flat, updated.flat, params.flat),
        }
        for name, slot in self._places.slots.items():
            pairs[f'slot "{name}"'] = (slot.flat, after.slots[name].flat, None)
        if self.params.running is not None:
            pairs["running statistics"] = (self.params.running, grads.running, None)
        xp = namespace(params.flat)
        lengths = [
            length
            for a, b, start in pairs.values()
            for length in (_length(xp, a - b), _length(xp, b if start is None else b - start))
        ]
        sizes = [_length(xp, b) for _, b, _ in pairs.values()]
        found = to_host(xp.stack([*lengths, *sizes])).tolist()
        eps = float(np.finfo(dtype_name(params.flat)).eps)
        for i, what in enumerate(pairs):
            apart, change, size = found[2 * i], found[2 * i + 1], found[2 * len(pairs) + i]
            # Where the eager step is not finite there is nothing to compare.
            if math.isfinite(size) and not apart <= 10 * eps**0.5 * change + 8 * eps * size:
                far = f"{apart:.1e}, where the eager one is {size:.1e}"
                return f"the {what} of its first step is off by {far}"
        return ""


def _length(xp: Any, x: Array) -> Array:
    """Compute the Euclidean norm of all numbers; they are scaled, so that no square overflows."""
    largest = xp.max(xp.abs(x))
    scale = xp.where(largest > 0.0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(xp.sum(xp.square(x / scale)))


def _captured(stream: Any, launches: Callable[[], None]) -> Any:
    """Make the graph of what is launched on a stream."""
    stream.begin_capture()
    try:
        launches()
    except BaseException:
        # A capture that failed cannot be ended without an error.
        with contextlib.suppress(Exception):
            stream.end_capture()
        raise
    return stream.end_capture()


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what a reshaped view could not be made of."""
    return params if params.flat.flags.c_contiguous else params.copy()
