"""What is asked of NCCL, against a stand-in; and NCCL itself where there is a GPU."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

import fake_cupy
from anyprop.backend import BackendUnavailableError
from anyprop.cli import main
from anyprop.distributed import NCCLCommunicator, SerialCommunicator
from parallel_cases import CASES
from ranks import on_ranks


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr("anyprop.distributed.nccl.get_namespace", lambda name: None)
    with fake_cupy.installed() as module:
        yield module


def communicator_on(host, cupy):
    sys.modules["cupy.cuda.nccl"].hosts[host.rank] = host
    return NCCLCommunicator(host)


@pytest.mark.parametrize(("dtype", "code"), [("float32", 7), ("float64", 8), ("float16", 6)])
def test_arrays_of_the_gpu_are_added_up_by_nccl_in_the_current_stream(cupy, dtype, code):
    def work(host):
        communicator = communicator_on(host, cupy)
        array = fake_cupy.put(np.arange(5, dtype=dtype) * (host.rank + 1))
        assert communicator.all_reduce(array) is array
        return array.view(np.ndarray)

    for values in on_ranks(3, work):
        np.testing.assert_array_equal(values, np.arange(5, dtype=dtype) * 6)
    assert sys.modules["cupy.cuda.nccl"].log == [("allReduce", 5, code, 77)] * 3
    assert not {"get", "set", "synchronize"} & set(map(str, cupy.log))  # the host waits for nothing


def test_rank_0_gives_its_array_to_the_others(cupy):
    def work(host):
        communicator = communicator_on(host, cupy)
        array = fake_cupy.put(np.full(4, host.rank + 1.0))
        return communicator.broadcast(array).view(np.ndarray)

    for values in on_ranks(2, work):
        np.testing.assert_array_equal(values, np.ones(4))
    assert sys.modules["cupy.cuda.nccl"].log == [("broadcast", 4, 8, 77)] * 2


def test_what_lies_on_the_host_stays_there(cupy):
    def work(host):
        communicator = communicator_on(host, cupy)
        communicator.barrier()
        gathered = communicator.gather(host.rank)
        return communicator.all_reduce(np.ones(2)), communicator.broadcast(np.ones(1)), gathered

    results = on_ranks(2, work)
    np.testing.assert_array_equal(results[0][0], [2.0, 2.0])
    assert [gathered for _, _, gathered in results] == [[0, 1], None]
    assert sys.modules["cupy.cuda.nccl"].log == []


def test_each_rank_takes_a_gpu_of_its_own(cupy):
    on_ranks(3, lambda host: communicator_on(host, cupy))
    assert sorted(cupy.log) == [("use", 0), ("use", 1), ("use", 2)]


def test_where_a_rank_sees_only_one_gpu_it_takes_that(monkeypatch):
    monkeypatch.setattr("anyprop.distributed.nccl.get_namespace", lambda name: None)
    with fake_cupy.installed(gpus=1) as cupy:
        communicator_on(SerialCommunicator(), cupy)
        assert cupy.log == [("use", 0)]


@pytest.mark.parametrize(
    ("gpus", "problem"),
    [(1, "ranks 0 and 1 have the same GPU of"), (2, "rank 2 is one too many for")],
)
def test_ranks_without_a_gpu_of_their_own_are_all_told(gpus, problem, monkeypatch):
    monkeypatch.setattr("anyprop.distributed.nccl.get_namespace", lambda name: None)

    def work(host):
        with pytest.raises(RuntimeError) as caught:
            communicator_on(host, cupy)
        return str(caught.value)

    with fake_cupy.installed(gpus=gpus) as cupy:
        (told,) = set(on_ranks(3, work))
    assert told.startswith(problem)
    assert told.endswith("; start one rank for each GPU.")


def test_the_command_says_it_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr("anyprop.distributed.nccl.get_namespace", lambda name: None)
    monkeypatch.setattr("anyprop.distributed.nccl.MPICommunicator", SerialCommunicator)
    with fake_cupy.installed(gpus=0):
        code = main(["train", "--backend", "cupy", "--distributed", "nccl"])
    assert code == 2
    assert capsys.readouterr().err.startswith("anyprop: rank 0 is one too many for ")


def test_a_cupy_without_nccl_is_told(cupy):
    sys.modules["cupy.cuda.nccl"].available = False
    with pytest.raises(BackendUnavailableError, match="rank 0: this CuPy has no NCCL"):
        NCCLCommunicator(SerialCommunicator())


def _told_to_all(size, cupy):
    """What each rank is told; a rank that waited for another would fail the test."""

    def work(host):
        with pytest.raises(BackendUnavailableError) as caught:
            communicator_on(host, cupy)
        return str(caught.value)

    return on_ranks(size, work)


def test_an_id_that_cannot_be_made_is_told_to_all_ranks(cupy):
    sys.modules["cupy.cuda.nccl"].uid = RuntimeError("NCCL_ERROR_SYSTEM_ERROR: no network")
    assert _told_to_all(3, cupy) == ["rank 0: NCCL_ERROR_SYSTEM_ERROR: no network"] * 3


def test_a_rank_without_cupy_is_told_to_all_ranks(cupy, monkeypatch):
    """Each rank asks once; the second that does has none."""
    asked = itertools.count()

    def on_one(name):
        if next(asked) == 1:
            raise BackendUnavailableError("backend 'cupy' cannot be used here: no GPU is visible")

    monkeypatch.setattr("anyprop.distributed.nccl.get_namespace", on_one)
    (told,) = set(_told_to_all(3, cupy))
    assert told[:5] == "rank "
    assert told[6:] == ": backend 'cupy' cannot be used here: no GPU is visible"


def test_nccl_is_left_when_the_communicator_goes_and_aborted_with_the_job(cupy):
    class Host(SerialCommunicator):
        def abort(self, code=1):
            raise SystemExit(code)

    ended = sys.modules["cupy.cuda.nccl"].ended
    communicator = communicator_on(Host(), cupy)
    with pytest.raises(SystemExit, match="3"):
        communicator.abort(3)
    assert ended == ["abort"]
    del communicator
    assert ended == ["abort", "destroy"]


def test_nccl_is_left_before_the_process_ends():
    """Before the interpreter ends, and so before MPI does, which mpi4py ends after that."""
    program = (
        "import sys, anyprop.distributed.nccl as nccl\n"
        "import fake_cupy\n"
        "from anyprop.distributed import SerialCommunicator\n"
        "nccl.get_namespace = lambda name: None\n"
        "installed = fake_cupy.installed()\n"
        "installed.__enter__()\n"
        "ranks = sys.modules['cupy.cuda.nccl'].NcclCommunicator(1, bytes(range(128)), 0)\n"
        "type(ranks).destroy = lambda self: print('left', flush=True)\n"
        "kept = nccl.NCCLCommunicator(SerialCommunicator())\n"
        "print('at the end', flush=True)"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["at the end", "left"]


def test_other_dtypes_are_refused(cupy):
    communicator = communicator_on(SerialCommunicator(), cupy)
    with pytest.raises(TypeError, match="NCCL adds up float32, float64, float16, not int64"):
        communicator.all_reduce(fake_cupy.put(np.arange(3)))


@pytest.mark.needs("cupy")
def test_one_gpu_trains_as_one_process():
    import cupy

    communicator = NCCLCommunicator(SerialCommunicator())
    ones = cupy.ones(3, dtype="float32")
    np.testing.assert_array_equal(communicator.all_reduce(ones).get(), np.ones(3))
    results = CASES["everything"].on_rank(communicator, "cupy")
    for name, expected in CASES["everything"].alone().items():
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-8)
