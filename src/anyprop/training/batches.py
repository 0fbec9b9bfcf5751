"""Mini-batches and noise as functions of (seed, epoch), drawn on the host.

So a run can resume anywhere, and any number of processes agree on the order without communication.
Each stream has a key of its own, because nearby seeds must not give related numbers: the generator
of [seed, 0] would be that of the seed itself, from which the weights came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from anyprop._checks import count, flag, optional, whole
from anyprop._usage import usage

Batches: TypeAlias = Callable[[int, int, int], Iterable[Any]]
"""``batches(n, batch_size, epoch)`` returns the row indices of each batch of an epoch, 0 the first."""


@usage("batch_indices(n, batch_size, seed=0, epoch=0)")
def batch_indices(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    replacement: bool = False,
    block: int | None = None,
) -> Iterator[Any]:
    """Yield the row indices of the batches of one epoch.

    Parameters
    ----------
    n : int >= 1
        Number of examples.
    batch_size : int >= 1
        Rows in a batch; the last batch of an epoch may be smaller.
    seed : int >= 0
        Seed of the run.
    epoch : int >= 0
        Number of the pass through the data, from 0.
    shuffle : bool
        Whether the order is random, another in each epoch.
    replacement : bool
        Whether each batch is drawn from all examples, so that one may occur twice and another not
        at all; all batches are then full, and `shuffle` does not matter.
    block : int >= 1, optional
        Number of neighbouring rows that are drawn together, for a file in which single rows are slow
        to read. The order is random, but a few batches touch few places; see Notes. Without
        `shuffle` it does not matter.

    Yields
    ------
    numpy.ndarray, shape (batch_size,) or smaller, int64
        Row indices in 0..n-1.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        A number is out of its range, or both `replacement` and `block` are given.

    Notes
    -----
    With `block` B, block k holds the rows kB, kB + 1, ..., of which there are B, or fewer in the last.
    With rng the generator of (seed, epoch), the order of an epoch is::

        blocks = rng.permutation(the number of blocks)
        rows   = for each 16 of `blocks` in turn, the last time for those left:
                 rng.permutation(the rows of the first, then those of the second, ...)

    so the rows of sixteen blocks are mixed, and each row comes once. This is as good as an order
    without blocks where the file itself is mixed. Where neighbours are alike, for example sorted by
    their labels, a batch holds too few kinds of rows, and the network learns less: mix such a file
    once, when it is written.

    Examples
    --------
    >>> [batch.tolist() for batch in batch_indices(5, 2, seed=0, epoch=0, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    >>> next(batch_indices(10**6, 6, seed=0, epoch=0, block=2)).tolist()
    [681416, 884166, 591995, 884167, 127863, 792743]
    """
    n, batch_size = count("batch_indices", "n", n), count("batch_indices", "batch_size", batch_size)
    shuffle = flag("batch_indices", "shuffle", shuffle)
    replacement = flag("batch_indices", "replacement", replacement)
    block = optional(count)("batch_indices", "block", block)
    rng = stream(whole("seed", seed), whole("epoch", epoch))
    starts = range(0, n, batch_size)
    if replacement:
        if block is not None:
            raise ValueError(
                "batch_indices: replacement draws each row from all of them, so there are no blocks;"
                " leave out block."
            )
        return (rng.integers(n, size=batch_size) for _ in starts)
    if not shuffle:
        order = np.arange(n)
    elif block is None:
        order = rng.permutation(n)
    else:
        order = _by_blocks(rng, n, min(block, n))
    return (order[start : start + batch_size] for start in starts)


def _by_blocks(rng: np.random.Generator, n: int, block: int) -> Any:
    """Return an order of n rows in which sixteen blocks at a time are mixed."""
    firsts = rng.permutation(-(-n // block)) * block
    order = (firsts[:, None] + np.arange(block)).reshape(-1)
    order = order[order < n]  # the last block may be smaller
    ends = np.cumsum(np.minimum(block, n - firsts))[15::16]
    for rows in np.split(order, ends):
        rng.shuffle(rows)
    return order


def batches_of(n: int, batch_size: int) -> int:
    """Return the number of batches of n rows, of which the last may be smaller."""
    return -(-n // batch_size)


def slices(start: int, stop: int, size: int) -> list[slice]:
    """Cut start..stop-1 into ranges; the standard leaves open what a range beyond the end means."""
    starts = range(start, max(stop, start + 1), size)
    return [slice(a, min(a + size, stop)) for a in starts]


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of (seed, key): (epoch,) orders an epoch, (epoch, step) is a step's noise."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
