"""How a rank ends the others, seen in a process that outlives it: MPI and the exit are stand-ins."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from anyprop.distributed import MPICommunicator, mpi


class World:
    """Rank 1 of two, whose messages are answered at once."""

    rank, size, code, barriers = 1, 2, None, 0

    def Dup(self):
        return self

    def Split_type(self, kind):
        return self

    def Allreduce(self, mine, memory):
        pass

    def Barrier(self):
        self.barriers += 1

    def Abort(self, code):
        self.code = code


@pytest.fixture
def world(monkeypatch):
    def leave(code):
        raise SystemExit(code)

    world = World()
    module = types.SimpleNamespace(COMM_WORLD=world, COMM_TYPE_SHARED=0, IN_PLACE=None)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
    monkeypatch.setattr(mpi.os, "_exit", leave)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return world


class Clock:
    """Replaces the module `time`: a second passes in each sleep, and `during` happens."""

    def __init__(self, during):
        self.now, self.during = 0.0, during

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += 1.0
        self.during(self.now)


def test_who_waits_too_long_ends_all(world, capfd, monkeypatch):
    clock = Clock(lambda now: None)
    monkeypatch.setattr(mpi, "time", clock)
    communicator = MPICommunicator(timeout=None)
    with communicator._waiting(), pytest.raises(SystemExit):
        communicator._watch(5.0)
    assert (clock.now, world.code) == (6.0, 1)
    assert capfd.readouterr().err == (
        "anyprop: rank 1 of 2 waited 5 seconds for another rank, which hangs or is too slow; "
        "all ranks end.\n"
    )


def test_who_is_answered_may_work_on_for_as_long_as_it_takes(world, monkeypatch):
    class EnoughError(Exception):
        pass

    def working(now):
        if now == 50.0:
            raise EnoughError

    monkeypatch.setattr(mpi, "time", Clock(working))
    communicator = MPICommunicator(timeout=None)
    communicator.all_reduce(np.ones(3))
    communicator.barrier()
    with pytest.raises(EnoughError):
        communicator._watch(5.0)
    assert (world.barriers, world.code) == (1, None)


def test_without_a_time_limit_nobody_watches(world, monkeypatch):
    started = []
    thread = types.SimpleNamespace(start=lambda: started.append("a thread"))
    monkeypatch.setattr(mpi, "threading", types.SimpleNamespace(Thread=lambda **how: thread))
    MPICommunicator(timeout=None)
    assert not started
    MPICommunicator()
    assert started == ["a thread"]


def test_an_exception_that_nobody_catches_ends_all(world, capfd):
    MPICommunicator(timeout=None)
    error = ArithmeticError("the reason")
    with pytest.raises(SystemExit):
        sys.excepthook(type(error), error, None)
    assert world.code == 1
    assert capfd.readouterr().err == (
        "ArithmeticError: the reason\n"
        "anyprop: rank 1 of 2 ended by ArithmeticError; all ranks end.\n"
    )


def test_what_cannot_be_written_over_is_summed_in_a_copy(world):
    array = np.arange(4.0)
    array.flags.writeable = False
    found = MPICommunicator(timeout=None).all_reduce(array)
    assert found is not array
    np.testing.assert_array_equal(found, array)


def test_a_missing_library_of_mpi_is_told(monkeypatch):
    def broken(name):
        raise RuntimeError("cannot load MPI library")

    monkeypatch.setattr(mpi.importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"no MPI library \(cannot load MPI library\); load your"):
        MPICommunicator()
