"""Arrays, streams and graphs of a GPU, on the host: what is done is written down, and done.

While a stream is capturing nothing is done, and a graph does it when launched. What is copied in a
stream is done as late as its events allow, so that what does not wait for it does without.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import get_namespace


class Gpu:
    """What is done, and the calls that a capture has collected so far."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.capturing: list[Any] | None = None
        self.captures_in: int | None = None  # a thread
        self.made: list[Any] = []  # kernels
        self.products: Any = None  # the stand-in for cuBLASLt
        self.stream, self.allocator = "the user's", "the user's"
        self.epilogue = "keeps NaN"  # or "drops NaN", "no sums", or "refused"
        self.spoiled = ""  # what kind of product comes out wrong
        self.refuse: Exception | None = None  # what the next launch in a capture raises
        self.arrays_on = self.current = 0  # the GPU of the arrays, and the one that computes
        self.before: list[int] = []
        self.computing: Any = ComputingStream()


def note(what: str) -> None:
    assert state.gpu.current == state.gpu.arrays_on, f"{what} on another device than its arrays'"
    state.gpu.log.append(what)


def enqueue(call: Any) -> None:
    if state.gpu.capturing is None:
        call()
        return
    if state.gpu.refuse is not None:
        raise state.gpu.refuse
    state.gpu.capturing.append(call)


class Array(np.ndarray):
    """What `cupy.ndarray` is to a compiled step: reading it waits, and a capture allows neither."""

    def __setitem__(self, key: Any, value: Any) -> None:
        assert isinstance(value, Array), "only arrays of the device are copied into such"
        note("copy")
        enqueue(lambda: self.view(np.ndarray).__setitem__(key, value.view(np.ndarray)))

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.ctypes.data, device_id=state.gpu.arrays_on)

    @property
    def device(self) -> Device:
        return Device(state.gpu.arrays_on)

    def copy(self, order: str = "C") -> Array:
        note("allocate")
        assert state.gpu.capturing is None
        return self.view(np.ndarray).copy(order).view(Array)

    def all(self) -> Array:
        return np.asarray(self.view(np.ndarray).all()).view(Array)

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> Any:
        note("read" if out is None else "get")
        assert state.gpu.capturing is None
        assert blocking
        found = np.empty(self.shape, self.dtype) if out is None else out
        np.copyto(found, self.view(np.ndarray))
        return found

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        note("set")
        assert (arr.dtype, arr.shape) == (self.dtype, self.shape)
        copy = partial(np.copyto, self.view(np.ndarray), arr)
        if stream is None:
            copy()
            return
        assert isinstance(arr, Pinned), "a copy from other memory would be waited for"
        stream.does(copy)

    def _read(self, *args: Any) -> Any:
        raise AssertionError("a number is read to the host")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = _read


