"""One process that is all ranks: what runs on many also runs without them, and without MPI."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from anyprop._checks import has, kind
from anyprop._typing import Array
from anyprop.distributed.communicator import Communicator


def chosen(communicator: Communicator | None) -> Communicator:
    """Return a communicator, that of one rank for None; raise TypeError if it is something else."""
    if communicator is None:
        return SerialCommunicator()
    if not has(communicator, "rank", "size", "all_reduce"):
        raise TypeError(
            "communicator must be one such as anyprop.distributed.MPICommunicator(), "
            f"not {kind(communicator)}."
        )
    return communicator


class SerialCommunicator:
    """The communicator of a job of one rank.

    Examples
    --------
    >>> import numpy as np
    >>> communicator = SerialCommunicator()
    >>> communicator.all_reduce(np.ones(3)), communicator.gather("here")
    (array([1., 1., 1.]), ['here'])
    """

    rank, size, local_rank = 0, 1, 0

    def all_reduce(self, array: Array) -> Array:
        """Return the sum over one rank."""
        return array

    def broadcast(self, array: Array) -> Array:
        """Return rank 0's array."""
        return array

    def gather(self, value: Any) -> list[Any] | None:
        """Collect the only value."""
        return [value]

    def barrier(self) -> None:
        """Return at once: there is only one rank."""

    def abort(self, code: int = 1) -> NoReturn:
        """End the process."""
        os._exit(code)
