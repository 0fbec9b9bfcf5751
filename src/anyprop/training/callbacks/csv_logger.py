"""CSVLogger: the history's records as a table in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from anyprop.history import EpochRecord
from anyprop.training.callbacks.logger import Logger


class CSVLogger(Logger):
    """Write one row for each epoch as soon as it ends, under the names of `EpochRecord`.

    Parameters
    ----------
    path : str or path
        The file. One that is there is replaced when a run starts; a resumed run writes the rows of the
        epochs before it again.

    Raises
    ------
    TypeError
        path is neither a str nor a path.
    OSError
        At the start of a run: the file cannot be written.

    Examples
    --------
    >>> callback = CSVLogger("training.csv")
    """

    def heading(self) -> str:
        return _row(field.name for field in fields(EpochRecord))

    def line(self, record: dict[str, Any]) -> str:
        return _row(record.values())


def _row(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
