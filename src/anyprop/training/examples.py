"""Examples in the order in which they are stored, held in memory or read from a source.

A portion is what is read at a time: some batches of a source, and all of them where arrays hold them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from anyprop._typing import Array
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sources import Ahead, Source
from anyprop.training._data_checks import check_data
from anyprop.training.batches import slices
from anyprop.training.ranks import ends
from anyprop.training.reader import Reader

Batch: TypeAlias = tuple[Array, Array, Array | None]
"""x, t and the weights of some rows, beside the parameters."""

_SIZE = 16 << 20
"""Bytes of a portion, unless one batch is larger."""


class Examples(Protocol):
    """What is measured."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    @property
    def first(self) -> Batch:
        """The first example."""
        ...

    @property
    def ends(self) -> tuple[Any, ...]:
        """Numbers that are the same for examples of which the first and the last are the same."""
        ...

    def portions(self, rows: slice, batch_size: int) -> Generator[Iterable[Batch]]:
        """Return the batches of some rows, a portion at a time; the iterator has to be closed."""
        ...


@dataclass(frozen=True)
class Held:
    """Examples that are arrays beside the parameters."""

    x: Array
    t: Array

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def first(self) -> Batch:
        """The first example."""
        return self.x[:1, ...], self.t[:1, ...], None

    @property
    def ends(self) -> tuple[Any, ...]:
        """Numbers that are the same for examples of which the first and the last are the same."""
        return ends(self.x), ends(self.t)

    def portions(self, rows: slice, batch_size: int) -> Generator[Iterable[Batch]]:
        """Return the batches of some rows in one portion."""
        cuts = slices(rows.start, rows.stop, batch_size)
        yield ((self.x[cut, ...], self.t[cut, ...], None) for cut in cuts)


@dataclass(frozen=True)
class Read:
    """Examples that a source reads, some batches at a time and ahead of their use."""

    reader: Reader

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def first(self) -> Batch:
        """The first example."""
        return self._batch(self.reader.first, slice(0, 1))

    @property
    def ends(self) -> tuple[Any, ...]:
        """Numbers that are the same for examples of which the first and the last are the same."""
        return tuple(map(ends, self.reader.source.read([0, len(self) - 1])))

    def portions(self, rows: slice, batch_size: int) -> Generator[Iterable[Batch]]:
        """Return the batches of some rows, a portion at a time."""
        cuts = slices(rows.start, rows.stop, batch_size)
        together = max(1, _SIZE // (batch_size * self.reader.row_bytes))
        parts = (cuts[i : i + together] for i in range(0, len(cuts), together))
        with closing(Ahead(map(self._read, parts), self.reader.source.ahead)) as read:
            for part, arrays in read:
                start = part[0].start
                inner = (slice(cut.start - start, cut.stop - start) for cut in part)
                yield (self._batch(arrays, cut) for cut in inner)

    def _read(self, part: list[slice]) -> tuple[list[slice], dict[str, Any]]:
        start, stop = part[0].start, part[-1].stop
        try:
            return part, self.reader.read(np.arange(start, stop))
        except Exception as error:
            error.add_note(
                f"It was raised while rows {start}..{stop - 1} of {self.reader.name} were read."
            )
            raise

    def _batch(self, arrays: dict[str, Any], rows: slice) -> Batch:
        x, t, weight = (
            None if arrays[name] is None else self.reader.beside(name, arrays[name][rows])
            for name in ("x", "t", "sample_weight")
        )
        return x, t, weight


def examples_of(name: str, data: Any, net: Layer, params: Parameters, loss: Loss) -> Examples:
    """Check what is to be measured, as far as that can be done before it is read.

    Parameters
    ----------
    name : str
        What messages call the data.
    data : (x, t) or Source
        The examples.
    net : Layer
        The network.
    params : Parameters
        Its parameters.
    loss : Loss
        The loss.
    """
    if isinstance(data, Source):
        return Read(Reader(name, data, net, params, loss))
    return Held(*check_data(name, data, net, params, loss))
