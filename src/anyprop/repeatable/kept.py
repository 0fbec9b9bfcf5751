"""What was compiled for one run, kept for later ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any


class Kept(threading.local):
    """At most so many compiled objects of a thread, by what for, the last used at the end.

    Their `nbytes` are `most_bytes` in all at most.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.objects: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """Return what is kept for a key, from now on the last used; None if there is none."""
        found = self.objects.get(key)
        if found is not None:
            self.objects.move_to_end(key)
        return found

    def put(self, key: Any, compiled: Any) -> None:
        """Keep an object, and as many of the others as fit."""
        self.objects.pop(key, None)
        self.objects[key] = compiled
        while (
            len(self.objects) > self.most
            or sum(kept.nbytes for kept in self.objects.values()) > self.most_bytes
        ):
            # Also the one just put, if it alone is too large; the loop that made it has it still.
            self.objects.popitem(last=False)
