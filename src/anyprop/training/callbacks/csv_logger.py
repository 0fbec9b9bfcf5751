"""CSVLogger: the history's records as a table in a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import fields
from os import PathLike
from typing import Any

from anyprop._files import as_path, check_folder
from anyprop.history import EpochRecord, record_dict
from anyprop.training.callbacks._files import naming
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run


class CSVLogger(Callback):
    """Write one row for each epoch as soon as it ends, under the names of `EpochRecord`.

    Parameters
    ----------
    path : str or path
        The file; an older one is replaced when a run starts, and so is
        that of the run that is resumed, whose rows come again.

    Raises
    ------
    OSError
        At the start of a run: the file cannot be written.

    Examples
    --------
    >>> callback = CSVLogger("training.csv")
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = as_path(path)

    def on_start(self, run: Run) -> None:
        check_folder(self.path)
        names = [field.name for field in fields(EpochRecord)]
        self._write("w", [names, *map(_row, run.history.epochs)])

    def on_epoch(self, run: Run) -> None:
        self._write("a", [_row(run.history.epochs[-1])])

    def _write(self, mode: str, rows: Iterable[Iterable[Any]]) -> None:
        with naming(self.path), self.path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def _row(record: EpochRecord) -> Iterable[Any]:
    return record_dict(record).values()
