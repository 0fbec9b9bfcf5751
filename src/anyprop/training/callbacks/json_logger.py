"""JSONLogger: the history's records as lines of JSON in a file."""

from __future__ import annotations

import json
from typing import Any

from anyprop.training.callbacks.logger import Logger


class JSONLogger(Logger):
    """Write one JSON object a line for each epoch as soon as it ends, named as in `EpochRecord`.

    Parameters
    ----------
    path : str or path
        The file. One that is there is replaced when a run starts; a resumed run writes the lines of the
        epochs before it again.

    Raises
    ------
    TypeError
        path is neither a str nor a path.
    OSError
        At the start of a run: the file cannot be written.

    Examples
    --------
    >>> callback = JSONLogger("training.jsonl")
    """

    def line(self, record: dict[str, Any]) -> str:
        return json.dumps(record, allow_nan=False) + "\n"
