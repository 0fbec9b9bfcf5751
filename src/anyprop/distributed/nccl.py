"""Ranks with a GPU each, by NVIDIA's NCCL through CuPy, beside MPI on the host.

NCCL adds up CuPy arrays on the GPUs, over NVLink or the network card, in the order of the current
stream: nothing waits on the host. MPI starts the ranks, carries the id by which they find each other
from rank 0 to the others, takes arrays of NumPy, gathers, and ends the job.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from anyprop._typing import Array
from anyprop.backend import (
    BackendUnavailableError,
    dtype_name,
    get_namespace,
    name_of,
    namespace,
)
from anyprop.distributed.communicator import Communicator, attempted, share
from anyprop.distributed.mpi import MPICommunicator

_T = TypeVar("_T")


class NCCLCommunicator:
    """The ranks of an MPI job, each with a GPU of its own.

    Parameters
    ----------
    host : Communicator, optional
        The same ranks on the host; an `MPICommunicator` by default. Its timeout also ends a job whose
        GPUs hang, when the ranks next agree on something there.

    Raises
    ------
    BackendUnavailableError
        On every rank, if one cannot take part: CuPy cannot be used there, or has no NCCL; two ranks have
        the same GPU, or there are more ranks on a machine than GPUs; or NCCL cannot begin.
    ImportError
        mpi4py or an MPI library is not installed.

    Notes
    -----
    It makes the GPU of `local_rank` the current device of the process; where Slurm shows each rank only
    its own GPU, that one. When the process ends, it leaves NCCL before MPI does.
    """

    def __init__(self, host: Communicator | None = None) -> None:
        self._host: Communicator = host or MPICommunicator()
        self.rank, self.size = self._host.rank, self._host.size
        self.local_rank = self._host.local_rank
        self._cupy, self._nccl = self._together(_libraries)
        self._use_own_gpu()
        made = self._together(lambda: self._nccl.get_unique_id() if self.rank == 0 else None)
        self._ranks = self._nccl.NcclCommunicator(self.size, share(self._host, made), self.rank)
        # Not when the object goes: that may be after MPI's end, and then NCCL may wait forever.
        weakref.finalize(self, self._ranks.destroy)

    def all_reduce(self, array: Array) -> Array:
        """Add up the arrays of all ranks."""
        if name_of(namespace(array)) != "cupy":
            return self._host.all_reduce(array)
        array, dtype, stream = self._ready(array)
        pointer, add = array.data.ptr, self._nccl.NCCL_SUM
        self._ranks.allReduce(pointer, pointer, array.size, dtype, add, stream)
        return array

    def broadcast(self, array: Array) -> Array:
        """Return rank 0's array on every rank."""
        if name_of(namespace(array)) != "cupy":
            return self._host.broadcast(array)
        array, dtype, stream = self._ready(array)
        pointer, root = array.data.ptr, 0
        self._ranks.broadcast(pointer, pointer, array.size, dtype, root, stream)
        return array

    def gather(self, value: Any) -> list[Any] | None:
        """Collect small Python objects on rank 0."""
        return self._host.gather(value)

    def barrier(self) -> None:
        """Wait until all ranks are here; their GPUs may still be at work."""
        self._host.barrier()

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks."""
        with contextlib.suppress(Exception):
            self._ranks.abort()
        self._host.abort(code)

    def _together(self, work: Callable[[], _T]) -> _T:
        """Call what may fail; if it fails on one rank, all give up, so that none waits for that one."""
        done, error = attempted(work)
        problems = self._host.gather(error and (str(error) or type(error).__name__))
        told = [f"rank {rank}: {what}" for rank, what in enumerate(problems or []) if what]
        if told := share(self._host, told[:1]):
            raise BackendUnavailableError(told[0])
        return cast("_T", done)

    def _ready(self, array: Array) -> tuple[Array, int, int]:
        """Return the array in one piece, its dtype for NCCL, and the stream that it is computed in."""
        name = dtype_name(array)
        if name not in _DTYPES:
            raise TypeError(f"NCCL adds up {', '.join(_DTYPES)}, not {name}.")
        dtype: int = getattr(self._nccl, _DTYPES[name])
        stream: int = self._cupy.cuda.get_current_stream().ptr
        return self._cupy.ascontiguousarray(array), dtype, stream

    def _use_own_gpu(self) -> None:
        gpus = self._cupy.cuda.runtime.getDeviceCount()
        own = self.local_rank if gpus > 1 else 0
        address = None
        if own < gpus:
            device = self._cupy.cuda.Device(own)
            device.use()
            address = device.pci_bus_id
        gpus_of_ranks = self._host.gather((platform.node(), gpus, address))
        # Every rank gives up, so that none waits for one that did.
        if problem := share(self._host, gpus_of_ranks and _problem(gpus_of_ranks)):
            raise BackendUnavailableError(f"{problem}; start one rank for each GPU.")


def _libraries() -> tuple[Any, Any]:
    get_namespace("cupy")
    # Without NCCL it warns; what is raised here says it better.
    with warnings.catch_warnings(action="ignore"):
        nccl = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        raise ImportError("this CuPy has no NCCL; pip install nvidia-nccl-cu13 (or -cu12).")
    return importlib.import_module("cupy"), nccl


def _problem(gpus_of_ranks: list[tuple[str, int, str | None]]) -> str | None:
    """Return which rank has no GPU, or none of its own."""
    owners: dict[tuple[str, str], int] = {}
    for rank, (node, gpus, address) in enumerate(gpus_of_ranks):
        if address is None:
            return f"rank {rank} is one too many for {node}, which has {gpus} GPUs"
        owner = owners.setdefault((node, address), rank)
        if owner != rank:
            return f"ranks {owner} and {rank} have the same GPU of {node}"
    return None


_DTYPES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64", "float16": "NCCL_FLOAT16"}
