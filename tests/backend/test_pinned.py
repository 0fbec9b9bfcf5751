"""Copies that overlap with what a GPU computes, on a stand-in that does each as late as it may."""

from __future__ import annotations

import contextlib
import inspect
import types

import numpy as np
import pytest

import fake_cupy
from anyprop import backend
from anyprop.backend import pinned
from fake_cupy import put

PORTIONS = 7


@pytest.fixture
def gpu():
    with fake_cupy.installed() as gpu:
        gpu.computing = fake_cupy.Stream(non_blocking=True)  # which is in no hurry either
        yield gpu


def _arrays(k):
    """Portions of different sizes, and rows in another order than they lie."""
    x = np.arange(40, dtype="uint8").reshape(10, 4) + k
    rows = np.random.default_rng(k).permutation(10)[k // 2 :: 1 + k % 2]
    return {"x": x, "t": np.arange(10) - k, "weight": None}, rows


def _read(gpu, n, *, early=False):
    """Return what the computing stream finds in each portion, n - 1 of them put in advance."""
    copies = pinned.Pinned.to(backend.namespace(put(np.ones(1))), fake_cupy.Device(0), n)
    found, waiting = [], []

    def use(moved):
        moved.hold()
        given = {k: a for k, a in moved.arrays.items() if a is not None}
        gpu.computing.does(
            lambda: found.append({k: np.array(a.view(np.ndarray)) for k, a in given.items()})
        )
        moved.free()

    for k in range(PORTIONS):
        if len(waiting) == n - 1 and waiting:
            use(waiting.pop(0))
        waiting.append(copies.put(*_arrays(k)))
        if early:
            copies._gpu._stream.synchronize()
        if n == 1:
            use(waiting.pop())
    while waiting:
        use(waiting.pop(0))
    copies.close()
    return found


def _are_right(found):
    portions = map(_arrays, range(PORTIONS))
    wanted = [{k: a[rows] for k, a in given.items() if a is not None} for given, rows in portions]
    return len(found) == len(wanted) and all(
        ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)
        for ours, theirs in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_each_portion_is_what_was_put(n, early, gpu):
    assert _are_right(_read(gpu, n, early=early))


@pytest.mark.parametrize(
    ("left_out", "early"),
    [
        ("hold_steps", False),
        ("mark_copies", False),
        ("mark_steps", True),
        ("mark_steps", False),
    ],
)
def test_without_one_of_the_events_it_is_not(left_out, early, gpu, monkeypatch):
    monkeypatch.setattr(pinned._CuPy, left_out, lambda self, event: None)
    assert not _are_right(_read(gpu, 2, early=early))


def test_without_waiting_for_the_steps_it_is_not(gpu, monkeypatch):
    monkeypatch.setattr(fake_cupy.Event, "synchronize", lambda self: None)
    assert not _are_right(_read(gpu, 2))


def test_memory_that_the_computing_stream_still_writes_is_waited_for(gpu, monkeypatch):
    """As that of a pool may be, which the host has let go of."""
    import cupy

    empty = cupy.empty

    def in_use(shape, dtype):
        array = empty(shape, dtype)
        gpu.computing.does(lambda: array.view(np.ndarray).fill(0))
        return array

    monkeypatch.setattr(cupy, "empty", in_use)
    assert _are_right(_read(gpu, 2, early=True))


def test_memory_is_taken_once(gpu):
    copies = pinned.Pinned.to(backend.namespace(put(np.ones(1))), fake_cupy.Device(0), 2)
    for k in (0, 2, 4, 4):  # none is larger than the first
        moved = copies.put(*_arrays(k))
        moved.hold()
        moved.free()
    assert gpu.log.count("allocate") == 4  # for x and for t, twice


def test_all_of_it_is_on_the_device_of_the_parameters():
    """The stand-in refuses what is asked for while another is the current one."""
    with fake_cupy.installed(arrays_on=1) as gpu:
        copies = pinned.Pinned.to(
            backend.namespace(put(np.ones(1))), fake_cupy.Device(gpu.arrays_on), 2
        )
        moved = copies.put(*_arrays(0))
        with fake_cupy.Device(gpu.arrays_on):
            moved.hold()
            moved.free()
        copies.close()
        assert gpu.current == 0


@pytest.mark.parametrize("name", ["numpy", "array_api_strict"])
def test_there_is_none_for_the_host(name):
    xp = backend.get_namespace(name)
    assert pinned.Pinned.to(xp, backend.device_of(xp.ones(1)), 2) is None


@pytest.mark.needs("torch")
class TestTorch:
    """What cannot be run without CUDA is done by stand-ins for `torch.cuda`."""

    def test_there_is_none_for_the_host(self):
        import torch

        assert pinned.Pinned.to(backend.get_namespace("torch"), torch.device("cpu"), 2) is None

    def test_names_and_arguments_are_those_of_torch(self):
        import torch

        takes = {
            torch.cuda.Stream: {"device"},
            torch.cuda.Event: {"blocking"},
            torch.cuda.Stream.wait_event: {"event"},
            torch.cuda.Stream.wait_stream: {"stream"},
            torch.cuda.Stream.record_event: {"event"},
            torch.cuda.current_stream: {"device"},
            torch.cuda.stream: {"stream"},
            torch.cuda.device: {"device"},
        }
        for function, names in takes.items():
            assert names <= set(inspect.signature(function).parameters), function
        assert callable(torch.cuda.Stream.synchronize)
        assert callable(torch.cuda.Event.synchronize)

    def test_each_portion_is_what_was_put(self, gpu, monkeypatch):
        import torch

        log = []

        class Stream(fake_cupy.Stream):
            def __init__(self, device):
                super().__init__(non_blocking=True)

            def wait_stream(self, stream):
                self.wait_event(stream.record())

            record_event = fake_cupy.Stream.record

        empty, computing = torch.empty, Stream(None)

        def anywhere(shape, *, dtype, pin_memory=False, device=None):
            log.append("pinned" if pin_memory else str(device))
            return empty(shape, dtype=dtype)

        monkeypatch.setattr(torch, "empty", anywhere)
        current = []

        @contextlib.contextmanager
        def stream(chosen):
            current.append(chosen)
            yield
            current.pop()

        copy = torch.Tensor.copy_

        def later(self, other, *, non_blocking):
            assert non_blocking
            current[-1].does(lambda: copy(self, other))

        monkeypatch.setattr(torch.Tensor, "copy_", later)
        cuda = types.SimpleNamespace(
            Stream=Stream,
            Event=lambda blocking: fake_cupy.Event(block=blocking),
            current_stream=lambda device: computing,
            stream=stream,
            device=lambda device: contextlib.nullcontext(),
        )
        monkeypatch.setattr(torch, "cuda", cuda)
        device, xp = torch.device("cuda", 0), backend.get_namespace("torch")
        copies, found = pinned.Pinned.to(xp, device, 2), []
        for k in range(PORTIONS):
            moved = copies.put(*_arrays(k))
            moved.hold()
            given = {name: a for name, a in moved.arrays.items() if a is not None}
            computing.does(
                lambda given=given: found.append({k: a.numpy().copy() for k, a in given.items()})
            )
            moved.free()
        copies.close()
        assert _are_right(found)
        assert set(log) == {"pinned", "cuda:0"}
