"""A recording that is repeated is made twice, to check that it does not depend on when it is made.

If the two differ, or something that the step holds changes from the first to the second, the step
is not a function of its arguments: it draws random numbers, counts, or reads a clock. It then has
to run as it is, and everything is restored as if it had not been recorded. If they are the same,
everything is as after one call, except that no array of a recording is left in a layer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from anyprop.repeatable.hidden_state import HiddenState
from anyprop.repeatable.ours import is_ours
from anyprop.repeatable.stand_in import TraceError, take_refused

T = TypeVar("T")

# What the recordings of two threads change would look to either as if it had changed by itself.
_one_at_a_time = threading.RLock()


def twice(record: Callable[[int], T], step: object, difference: Callable[[T, T], str | None]) -> T:
    """Record a step twice, and return the recording if both are the same; raise TraceError otherwise.

    A step without anything of the user's is recorded once. `record` is given 0 the first time and 1 the
    second; `difference` describes how two recordings differ, and returns None if they do not.
    """
    if is_ours(step):  # nothing to find out, and short runs save half of their planning
        return record(0)
    with _one_at_a_time:
        hidden = HiddenState(step)
        take_refused()  # of a recording before
        try:
            first = record(0)
            between = HiddenState(step)
            second = record(1)
            if (refused := take_refused()) is not None:
                raise refused
            found = difference(first, second) or between.change()
        except BaseException as error:
            hidden.put_back()
            # Whatever the step made of a refusal, arrays might not have led it there.
            if isinstance(error, Exception) and (refused := take_refused()) is not None:
                raise refused from None
            raise
        if found is None:
            hidden.put_back_stand_ins()
            return first
        hidden.put_back()
        whose = f" (look at {', '.join(hidden.classes)})" if hidden.classes else ""
        raise TraceError(
            f"recorded twice, it is not the same: {found}{whose}. A layer's random numbers belong "
            "into its noise(rng, shape), which draws again for each step, and forward_train takes "
            "them; what else differs from step to step can only run uncompiled, and compile=False "
            "says so"
        )
