"""The numbers that a training run leaves behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any

from anyprop._checks import few


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history: what was known at the end of an epoch.

    Parameters
    ----------
    epoch : int >= 1
        Number of the pass through the data that ended.
    step : int >= 1
        Steps done so far.
    train_loss : float
        Mean loss of the epoch's batches, weighted by their rows, each before its own update.
    validation_loss : float or None
        Loss on the validation data after the epoch; None without validation data.
    validation_accuracy : float in [0, 1] or None
        Share of the validation data that is predicted right; None where that has no meaning.
    lr : float
        Learning rate of the epoch's last update.
    seconds : float
        Wall time of the epoch, its validation included.
    waited : float or None
        Seconds of these in which the steps waited for a `Source` to be read; None for arrays. Where it
        is a large part, the reader is what is slow, not the network.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float
    waited: float | None = None


@dataclass
class History:
    """The losses of a run by step, and its records by epoch.

    Parameters
    ----------
    losses : list of float
        Loss of every step's batch, before the update.
    epochs : list of EpochRecord
        One record for each epoch, and for the part of an epoch that a run ended in.

    Examples
    --------
    >>> history = History([2.3, 1.9])
    >>> history
    History(2 steps, 0 epochs, loss 2.3 to 1.9)
    >>> History.from_dict(history.to_dict()) == history
    True
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.losses:
            return "History(0 steps)"
        losses = f"loss {self.losses[0]:.4g} to {self.losses[-1]:.4g}"
        return f"History({len(self.losses)} steps, {len(self.epochs)} epochs, {losses})"

    def to_dict(self) -> dict[str, Any]:
        """Return the history as lists, dicts, numbers and None, as JSON holds them.

        JSON knows no NaN and no infinity: a validation loss that is either becomes None.
        """
        return {"losses": list(self.losses), "epochs": [record_dict(e) for e in self.epochs]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> History:
        """Return the history that `to_dict` described.

        Raises
        ------
        ValueError
            Something is missing or unexpected.
        """
        try:
            return cls(
                [float(_number("a loss", value)) for value in content["losses"]],
                [_record(record) for record in content["epochs"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not the history of a training run: {error}.") from None


def _record(content: Mapping[str, Any]) -> EpochRecord:
    """Return the record of what `record_dict` returned."""
    record = EpochRecord(**content)
    for name, value in vars(record).items():
        if name in ("epoch", "step"):
            _number(name, value, Integral)
        elif value is not None:
            _number(name, value)
    return record


def _number(name: str, value: Any, kind: type = Real) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} is {few([value])}")
    return value


def record_dict(record: EpochRecord) -> dict[str, Any]:
    """Return one record as JSON holds it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(record).items()
    }
