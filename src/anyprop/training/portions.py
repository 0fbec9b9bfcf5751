"""The batches of a source: read some at a time, ahead of the steps, in the order of the run.

    order         rows of batch k, k = 0, 1, ...     as for arrays: a function of (seed, epoch)
    portion       as many batches of one size as 16 MiB hold, from the first that a step takes
    cut           this rank's rows of each part of each batch
    read          by `Source.read`, augmented and checked
    -- here the thread of `Ahead` ends --
    batch         its place in the portion

The results depend neither on the size of the portions nor on the thread. The next portion is waited for
only when a step wants its first batch, so that a run which ends before it does not wait; that is why a
portion says which batch follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import Moved, Pinned
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters
from anyprop.sources import Ahead
from anyprop.training.batches import stream
from anyprop.training.data_error import failed
from anyprop.training.inputs import Inputs, Parts, row_indices
from anyprop.training.reader import Reader


@dataclass
class _Portion:
    """Batches of one size that were read together."""

    epoch: int
    first: int
    """The number of the first batch in the epoch."""
    batches: list[Any]
    """The rows of each whole batch."""
    rows: Any
    """The rows that were read: of each batch, those of this rank."""
    edges: list[int]
    """Where the parts of a batch begin among those that were read of it, and where they end."""
    arrays: dict[str, Any] | None = None
    """What was read, each example once unless it is augmented."""
    places: Any = None
    """Where in the arrays each of the rows is."""
    failure: Exception | None = None
    following: Any = None
    """The rows of the batch after these; None if there is none, or what drawing it raised."""
    there: Moved | None = None
    """The rows on their way to the device, in order, if they are copied while it computes."""
    moved: dict[str, Any] | None = None

    def __str__(self) -> str:
        last = self.first + len(self.batches) - 1
        which = f"batches {self.first}..{last}" if last > self.first else f"batch {last}"
        return f"{which} of epoch {self.epoch}"


@dataclass(frozen=True)
class _Batch:
    """One batch of a portion, and its place there."""

    rows: Any
    portion: _Portion
    place: int

    @property
    def size(self) -> int:
        """Number of rows, on all ranks together."""
        return int(self.rows.size)


class SourceInputs(Inputs):
    """The data of a run that are read from a source, on so many `ranks`.

    What the source draws is, like the noise, a function of (seed, epoch, number of the batch). Row
    indices that are `trusted` are not checked.
    """

    def __init__(
        self,
        net: Layer,
        reader: Reader,
        *,
        seed: int,
        trusted: bool,
        parts: Parts | None = None,
        ranks: int = 1,
    ) -> None:
        super().__init__(net, seed=seed, parts=parts)
        self._like(reader.first["x"])
        self._reader, self._trusted, self._ranks = reader, trusted, ranks
        self._ahead: Ahead[_Portion] | None = None
        self._pinned: Pinned | None = None
        self._waited = 0.0  # for portions of the present epoch, before those of `_ahead`
        self._portion: _Portion | None = None
        self._taken = 0  # batches of the portion
        self._from: tuple[int, int, Iterator[Any]] | None = None
        self._begun = False  # whether a step was done
        self._longest: dict[int, int] = {}  # rows of a portion, by the size of its batches

    @property
    def waited(self) -> float:
        return self._waited + (0.0 if self._ahead is None else self._ahead.waited)

    @property
    def weighed(self) -> bool:
        return self._reader.weighed

    def following(self, order: Iterable[Any], epoch: int) -> Iterator[Any]:
        self.close()
        self._waited = 0.0
        batches = iter(order)
        for k, rows in enumerate(batches):
            self._from = epoch, k, batches
            yield rows
            if self._portion is not None:  # reading began with this one, and goes on with the rest
                break
        else:
            return
        while True:
            yield from self._portion.batches[1:]
            rows = self._portion.following
            if rows is None:
                return
            if isinstance(rows, BaseException):
                raise rows
            yield rows

    def ready(self, rows: Any) -> _Batch:
        """Return the batch of row indices, whose portion is waited for; the source may have failed."""
        if self._ahead is None:
            assert self._from is not None
            self._pinned = self._reader.pinned()
            portions = self._portions(self._pinned, self._checked(rows), *self._from)
            self._ahead = Ahead(portions, self._reader.source.ahead)
        portion = self._portion
        if portion is None or self._taken == len(portion.batches):
            if portion is not None and portion.there is not None:
                portion.there.free()
            portion = self._portion = next(self._ahead)
            self._taken = 0
            if portion.failure is not None:
                what, k, read = str(portion), portion.first, portion.rows
                raise failed(what, portion.failure, portion.epoch, k, read, begun=self._begun)
            if portion.there is not None:
                portion.there.hold()
        place, self._taken = self._taken, self._taken + 1
        return _Batch(portion.batches[place], portion, place)

    @property
    def ended(self) -> bool:
        portion = self._portion
        return portion is not None and self._taken == len(portion.batches)

    def many(self, batches: Sequence[_Batch]) -> tuple[Mapping[str, Any], Sequence[Any]]:
        """Return arrays that hold all these batches, and the rows of each within the arrays."""
        self._begun = True
        portion = batches[0].portion
        if portion.moved is None:
            portion.moved = self._moved(portion)
        n = portion.edges[-1]
        starts = (batch.place * n for batch in batches)
        return portion.moved, [portion.places[a : a + n].astype("int32") for a in starts]

    def close(self) -> None:
        self._waited = self.waited
        ahead, self._ahead, self._portion = self._ahead, None, None
        pinned, self._pinned = self._pinned, None
        with nullcontext() if pinned is None else closing(pinned):
            if ahead is not None:
                ahead.close()

    def _arrays(
        self, i: int, batch: _Batch, cut: slice | None, params: Parameters
    ) -> dict[str, Any]:
        self._begun = True
        portion = batch.portion
        start = batch.place * portion.edges[-1]
        rows = slice(start + portion.edges[i], start + portion.edges[i + 1])
        if portion.there is not None:
            return self._reader.copied(portion.there.arrays, rows)
        places, arrays = portion.places[rows], portion.arrays or {}
        return self._reader.moved(
            {n: None if a is None else np.take(a, places, axis=0) for n, a in arrays.items()}
        )

    def _moved(self, portion: _Portion) -> dict[str, Array | None]:
        """Move a portion to the device, as long as the longest of its kind: loops compile for shapes."""
        if portion.there is not None:  # by graphs, which go by addresses
            others = dict(portion.there.arrays)
            return {"x": others.pop("x"), **self._reader.copied(others)}
        size = portion.batches[0].size
        longest = self._longest[size] = max(portion.rows.size, self._longest.get(size, 0))

        def move(name: str, array: Any) -> Array | None:
            if array is None:
                return None
            if array.shape[0] < longest:
                short, array = array, np.zeros((longest, *array.shape[1:]), array.dtype)
                array[: short.shape[0]] = short
            return self._reader.beside(name, array, small=name == "x")

        return {name: move(name, array) for name, array in (portion.arrays or {}).items()}

    def _checked(self, rows: Any) -> Any:
        if self._trusted:
            return rows
        return row_indices(rows, len(self._reader)).astype("int64", copy=False)

    def _portions(
        self, pinned: Pinned | None, rows: Any, epoch: int, k: int, order: Iterator[Any]
    ) -> Iterator[_Portion]:
        """Read the batch k of an epoch, and those that follow in the order."""
        while True:
            batches, following = [rows], None
            most = self._reader.together(-(-rows.size // self._ranks))
            try:
                for rows in order:
                    rows = self._checked(rows)
                    if len(batches) == most or rows.size != batches[0].size:
                        following = rows
                        break
                    batches.append(rows)
            except BaseException as error:  # it comes when these batches are done
                following = error
            portion = self._read(pinned, batches, epoch, k)
            portion.following = following
            yield portion
            if following is None or isinstance(following, BaseException) or portion.failure:
                return
            rows, k = following, k + len(batches)

    def _read(self, pinned: Pinned | None, batches: list[Any], epoch: int, k: int) -> _Portion:
        size, source = batches[0].size, self._reader.source
        cuts = [slice(0, size)] if self._parts is None else self._parts(size)
        edges = np.cumsum([0, *(cut.stop - cut.start for cut in cuts)]).tolist()

        def joined(wholes: Iterable[Any]) -> Any:
            return np.concatenate([whole[cut] for whole in wholes for cut in cuts])

        portion = _Portion(epoch, k, batches, joined(batches), edges)
        try:
            drawn = None
            if source.draw is not None:
                # Not from the generators of their noise.
                draws = (stream(self._seed, epoch, k + i, 1) for i in range(len(batches)))
                drawn = joined(self._reader.drawn(rng, size) for rng in draws)
            portion.arrays, portion.places = self._reader.read(portion.rows, drawn)
            if pinned is not None:
                portion.there = pinned.put(portion.arrays, portion.places)
                portion.places = np.arange(len(portion.places))
        except Exception as error:  # it comes when the batches before these are done
            portion.failure = error
        return portion
