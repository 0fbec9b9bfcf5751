"""The batches of a stream: taken ahead of the steps, in the order in which they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from anyprop._typing import Array
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.sources import Ahead, Stream
from anyprop.training.data_error import failed
from anyprop.training.inputs import Inputs
from anyprop.training.reader import Taker


@dataclass(frozen=True)
class _Batch:
    """One batch, or what came in its place."""

    taker: Taker | None
    arrays: dict[str, Any]
    failure: Exception | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.arrays["x"]) if self.arrays else 0


class StreamInputs(Inputs):
    """The data of a run that come in batches."""

    def __init__(
        self, net: Layer, stream: Stream, params: Parameters, loss: Loss, *, seed: int
    ) -> None:
        super().__init__(net, seed=seed)
        self._stream, self._params, self._loss = stream, params, loss
        self._taker: Taker | None = None
        self._ahead: Ahead[_Batch] | None = None
        self._waited = 0.0  # of the present epoch, when it is closed
        self._begun = False  # whether a step was done
        self._at = 0, 0

    @property
    def waited(self) -> float:
        return self._waited if self._ahead is None else self._ahead.waited

    @property
    def weighed(self) -> bool:
        return self._taker is not None and self._taker.weighed

    def following(self, order: Iterable[Any], epoch: int) -> Iterator[_Batch]:
        """Return the batches of an epoch; those that a resumed run had done come once more."""
        self.close()
        self._ahead = Ahead(self._read(epoch), self._stream.ahead)
        for k, batch in enumerate(self._ahead):
            self._at = epoch, k
            yield batch
            if batch.failure is not None:  # in a part that was done before
                raise self._failed(batch.failure)

    def ready(self, rows: _Batch) -> _Batch:
        """Return the batch; raise the error if the stream failed."""
        if rows.failure is not None:
            raise self._failed(rows.failure)
        if self._taker is None:
            assert rows.taker is not None
            self._taker = rows.taker
            self._like(self._taker.first["x"])
        return rows

    def close(self) -> None:
        self._waited = self.waited
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()

    def _arrays(
        self, i: int, batch: _Batch, cut: slice | None, params: Parameters
    ) -> dict[str, Array | None]:
        self._begun = True
        assert batch.taker is not None
        return batch.taker.moved(batch.arrays)

    def _read(self, epoch: int) -> Iterator[_Batch]:
        taker = self._taker
        try:
            with closing(self._stream.read(epoch)) as batches:
                for parts in batches:
                    if taker is None:
                        taker = Taker(
                            "data", self._stream, parts, self._net, self._params, self._loss
                        )
                    yield _Batch(taker, taker.taken(parts, range(len(parts[0]))))
        except Exception as error:  # it comes when the batches before are done
            yield _Batch(taker, {}, error)

    def _failed(self, failure: Exception) -> Exception:
        epoch, k = self._at
        return failed(f"batch {k} of epoch {epoch}", failure, epoch, k, None, begun=self._begun)
