"""Examples in the order in which they are stored, held in memory or read from a source.

A portion is what is read at a time: some batches of a source, and all of them where arrays hold them.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from anyprop._typing import Array
from anyprop.backend import Moved, Pinned, to_host
from anyprop.distributed.communicator import Communicator
from anyprop.distributed.shards import shares
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sources import Ahead, Source, Stream
from anyprop.training._data_checks import check_data
from anyprop.training.batches import slices
from anyprop.training.reader import Reader, Taker

Batch: TypeAlias = dict[str, Any]
"""Some rows beside the parameters: x, t and sample_weight, as a step takes them."""


class Examples(Protocol):
    """What is measured, and what messages call it."""

    @property
    def name(self) -> str: ...

    def portions(self, batch_size: int, communicator: Communicator) -> Generator[Iterable[Batch]]:
        """Return this rank's batches, a portion at a time; the iterator has to be closed."""
        ...


@dataclass(frozen=True)
class Held:
    """Examples that are arrays beside the parameters."""

    x: Array
    t: Array
    weight: Array | None = None
    name: str = "data"

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def first(self) -> Batch:
        """The first example."""
        return self._rows(slice(0, 1))

    @property
    def ends(self) -> tuple[Any, ...]:
        """Numbers that are the same for examples of which the first and the last are the same."""
        return tuple(_ends(a) for a in (self.x, self.t, self.weight) if a is not None)

    def portions(self, batch_size: int, communicator: Communicator) -> Generator[Iterable[Batch]]:
        """Return this rank's batches in one portion."""
        (rows,) = shares(len(self), communicator)
        cuts = slices(rows.start, rows.stop, batch_size)
        yield map(self._rows, cuts)

    def _rows(self, cut: slice) -> Batch:
        weight = None if self.weight is None else self.weight[cut, ...]
        return {"x": self.x[cut, ...], "t": self.t[cut, ...], "sample_weight": weight}


@dataclass(frozen=True)
class Read:
    """Examples that a source reads, some batches at a time and ahead of their use."""

    reader: Reader

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def name(self) -> str:
        """What messages call the data."""
        return self.reader.name

    @property
    def first(self) -> Batch:
        """The first example."""
        return self.reader.moved(self.reader.first)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Numbers that are the same for examples of which the first and the last are the same."""
        return tuple(map(_ends, self.reader.source.read([0, len(self) - 1])))

    def portions(self, batch_size: int, communicator: Communicator) -> Generator[Iterable[Batch]]:
        """Return this rank's batches, a portion at a time."""
        (rows,) = shares(len(self), communicator)
        cuts = slices(rows.start, rows.stop, batch_size)
        together = self.reader.together(batch_size)
        parts = (cuts[i : i + together] for i in range(0, len(cuts), together))
        pinned = self.reader.pinned()
        if pinned is not None:
            yield from self._overlapping(pinned, parts)
            return
        # In generators, where a StopIteration that a source raises is an error; it would end a map.
        with closing(Ahead((self._read(p) for p in parts), self.reader.source.ahead)) as read:
            for part, arrays in read:
                yield _moved(self.reader, arrays, _inner(part))

    def _overlapping(
        self, pinned: Pinned, parts: Iterable[list[slice]]
    ) -> Generator[Iterable[Batch]]:
        """Return the batches of portions that are copied to the device while it computes."""

        def put(part: list[slice]) -> tuple[list[slice], Moved]:
            arrays = self._read(part)[1]
            return part, pinned.put(arrays, np.arange(arrays["x"].shape[0]))

        puts = (put(part) for part in parts)
        with closing(pinned), closing(Ahead(puts, self.reader.source.ahead)) as read:
            for part, moved in read:
                moved.hold()
                yield (self.reader.copied(moved.arrays, cut) for cut in _inner(part))
                moved.free()

    def _read(self, part: list[slice]) -> tuple[list[slice], dict[str, Any]]:
        start, stop = part[0].start, part[-1].stop
        try:
            return part, self.reader.read(np.arange(start, stop))[0]
        except Exception as error:
            error.add_note(
                f"It was raised while rows {start}..{stop - 1} of {self.reader.name} were read."
            )
            raise


@dataclass(frozen=True)
class Passing:
    """Examples of the first pass of a stream, for one process; the arguments are those of `Taker`."""

    name: str
    stream: Stream
    net: Layer
    params: Parameters
    loss: Loss

    def portions(self, batch_size: int, communicator: Communicator) -> Generator[Iterable[Batch]]:
        """Return the batches, those of the stream cut to at most so many rows."""
        with closing(Ahead(self._read(), self.stream.ahead)) as read:
            for taker, arrays in read:
                yield _moved(taker, arrays, slices(0, len(arrays["x"]), batch_size))

    def _read(self) -> Iterator[tuple[Taker, dict[str, Any]]]:
        taker = None
        with closing(self.stream.read(0)) as batches:
            for k, parts in enumerate(batches):
                try:
                    if taker is None:
                        taker = Taker(
                            self.name, self.stream, parts, self.net, self.params, self.loss
                        )
                    arrays = taker.taken(parts, range(parts[0].shape[0]))
                except (TypeError, ValueError) as error:
                    error.add_note(f"It was raised for batch {k} of {self.name}.")
                    raise
                yield taker, arrays


def _ends(array: Array) -> tuple[int, ...]:
    """Return numbers that are the same for arrays with the same first and last rows."""
    return tuple(
        zlib.crc32(to_host(array[r, ...]).tobytes()) for r in (slice(0, 1), slice(-1, None))
    )


def _inner(part: list[slice]) -> Iterator[slice]:
    """Return where the batches of a portion are within it."""
    start = part[0].start
    return (slice(cut.start - start, cut.stop - start) for cut in part)


def _moved(taker: Taker, arrays: dict[str, Any], cuts: Iterable[slice]) -> Iterator[Batch]:
    """Move batches of a portion, which is on the host."""
    for cut in cuts:
        yield taker.moved({n: None if a is None else a[cut] for n, a in arrays.items()})


Stored: TypeAlias = Held | Read
"""Examples of which the number is known, and the first."""


def examples_of(
    name: str,
    data: Any,
    net: Layer,
    params: Parameters,
    loss: Loss,
    *,
    sample_weight: Array | None = None,
    augmenting: bool = False,
) -> Stored:
    """Check (x, t) or a source, called `name`, as far as that can be done before it is read."""
    if not isinstance(data, Source):
        return Held(*check_data(name, data, net, params, loss, sample_weight), name)
    if sample_weight is not None:
        raise ValueError(
            "fit: sample_weight goes with arrays; give the weights as third value of the Source."
        )
    return Read(Reader(name, data, net, params, loss, augmenting=augmenting))
