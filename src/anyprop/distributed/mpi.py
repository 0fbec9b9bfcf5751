"""Ranks that `mpiexec` or Slurm started, by mpi4py.

MPI works on memory of the host. An array of NumPy, or of PyTorch on the CPU, is reduced in place;
any other is copied to the host and back, an array of CuPy through pinned memory. mpi4py does not know of
CUDA streams: the copies wait for the stream, and so does a reduction that hands the GPU's memory to an
MPI that can read it (``cuda_aware=True``).

A job must not wait for a rank that will never come. An uncaught exception ends all ranks, after its
traceback; the launcher ends them when one is killed; and a rank that has waited `timeout` seconds for
the others ends them too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from anyprop._checks import positive
from anyprop._typing import Array
from anyprop.backend import device_of, from_host, name_of, namespace, to_host


class MPICommunicator:
    """The ranks of an MPI job.

    Parameters
    ----------
    timeout : float > 0, optional
        Seconds after which a rank that waits for the others ends the job; it must be longer than the
        longest step, evaluation or checkpoint. None to wait forever.
    cuda_aware : bool
        Whether the MPI library reads and writes the memory of GPUs. The common builds do not, and
        would crash.

    Raises
    ------
    TypeError, ValueError
        timeout is neither a number above 0 nor None.
    ImportError
        mpi4py or an MPI library is not installed.

    Notes
    -----
    With more than one rank it sets `sys.excepthook`, so that an uncaught exception ends all ranks.
    """

    def __init__(self, *, timeout: float | None = 600.0, cuda_aware: bool = False) -> None:
        if timeout is not None:
            timeout = positive(type(self).__name__, "timeout", timeout)
        self._mpi = _mpi()
        # A communicator of our own, so that no other library's messages are mistaken for ours.
        self._world = self._mpi.COMM_WORLD.Dup()
        self.rank = int(self._world.rank)
        self.size = int(self._world.size)
        self.local_rank = int(self._world.Split_type(self._mpi.COMM_TYPE_SHARED).rank)
        self._cuda_aware = cuda_aware
        self._pinned: Any = None
        self._waiting_since: float | None = None
        if self.size > 1:
            self._end_all_on_errors()
            if timeout is not None:
                watch = threading.Thread(target=self._watch, args=(timeout,), daemon=True)
                watch.start()

    def all_reduce(self, array: Array) -> Array:
        """Add up the arrays of all ranks."""
        return self._done_on(array, lambda m: self._world.Allreduce(self._mpi.IN_PLACE, m))

    def broadcast(self, array: Array) -> Array:
        """Return rank 0's array on every rank."""
        return self._done_on(array, lambda memory: self._world.Bcast(memory, root=0))

    def gather(self, value: Any) -> list[Any] | None:
        """Collect small Python objects on rank 0."""
        with self._waiting():
            gathered: list[Any] | None = self._world.gather(value, root=0)
        return gathered

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        with self._waiting():
            self._world.Barrier()

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(code)
        os._exit(code)  # not every MPI ends the process that asks for it

    def _done_on(self, array: Array, collective: Callable[[Any], object]) -> Array:
        """Apply an MPI operation in place to the memory of an array, or to a copy on the host."""
        xp = namespace(array)
        if name_of(xp) == "cupy":
            return self._done_on_gpu(array, collective)
        host = to_host(array)  # for NumPy, and PyTorch on the CPU, the array's own memory
        own = name_of(xp) == "numpy" or (name_of(xp) == "torch" and array.device.type == "cpu")
        if not (host.flags.writeable and host.flags.c_contiguous):
            host, own = np.array(host, order="C"), False
        with self._waiting():
            collective(host)
        return array if own else from_host(host, xp, device=device_of(array))

    def _done_on_gpu(self, array: Array, collective: Callable[[Any], object]) -> Array:
        cupy = importlib.import_module("cupy")
        with array.device:
            stream = cupy.cuda.get_current_stream()
            array = cupy.ascontiguousarray(array)
            if self._cuda_aware:
                stream.synchronize()
                with self._waiting():
                    collective(array)
                return array
            host = self._staging(array)
            array.get(out=host)  # waits for the stream
            with self._waiting():
                collective(host)
            array.set(host)
            stream.synchronize()  # until then the host's memory is in use
        return array

    def _staging(self, array: Array) -> Any:
        """Return pinned memory of the array's size and dtype; one block serves all messages in turn."""
        if self._pinned is None or self._pinned.nbytes < array.nbytes:
            cupyx = importlib.import_module("cupyx")
            self._pinned = cupyx.empty_pinned(array.nbytes, dtype=np.uint8)
        return self._pinned[: array.nbytes].view(array.dtype).reshape(array.shape)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Run the clock while this rank depends on the others."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def _watch(self, timeout: float) -> None:
        while True:
            time.sleep(min(timeout / 4, 1.0))
            since = self._waiting_since
            if since is not None and time.monotonic() - since > timeout:
                self._end(
                    f"waited {timeout:g} seconds for another rank, which hangs or is too slow"
                )

    def _end_all_on_errors(self) -> None:
        shown = sys.excepthook

        def hook(
            kind: type[BaseException], error: BaseException, traceback: TracebackType | None
        ) -> None:
            shown(kind, error, traceback)
            self._end(f"ended by {kind.__name__}")

        sys.excepthook = hook

    def _end(self, what: str) -> NoReturn:
        # One write, so that the lines of several ranks do not mix.
        sys.stderr.write(f"anyprop: rank {self.rank} of {self.size} {what}; all ranks end.\n")
        self.abort(1)


def _mpi() -> Any:
    try:
        return importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        raise ImportError(
            f'MPI cannot be used here ({error}); run pip install "anyprop[mpi]", and install an MPI '
            "library such as your cluster's own or pip install mpich."
        ) from None
    except RuntimeError as error:  # mpi4py is there, and finds no library
        raise ImportError(
            f"mpi4py finds no MPI library ({error}); load your cluster's, or pip install mpich."
        ) from None
