"""Batches in an order of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from anyprop._checks import fields, kind, optional, takes
from anyprop._typing import Array
from anyprop._usage import Advising
from anyprop.sources.ahead import close_iterator
from anyprop.sources.parts import NAMES, at_least_zero, check_like, floating, parts_of, rounded


@dataclass(frozen=True, eq=False)
class Stream(Advising):
    """Batches in an order of their own, as those of a generator or a DataLoader.

    A `Source` is better where rows can be found by their number: it has the library's order, which is
    the same for any number of ranks and in a run that is resumed.

    Parameters
    ----------
    batches : callable
        ``batches(epoch)`` returns an iterable of (x, t) or (x, t, weight), host arrays like those of a
        `Source`, any number of rows in each. An epoch ends where the iterable does. A resumed run asks
        for the epoch in which it stopped and passes over what it had done: the same numbers follow if
        the same call gives the same batches.
    dtype : str, optional
        Floating dtype that x, weight and floating t are rounded to, where it cannot hold them exactly.
    ahead : int >= 0
        How many batches a thread takes ahead; 0 takes each in the calling thread, when it is wanted,
        as suits an iterable that has threads or processes of its own.

    Raises
    ------
    TypeError, ValueError
        `batches` is not a function of one argument, or dtype or ahead is not one of those above.

    Notes
    -----
    For one process, as a `data` of `fit`, without `batch_size`, and of `evaluate`, which takes the
    batches of epoch 0.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> def batches(epoch):
    ...     rng = np.random.default_rng([8, epoch])
    ...     for _ in range(3):
    ...         yield rng.standard_normal((20, 4)), rng.integers(0, 2, 20)
    >>> stream = ap.Stream(batches, dtype="float32")
    >>> [x.dtype.name for x, t in stream.read(0)]
    ['float32', 'float32', 'float32']
    """

    batches: Callable[[int], Iterable[Any]]
    _: KW_ONLY
    dtype: str | None = None
    ahead: int = 1

    def __post_init__(self) -> None:
        fields(self, dtype=optional(floating), ahead=at_least_zero)
        if isinstance(self.batches, Iterator):
            raise TypeError(
                f"Stream: {kind(self.batches)} can be run through only once; give batches as a function "
                "that makes another one for each epoch."
            )
        if hasattr(self.batches, "__iter__") and not isinstance(self.batches, type):
            raise TypeError(
                "Stream: batches must be a function of the epoch, not "
                f"{kind(self.batches)}; write Stream(lambda epoch: batches)."
            )
        if not takes(self.batches, 1):
            raise TypeError(
                "Stream: batches must be a function of the epoch that returns the batches, not "
                f"{kind(self.batches)}."
            )

    def read(self, epoch: int) -> Generator[tuple[Array, ...]]:
        """Read the batches of an epoch, in the calling thread.

        Parameters
        ----------
        epoch : int >= 0
            Number of the pass, from 0.

        Yields
        ------
        x, t or x, t, weight : numpy.ndarray, shape (k, ...)
            In memory of their own: of the dtypes that were given, in the machine's byte order, rounded
            to `dtype` where it cannot hold them.

        Raises
        ------
        TypeError, ValueError
            There are no batches, or one is something else than arrays like the first; the message names
            it. Whatever else iterating raises is not caught.
        """
        given = self.batches(epoch)
        if not hasattr(given, "__iter__"):
            raise TypeError(
                f"batches({epoch}) must return an iterable of batches, not {kind(given)}."
            )
        iterator = iter(given)
        try:
            yield from self._checked(iterator, epoch)
        finally:
            close_iterator(iterator)

    def _checked(self, iterator: Iterator[Any], epoch: int) -> Iterator[tuple[Array, ...]]:
        first: list[Any] | None = None
        for k, batch in enumerate(iterator):
            which = f"batch {k} of epoch {epoch}"
            parts = parts_of(which, batch)
            shapes = [part.shape for part in parts]
            if len({shape[:1] for shape in shapes}) > 1 or not (shapes[0] and shapes[0][0]):
                raise ValueError(
                    f"{which} must have a row for each of its examples in all arrays, at least one; the "
                    f"shapes are {', '.join(map(str, shapes))}."
                )
            first = parts if first is None else first
            check_like(parts, first, which, f"batch 0 of epoch {epoch}")
            try:
                read = [
                    rounded(name, part, self.dtype, range(part.shape[0]))
                    for name, part in zip(NAMES, parts, strict=False)
                ]
            except ValueError as error:
                raise ValueError(f"{which}: {error}") from None
            # It may be a buffer that is filled again for the next batch.
            yield tuple(
                np.array(new) if np.may_share_memory(new, old) else new
                for new, old in zip(read, parts, strict=True)
            )
        if first is None:
            raise no_batch(epoch)


def no_batch(epoch: int) -> ValueError:
    """Return the error for an epoch without batches."""
    return ValueError(
        f"batches gave no batch for epoch {epoch}; a generator can be run through only once, so make "
        "another in each call."
    )