class Device:
    """A GPU, and the context in which it is the current one."""

    def __init__(self, device: int) -> None:
        self.id, self.pci_bus_id = device, f"0000:{device:02}:00.0"

    def use(self) -> None:
        state.gpu.log.append(("use", self.id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]

    def __enter__(self) -> Device:
        state.gpu.before.append(state.gpu.current)
        state.gpu.current = self.id
        return self

    def __exit__(self, *exception: object) -> None:
        state.gpu.current = state.gpu.before.pop()


def put(array: Any) -> Any:
    """Move an array onto the device; None passes through."""
    if array is None:
        return None
    there = allocated(np.shape(array), np.asarray(array).dtype)
    there.view(np.ndarray)[...] = array
    return there


def put_params(params: Any) -> Any:
    """Move parameters, or what is laid out like them, onto the device."""
    return params.replace(flat=put(params.flat), running=put(params.running))


def put_state(state: Any) -> Any:
    """Move the state of an optimizer onto the device."""
    slots = {name: put_params(slot) for name, slot in state.slots.items()}
    mask = None if state.decay_mask is None else put_params(state.decay_mask)
    return state._replace(slots=slots, decay_mask=mask)


class Pinned(np.ndarray):
    """Memory of the host from which a GPU copies by itself."""


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Pinned:
    memory = np.empty(shape, dtype, order).view(Pinned)
    memory.view(np.ndarray).fill(np.nan if memory.dtype.kind == "f" else 1)
    return memory


_one_at_a_time = threading.RLock()


class _Line:
    """What was asked of a stream."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], object]] = []
        self.done = 0

    def do(self, until: int) -> None:
        with _one_at_a_time:
            while self.done < until:
                self.done += 1
                self.asked[self.done - 1]()


class Event:
    """An event; one that was never recorded has come."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self._after = _Line(), 0

    def synchronize(self) -> None:
        note("wait")
        line, count = self._after
        line.do(count)


class Stream:
    """A stream; one capture at a time."""

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.ptr = id(self)
        self._line = _Line()

    def does(self, what: Callable[[], object]) -> None:
        """Do something after all that was asked for before, and as late as may be."""
        with _one_at_a_time:
            self._line.asked.append(what)

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event._after = self._line, len(self._line.asked)
        return event

    def wait_event(self, event: Event) -> None:
        note("wait in stream")
        line, count = event._after
        self.does(lambda: line.do(count))

    def __enter__(self) -> Stream:
        self._before, state.gpu.stream = state.gpu.stream, self
        return self

    def __exit__(self, *exception: object) -> None:
        state.gpu.stream = self._before

    def synchronize(self) -> None:
        assert state.gpu.capturing is None
        note("synchronize")
        self._line.do(len(self._line.asked))

    def begin_capture(self) -> None:
        assert state.gpu.stream is self
        assert isinstance(state.gpu.allocator, MemoryPool), "what a graph uses is its own"
        note("begin capture")
        state.gpu.captures_in, state.gpu.capturing = threading.get_ident(), []

    def end_capture(self) -> Any:
        calls, state.gpu.capturing = state.gpu.capturing, None
        note("end capture")
        return Graph(calls)


class ComputingStream(Stream):
    """The user's stream, which does at once what it is asked for."""

    def __init__(self) -> None:
        super().__init__(non_blocking=True)
        self.ptr = 77

    def does(self, what: Callable[[], object]) -> None:
        super().does(what)
        self._line.do(len(self._line.asked))


class Graph:
    """What was captured; a launch repeats it on what the same memory holds then."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls

    def launch(self) -> None:
        note("launch")
        for call in self.calls:
            call()


class MemoryPool:
    def malloc(self, size: int) -> Any: ...

    def total_bytes(self) -> int:
        return 32 * 2**20


@contextlib.contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    before, state.gpu.allocator = state.gpu.allocator, allocator.__self__
    yield
    state.gpu.allocator = before


def empty(shape: Any, dtype: Any) -> Array:
    # Another thread may: CuPy captures in the relaxed mode.
    assert state.gpu.capturing is None or state.gpu.captures_in != threading.get_ident()
    note("allocate")
    return allocated(shape, dtype)


def allocated(shape: Any, dtype: Any) -> Array:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    # NaN, or -1: zeros cannot be relied on. CuPy's pools give multiples of 512 bytes.
    memory = np.frombuffer(bytearray(b"\xff" * (size + 512)), "uint8")
    start = -memory.ctypes.data % 512
    return memory[start : start + size].view(dtype).reshape(shape).view(Array)


def made(function: Any, *args: Any, device: Any = None, **options: Any) -> Array:
    return function(*args, **options).view(Array)


def of_device(name: str) -> Any:
    """Find a function of NumPy's namespace; what it returns stays on the device."""
    found = getattr(get_namespace("numpy"), name)
    if isinstance(found, type) or not callable(found):
        return found

    def function(*args: Any, **options: Any) -> Any:
        if any(isinstance(a, Array) for a in args):
            assert state.gpu.current == state.gpu.arrays_on, f"{name} on another device"
        result = found(*args, **options)
        return result.view(Array) if type(result) is np.ndarray else result

    return function


state = types.SimpleNamespace(gpu=Gpu())
"""The present GPU; each `installed` replaces it."""
