"""Copies to a GPU that overlap with its work: from pinned memory, in a stream of their own.

    who writes                  stream of copies        stream that computes
    waits for `free`
    fills memory of the host
    asks for copies             copies
                                `copied`                waits for `copied`
                                                        steps
                                                        `free`

What is written takes turns in buffers of its own. Memory of a pool would not do: a pool hands out
again what the host has let go of, while a stream may still read it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np

from anyprop._typing import Array, Namespace, Shape
from anyprop.backend.namespaces import name_of


class Moved:
    """Arrays on their way to the device, and the memory through which they go.

    Attributes
    ----------
    arrays : dict of str to array or None
        They may be used by what is asked for between `hold` and `free`, in one stream.
    """

    def __init__(self, gpu: _Gpu) -> None:
        self._gpu = gpu
        self._copied, self._free = gpu.event(), gpu.event()
        self._buffers: dict[str, tuple[Any, Any, int]] = {}
        self.arrays: dict[str, Array | None] = {}

    def fill(self, arrays: Mapping[str, Any], rows: Any) -> None:
        """Wait until the memory is free, and ask for the copies; by the thread that writes."""
        self._free.synchronize()
        self.arrays = {
            name: None if array is None else self._filled(name, array, rows)
            for name, array in arrays.items()
        }
        self._gpu.mark_copies(self._copied)

    def _filled(self, name: str, array: Any, rows: Any) -> Array:
        n = len(rows)
        host, there, room = self._buffers.get(name, (None, None, 0))
        if n > room or host is None:
            room = max(1, n)
            host, there = self._gpu.buffers((room, *array.shape[1:]), array.dtype)
            self._buffers[name] = host, there, room
        # The rows are within the array, and NumPy would take a copy in any other mode.
        np.take(array, rows, axis=0, out=np.asarray(host)[:n], mode="clip")
        if n:
            self._gpu.copy(there[:n], host[:n])
        return there[:n]

    def hold(self) -> None:
        """Make the calling thread's stream wait for the copies."""
        self._gpu.hold_steps(self._copied)

    def free(self) -> None:
        """Return the memory when the calling thread's stream has done what it was asked for."""
        self._gpu.mark_steps(self._free)


class Pinned:
    """Copies arrays to a GPU, some in advance of their use.

    n may be on their way or in use at a time: each is freed before the n-th after it is put.
    """

    def __init__(self, gpu: _Gpu, n: int) -> None:
        self._gpu = gpu
        with self._gpu.context():
            self._turns = [Moved(self._gpu) for _ in range(n)]
        self._next = 0

    @classmethod
    def to(cls, xp: Namespace, device: Any, n: int) -> Pinned | None:
        """Return one for a device of a namespace; None if it is not a GPU of CuPy or PyTorch."""
        backend = name_of(xp)
        if backend == "cupy":
            return cls(_CuPy(device), n)
        if backend == "torch" and device.type == "cuda":
            return cls(_Torch(device), n)
        return None

    def put(self, arrays: Mapping[str, Any], rows: Any) -> Moved:
        """Copy rows of arrays to the device; return at once unless all memory is in use.

        Arrays of one name always have the same dtype and the same shape of a row.
        """
        moved = self._turns[self._next]
        self._next = (self._next + 1) % len(self._turns)
        with self._gpu.context():
            moved.fill(arrays, rows)
        return moved

    def close(self) -> None:
        """Wait until nothing uses the memory; called by the thread that computes."""
        with self._gpu.context():
            self._gpu.synchronize()


class _CuPy:
    """One GPU by CuPy; what is asked of it is waited for only where that is said."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._cupy = importlib.import_module("cupy")
        with device:
            self._stream = self._cupy.cuda.Stream(non_blocking=True)

    def context(self) -> AbstractContextManager[Any]:
        """Return the context in which the calling thread uses this GPU."""
        device: AbstractContextManager[Any] = self._device
        return device

    def buffers(self, shape: Shape, dtype: Any) -> tuple[Any, Any]:
        """Return pinned memory and memory of the device; no copy begins before it is unused."""
        host = importlib.import_module("cupyx").empty_pinned(shape, dtype=dtype)
        there = self._cupy.empty(shape, dtype=dtype)
        # What the pool gives is unused only once its stream has come to this place.
        before = self._cupy.cuda.get_current_stream().record()
        self._stream.wait_event(before)
        return host, there

    def event(self) -> Any:
        """Return an event that has come already."""
        return self._cupy.cuda.Event(block=True, disable_timing=True)

    def copy(self, there: Any, host: Any) -> None:
        """Copy to the device."""
        there.set(host, self._stream)

    def mark_copies(self, event: Any) -> None:
        """Record an event that comes after the copies."""
        self._stream.record(event)

    def mark_steps(self, event: Any) -> None:
        """Record an event that comes after what the calling thread's stream was asked for."""
        self._cupy.cuda.get_current_stream().record(event)

    def hold_steps(self, event: Any) -> None:
        """Make what the calling thread's stream is asked for from now on wait for an event."""
        self._cupy.cuda.get_current_stream().wait_event(event)

    def synchronize(self) -> None:
        """Wait for all copies, and for the calling thread's stream."""
        self._stream.synchronize()
        self._cupy.cuda.get_current_stream().synchronize()


class _Torch:
    """One GPU by PyTorch, as by `_CuPy`."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._torch = importlib.import_module("torch")
        self._stream = self._torch.cuda.Stream(device=device)

    def context(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._torch.cuda.device(self._device)
        return context

    def buffers(self, shape: Shape, dtype: Any) -> tuple[Any, Any]:
        kind = self._torch.from_numpy(np.empty(0, dtype)).dtype
        host = self._torch.empty(shape, dtype=kind, pin_memory=True)
        there = self._torch.empty(shape, dtype=kind, device=self._device)
        # What the allocator gives is unused only once its stream has come to this place.
        self._stream.wait_stream(self._torch.cuda.current_stream(self._device))
        return host, there

    def event(self) -> Any:
        return self._torch.cuda.Event(blocking=True)

    def copy(self, there: Any, host: Any) -> None:
        with self._torch.cuda.stream(self._stream):
            there.copy_(host, non_blocking=True)

    def mark_copies(self, event: Any) -> None:
        self._stream.record_event(event)

    def mark_steps(self, event: Any) -> None:
        self._torch.cuda.current_stream(self._device).record_event(event)

    def hold_steps(self, event: Any) -> None:
        self._torch.cuda.current_stream(self._device).wait_event(event)

    def synchronize(self) -> None:
        self._stream.synchronize()
        self._torch.cuda.current_stream(self._device).synchronize()


_Gpu: TypeAlias = _CuPy | _Torch
