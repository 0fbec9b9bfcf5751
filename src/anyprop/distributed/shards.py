"""The rows of a batch that a rank takes.

    part i of k, rank r of R    rows  [n c / (k R), n (c + 1) / (k R))  rounded down,  c = i R + r

The parts follow one another and the ranks within each part, so the ranks together have the rows of the
parts that one rank would split the batch into. A share may be empty.
"""

from __future__ import annotations

from anyprop.distributed.communicator import Communicator


def shares(n: int, communicator: Communicator, parts: int = 1) -> list[slice]:
    """List this rank's rows of each part of a batch.

    Parameters
    ----------
    n : int >= 0
        Rows of the batch on all ranks together.
    communicator : Communicator
        The ranks.
    parts : int >= 1
        Number of parts that the batch is split into, to save memory.

    Returns
    -------
    list of slice
        One for each part; parts without rows on any rank are left out, except the first.

    Examples
    --------
    >>> from anyprop.distributed.serial import SerialCommunicator
    >>> shares(5, SerialCommunicator(), parts=2)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    rank, size = communicator.rank, communicator.size
    # Of more parts than rows, those that have one.
    kept = range(parts) if parts <= n else [-(-parts * (j + 1) // n) - 1 for j in range(n)] or [0]
    edges = ((i * size + rank, i * size + rank + 1) for i in kept)
    return [slice(n * a // (parts * size), n * b // (parts * size)) for a, b in edges]
