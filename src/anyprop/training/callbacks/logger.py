"""What CSVLogger and JSONLogger share: a file with a line for each epoch."""

from __future__ import annotations

from os import PathLike
from typing import Any

from anyprop._files import as_path, check_folder, naming
from anyprop.history import EpochRecord, record_dict
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run


class Logger(Callback):
    """Writes the records of a run into a file, each as soon as its epoch ends; a subclass says how."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = self._place = as_path(path)

    def heading(self) -> str:
        """Write what comes before the first record."""
        return ""

    def line(self, record: dict[str, Any]) -> str:
        """Write a record, by the names of `EpochRecord`."""
        raise NotImplementedError

    def on_start(self, run: Run) -> None:
        check_folder(self.path)
        self._write("w", self.heading(), *run.history.epochs)

    def on_epoch(self, run: Run) -> None:
        self._write("a", "", run.history.epochs[-1])

    def _write(self, mode: str, heading: str, *records: EpochRecord) -> None:
        lines = [self.line(record_dict(record)) for record in records]
        with naming(self.path), self.path.open(mode, newline="", encoding="utf-8") as file:
            file.write(heading + "".join(lines))
