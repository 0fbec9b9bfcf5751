"""What is asked of NCCL, against a stand-in; and NCCL itself where there is a GPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fake_cupy
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
        array = fake_cupy.Array(np.arange(5, dtype=dtype) * (host.rank + 1), cupy.log)
        assert communicator.all_reduce(array) is array
        return array.values

    for values in on_ranks(3, work):
        np.testing.assert_array_equal(values, np.arange(5, dtype=dtype) * 6)
    assert sys.modules["cupy.cuda.nccl"].log == [("allReduce", 5, code, 77)] * 3
    assert not {"get", "set", "synchronize"} & set(map(str, cupy.log))  # the host waits for nothing


def test_rank_0_gives_its_array_to_the_others(cupy):
    def work(host):
        communicator = communicator_on(host, cupy)
        array = fake_cupy.Array(np.full(4, host.rank + 1.0), cupy.log)
        return communicator.broadcast(array).values

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
    with pytest.raises(ImportError, match="this CuPy has no NCCL"):
        NCCLCommunicator(SerialCommunicator())


def test_other_dtypes_are_refused(cupy):
    communicator = communicator_on(SerialCommunicator(), cupy)
    with pytest.raises(TypeError, match="NCCL adds up float32, float64, float16, not int64"):
        communicator.all_reduce(fake_cupy.Array(np.arange(3), cupy.log))


@pytest.mark.needs("cupy")
def test_one_gpu_trains_as_one_process():
    import cupy

    communicator = NCCLCommunicator(SerialCommunicator())
    ones = cupy.ones(3, dtype="float32")
    np.testing.assert_array_equal(communicator.all_reduce(ones).get(), np.ones(3))
    results = CASES["everything"].on_rank(communicator, "cupy")
    for name, expected in CASES["everything"].alone().items():
        np.testing.assert_allclose(results[name], expected, rtol=0, atol=1e-8)
