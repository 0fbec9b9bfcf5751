"""A step on CuPy as one CUDA graph: everything between the batch and the new parameters is one launch.

The step is recorded and turned into kernels on buffers of its own (`launches.py`). They are launched
once, so that all is compiled, and once more while the stream is capturing; parameters and state are put
back. `graph_step.py` fills in a batch for each step; with `graph_loop.py` the graph takes it by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
from anyprop.compiled.cuda_kernels import kernel_source
from anyprop.compiled.launches import Launches
from anyprop.compiled.program import Places, Program, leaves_of, listed, mapped, record
from anyprop.compiled.proof import Compared, difference
from anyprop.compiled.trace import Recording, Traced, TraceError
from anyprop.network import check_batch
from anyprop.optimizers.state import OptimizerState, beside
from anyprop.parameters import Parameters
from anyprop.step import Step

# Some releases of cuBLASLt choose no product while another thread is capturing.
_capturing = threading.RLock()

AT_ONCE = 16
"""How many steps are captured in one graph where many are done in a row."""

Around = Callable[[Callable[[], None], Array, Array], Callable[[], None]]


def refusals() -> tuple[type[Exception], ...]:
    """List what is raised if a step cannot be captured; all else is a mistake, and goes through."""
    compiler = importlib.import_module("cupy").cuda.compiler
    return TraceError, RuntimeError, MemoryError, compiler.CompileException


def reason_of(error: Exception) -> str:
    """Say why a step cannot be captured."""
    return str(error) if isinstance(error, TraceError) else f"{type(error).__name__}: {error}"


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
        around: Around | None = None,
    ) -> None:
        self.batch = batch
        self._optimizer = step.optimizer
        self._several: Any = None
        slots = {name: _owned(slot) for name, slot in state.slots.items()}
        mask = None if state.decay_mask is None else _owned(state.decay_mask)
        self._places = Places(_owned(params), slots, mask)
        self._given: list[tuple[Traced, Any]] = []  # what stands for an array, and the array

        xp = namespace(params.flat)
        names = ["lr", *step.optimizer.scalars(1, 1.0)]
        self.numbers = xp.empty(len(names), dtype=params.flat.dtype)
        self._numbers = [self.numbers[k, ...] for k in range(len(names))]
        numbers = [self._stand_in(number) for number in self._numbers]
        self._write_numbers = kernel_source([], [n.value for n in numbers]).kernel(
            "anyprop_numbers"
        )

        def compute(params: Any, slots: Any, mask: Any, numbers: Any, batch: Any) -> Any:
            # As `step.compute` does, and the gradient, with which the first step is compared.
            value, grads, running = step.gradient(params, **batch)
            params, slots = step.optimizer.apply(params, grads, slots, mask, numbers)
            return value, params.replace(running=running), slots, grads.flat

        leaves = [None if leaf is None else self._stand_in(leaf) for leaf in batch]
        x, t, sample_weight, *drawn = leaves
        given = step.batch(x, t, noise=_tree.rebuild(noise, drawn), sample_weight=sample_weight)
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
        written = [p.flat for p in (self._places.params, *self._places.slots.values())]
        written += [] if self._places.params.running is None else [self._places.params.running]
        self._stream = stream = cupy.cuda.Stream(non_blocking=True)
        # What a kernel of the graph uses while it runs must stay its own, so it comes from here.
        self._memory = cupy.cuda.MemoryPool()
        before = [array.copy() for array in written]
        cupy.cuda.get_current_stream().synchronize()
        with cupy.cuda.using_allocator(self._memory.malloc), stream:
            arguments = {traced.value: array for traced, array in self._given}
            launches = Launches(program.recording, program.outputs, targets, arguments, stream)
            weakref.finalize(self, launches.close).atexit = False
            self.value, self._gradient = launches.outputs[0], launches.outputs[-1]
            self._work = launches if around is None else around(launches, self.value, self.numbers)
            self._launches = launches  # whose buffers are the graph's
            try:
                self._work()
                self._graph = self._captured(1)
            finally:
                for array, values in zip(written, before, strict=True):
                    array[...] = values
                stream.synchronize()

    def _captured(self, steps: int) -> Any:
        """Make the graph of some steps."""
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
        """Copy in parameters and state, unless they lie there already."""
        self._places.fill(params, state)

    @property
    def nbytes(self) -> int:
        """How much memory it holds, in bytes."""
        vectors = (1 + len(self._places.slots)) * self.params.flat.nbytes
        return int(vectors + self._memory.total_bytes())

    def launch(self, state: OptimizerState) -> OptimizerState:
        """Do a step, on what was filled in; return the state that follows."""
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
        """Do steps for which what is captured with them puts the batch and the numbers there."""
        several, single = divmod(steps, AT_ONCE)
        for _ in range(several):
            self._several.launch()
        for _ in range(single):
            self._graph.launch()

    def copy_out(
        self, params: Parameters, state: OptimizerState, steps: int
    ) -> tuple[Parameters, OptimizerState]:
        """Copy what was updated to where the caller's own lie, which are donated.

        Parameters
        ----------
        params, state
            What was filled in.
        steps : int
            How many were done since.

        Returns
        -------
        params, state
            Those that follow, which no later step changes.
        """
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
        """Say how the last step differs from the eager one beyond rounding; "" if it does not.

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
        value, grads, running = step.gradient(
            params, x, t, noise=_tree.rebuild(noise, drawn), sample_weight=sample_weight
        )
        updated, after = step.optimizer.update(params, grads.replace(flat=self._gradient), state)
        compared = [
            Compared("loss", self.value, value),
            Compared("gradient", self._gradient, grads.flat),
            Compared("parameters", self.params.flat, updated.flat, params.flat),
        ]
        for name, slot in self._places.slots.items():
            compared.append(Compared(f'slot "{name}"', slot.flat, after.slots[name].flat))
        if self.params.running is not None:
            compared.append(Compared("running statistics", self.params.running, running))
        return difference(compared)


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what a reshaped view could not be made of."""
    return params if params.flat.flags.c_contiguous else params.copy()
