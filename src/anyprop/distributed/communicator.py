"""What a communicator is: the few things that the processes of one job, its ranks, do together.

Each method but `abort` is collective: every rank calls it, in the same order, and it returns when all
have taken part. Arrays are those of the backend that trains, or of NumPy, which every communicator takes
too: what is agreed on the host does not pass through a GPU.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from anyprop._typing import Array
from anyprop.backend import namespace

T = TypeVar("T")


class Communicator(Protocol):
    """What training on several ranks needs; a class of your own may be used instead.

    Attributes
    ----------
    rank : int >= 0
        Number of this process; rank 0 prints and writes.
    size : int >= 1
        Number of ranks, R.
    local_rank : int >= 0
        Number of this rank among those on this machine; it chooses the GPU.
    """

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def local_rank(self) -> int: ...

    def all_reduce(self, array: Array) -> Array:
        """Add up the arrays of all ranks.

        Parameters
        ----------
        array : array, shape (P,)
            This rank's summand; its memory may be overwritten.

        Returns
        -------
        array, shape (P,)
            The sum, the same bits on every rank; `array` itself where it can be written to.
        """
        ...

    def broadcast(self, array: Array) -> Array:
        """Return rank 0's array on every rank; like `all_reduce`, it may overwrite its argument."""
        ...

    def gather(self, value: Any) -> list[Any] | None:
        """Collect small Python objects on rank 0, in the order of the ranks; the others get None."""
        ...

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        ...

    def abort(self, code: int = 1) -> NoReturn:
        """End the processes of all ranks at once, whatever they are doing.

        Parameters
        ----------
        code : int in 1..255
            Exit code of the job.
        """
        ...


class AllReduces(Protocol):
    """Whatever adds up arrays as a communicator does."""

    def all_reduce(self, array: Array) -> Array: ...


def all_reduce(communicator: AllReduces, array: Array) -> Array:
    """Call `communicator.all_reduce`, also within a step that is recorded to be repeated.

    The array is then one of a namespace that has `outside`, for functions outside the standard.
    """
    outside = getattr(namespace(array), "outside", None)
    if outside is None:
        return communicator.all_reduce(array)
    return outside(communicator.all_reduce, array)


def any_rank(communicator: Communicator, flag: bool) -> bool:
    """Return on every rank whether `flag` is true on at least one of them.

    Parameters
    ----------
    communicator : Communicator
        The ranks; every one of them calls this.
    flag : bool
        This rank's.

    Returns
    -------
    bool
        The same on every rank.
    """
    if communicator.size == 1:
        return flag
    return bool(communicator.all_reduce(np.asarray([float(flag)]))[0])


def share(communicator: Communicator, value: Any) -> Any:
    """Return on every rank a copy of rank 0's Python object, which should be small."""
    if communicator.size == 1:
        return value
    pickled = np.frombuffer(pickle.dumps(value), dtype=np.uint8)
    size = communicator.broadcast(np.asarray([pickled.size], dtype=np.int64))
    message = np.zeros(int(size[0]), dtype=np.uint8)
    message[: pickled.size] = pickled[: message.size]
    return pickle.loads(communicator.broadcast(message).tobytes())


def attempted(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return what `work` returns, or whatever it raises: the others would wait for this rank."""
    try:
        return work(), None
    except Exception as error:
        return None, error


@contextlib.contextmanager
def agreeing(communicator: Communicator, *, refusing: bool = False) -> Iterator[None]:
    """Raise on all ranks an error that is raised inside on at least one of them.

    A rank that ended alone would leave the others waiting. Nothing inside may be collective.

    Parameters
    ----------
    communicator : Communicator
        The ranks.
    refusing : bool
        Whether arguments are checked inside; ranks whose own arguments are valid then get a
        ValueError, and a RuntimeError otherwise.
    """
    if communicator.size == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as raised:  # whatever it is, the others would wait for this rank
        error = raised
    if any_rank(communicator, error is not None):
        end_together(communicator, error, refusing=refusing)


def end_together(
    communicator: Communicator, error: Exception | None, *, refusing: bool = False
) -> NoReturn:
    """Raise this rank's error, or one that names the first rank that has any and what it is."""
    told = communicator.gather(error and f"{type(error).__name__}: {error}")
    rank, what = share(communicator, next(((r, w) for r, w in enumerate(told or ()) if w), None))
    if error is not None:
        raise error
    if refusing:
        raise ValueError(f"rank {rank} refused its arguments: {what}")
    raise RuntimeError(f"rank {rank} failed: {what}")
