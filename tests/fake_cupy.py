"""A stand-in for the parts of CuPy 14.2 that move arrays between ranks, on the memory of the host.

Names, orders of arguments and types are those of CuPy's sources (cupy_backends/cuda/libs/nccl.pyx,
cupy/_core/core.pyx, cupyx/_pinned_array.py): NCCL's functions take addresses, counts, codes of dtypes
and the address of a stream, all of them int. What is called is written down, and done.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from anyprop.backend import namespaces


class Array:
    """What `cupy.ndarray` is to a communicator."""

    def __init__(self, values: Any, log: list[Any]) -> None:
        self.values, self._log = np.asarray(values), log
        self.dtype, self.shape, self.size = self.values.dtype, self.values.shape, self.values.size
        self.nbytes = self.values.nbytes
        self.data = types.SimpleNamespace(ptr=self.values.ctypes.data)
        self.device = contextlib.nullcontext()

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> Any:
        assert isinstance(out, np.ndarray)
        assert blocking
        self._log.append("get")
        np.copyto(out, self.values)
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        assert (arr.dtype, arr.shape) == (self.dtype, self.shape)
        self._log.append("set")
        np.copyto(self.values, arr)


class FakeNccl:
    """The module `cupy.cuda.nccl`, for ranks that are threads."""

    available = True
    NCCL_SUM, NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64 = 0, 6, 7, 8

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.ended: list[str] = []
        self.hosts: dict[int, Any] = {}
        self.uid: bytes | Exception = bytes(range(128))

    def get_unique_id(self) -> bytes:
        if isinstance(self.uid, Exception):
            raise self.uid
        return self.uid

    def NcclCommunicator(self, ndev: int, commId: bytes, rank: int) -> Any:
        assert type(commId) is bytes
        assert commId == self.uid, "the id of rank 0, whatever rank it is"
        assert 0 <= rank < ndev
        return _FakeRank(self, rank)


class _FakeRank:
    def __init__(self, nccl: FakeNccl, rank: int) -> None:
        self._nccl, self._rank = nccl, rank

    def allReduce(
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        self._log("allReduce", sendbuf, recvbuf, count, datatype, stream)
        assert op == FakeNccl.NCCL_SUM
        memory = _memory(sendbuf, count, datatype)
        total = self._nccl.hosts[self._rank].all_reduce(memory.copy())
        np.copyto(_memory(recvbuf, count, datatype), total)

    def broadcast(
        self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int
    ) -> None:
        self._log("broadcast", sendbuff, recvbuff, count, datatype, stream)
        assert root == 0
        given = self._nccl.hosts[self._rank].broadcast(_memory(sendbuff, count, datatype).copy())
        np.copyto(_memory(recvbuff, count, datatype), given)

    def destroy(self) -> None:
        self._nccl.ended.append("destroy")

    def abort(self) -> None:
        self._nccl.ended.append("abort")

    def _log(self, name: str, *numbers: int) -> None:
        assert all(type(n) is int for n in numbers), numbers
        self._nccl.log.append((name, *numbers[2:]))


def _memory(address: int, count: int, datatype: int) -> np.ndarray:
    dtype = np.dtype({6: "float16", 7: "float32", 8: "float64"}[datatype])
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype=dtype)


@contextlib.contextmanager
def installed(*, gpus: int = 4) -> Iterator[Any]:
    """Put the stand-in where `import cupy` finds it, and its arrays where the library knows them."""
    cupy = types.ModuleType("cupy")
    cupyx = types.ModuleType("cupyx")
    namespace = types.ModuleType("array_api_compat.cupy")
    log: list[Any] = []
    stream = types.SimpleNamespace(ptr=77, synchronize=lambda: log.append("synchronize"))

    class Device:
        def __init__(self, device: int) -> None:
            self.id, self.pci_bus_id = device, f"0000:{device:02}:00.0"

        def use(self) -> None:
            log.append(("use", self.id))

    runtime = types.SimpleNamespace(getDeviceCount=lambda: gpus)
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime, Device=Device, get_current_stream=lambda: stream
    )
    cupy.ascontiguousarray = lambda a: a
    cupy.log = log
    cupyx.empty_pinned = lambda shape, dtype=float, order="C": np.empty(shape, dtype, order)
    before = {name: sys.modules.get(name) for name in ("cupy", "cupyx", "cupy.cuda.nccl")}
    nccl = FakeNccl()
    sys.modules |= {"cupy": cupy, "cupyx": cupyx, "cupy.cuda.nccl": nccl}
    namespaces._NAMESPACE_OF_TYPE[Array] = namespace
    try:
        yield cupy
    finally:
        del namespaces._NAMESPACE_OF_TYPE[Array]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
