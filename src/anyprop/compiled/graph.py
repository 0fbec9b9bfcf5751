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
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
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
        _warn("it needs cuBLASLt, which pip installs with CuPy's extra \"ctk\"", stacklevel=5)
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
        reason = ""
        if key not in graphs:
            try:
                check_together(params, batch)
                empty = namespace(params.flat).empty
                places = [
                    leaf if leaf is None else empty(leaf.shape, dtype=leaf.dtype) for leaf in batch
                ]
                graphs[key] = Graph(self._step, params, state, places, noise)
            except TraceError as error:
                reason = str(error)
            except Exception as error:  # CuPy, CUDA and nvmath-python each raise their own
                reason = f"{type(error).__name__}: {error}"
        graph = graphs.get(key)
        if graph is not None:
            graph.fill(params, state)
            for place, leaf in zip(graph.batch, batch, strict=True):
                if place is not None:
                    place[...] = leaf
            return graph.params, graph.launch(state), graph.value.copy()
        # This raises what is wrong with a batch, if that was the reason.
        done = self._uncaptured(params, state, x, t, noise=noise, sample_weight=sample_weight)
        if reason:
            graphs[key] = None
            _warn(reason.rstrip("."), stacklevel=4)
        return done


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
        ``around(launches, value)`` gives what is captured: it calls `launches`, and may launch more
        before, which fills the batch, and after, which reads the value.

    Attributes
    ----------
    batch : list of array or None
        As given.
    value : array, shape ()
        Where it puts the loss.
    """

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        batch: list[Array | None],
        noise: Any,
        around: Callable[[Callable[[], None], Array], Callable[[], None]] | None = None,
    ) -> None:
        self.batch = batch
        self._opt, self._around = step.opt, around
        slots = {name: _owned(slot) for name, slot in state.slots.items()}
        mask = None if state.decay_mask is None else _owned(state.decay_mask)
        self._places = Places(_owned(params), slots, mask)
        self._given: list[tuple[Traced, Any]] = []  # what stands for an array, and the array

        xp = namespace(params.flat)
        names = ["lr", *self._opt.scalars(1, 1.0)]
        vector = xp.empty(len(names), dtype=params.flat.dtype)
        self._numbers = [vector[k, ...] for k in range(len(names))]
        numbers = [self._stand_in(number) for number in self._numbers]
        self._write_numbers = kernel_source([], [n.value for n in numbers]).kernel(
            "anyprop_numbers"
        )

        leaves = [None if leaf is None else self._stand_in(leaf) for leaf in batch]
        traced_slots = {name: self._traced(slot) for name, slot in slots.items()}
        before = OptimizerState(0, 1.0, traced_slots, None if mask is None else self._traced(mask))
        scalars = dict(zip(names[1:], numbers[1:], strict=True))
        traced = self._traced(self._places.params)
        self._capture(record_step(step, traced, before, leaves, noise, numbers[0], scalars))
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
            self.value = launches.outputs[0]
            work = launches if self._around is None else self._around(launches, self.value)
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
        self._graph.launch()
        return self._places.after(state)


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
