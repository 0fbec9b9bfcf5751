"""The module `cupy.cuda.nccl` for ranks that are threads; it takes addresses, counts and codes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


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
        return FakeRank(self, rank)


class FakeRank:
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
