"""JSONLogger: the history's records as lines of JSON in a file."""

from __future__ import annotations

import json
from os import PathLike

from anyprop._files import as_path, check_folder
from anyprop.history import EpochRecord, record_dict
from anyprop.training.callbacks._files import naming
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run


class JSONLogger(Callback):
    """Write one JSON object a line for each epoch as soon as it ends, as `EpochRecord` names things.

    Parameters
    ----------
    path : str or path
        The file; an older one is replaced when a run starts, and so is
        that of the run that is resumed, whose lines come again.

    Raises
    ------
    OSError
        At the start of a run: the file cannot be written.

    Examples
    --------
    >>> callback = JSONLogger("training.jsonl")
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = as_path(path)

    def on_start(self, run: Run) -> None:
        check_folder(self.path)
        lines = "".join(map(_line, run.history.epochs))
        with naming(self.path):
            self.path.write_text(lines, encoding="utf-8")

    def on_epoch(self, run: Run) -> None:
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(run.history.epochs[-1]))


def _line(record: EpochRecord) -> str:
    return json.dumps(record_dict(record), allow_nan=False) + "\n"
