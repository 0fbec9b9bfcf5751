"""A call that fails leaves an estimator as it was.

Attributes are restored by name, lists that have grown are cut, and the state of the random number
generator is restored. A step may overwrite the parameters and the optimizer's memory that it starts
from, so a call that goes on from them keeps a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from sklearn.utils import check_random_state

from anyprop._typing import Array
from anyprop.backend import name_of


@contextmanager
def unchanged_on_error(estimator: Any, *, goes_on: bool) -> Iterator[None]:
    """Restore an estimator to its state before if the body raises anything, Ctrl-C included.

    `goes_on` says whether the body trains on from the parameters that are there.
    """
    written = _written_over(estimator) if goes_on else []
    if written:
        # The memory stays for the next call: asking for it takes longer than copying.
        estimator._copies = _copied(written, getattr(estimator, "_copies", []))
    attributes = dict(vars(estimator))
    lengths = [(value, len(value)) for value in attributes.values() if isinstance(value, list)]
    rng = estimator.random_state
    rng = None if isinstance(rng, Integral) else check_random_state(rng)
    drawn = None if rng is None else rng.get_state(legacy=False)
    try:
        yield
    except BaseException:
        for array, copy in zip(written, attributes.get("_copies", []), strict=False):
            array[...] = copy
        for grown, length in lengths:
            del grown[length:]
        vars(estimator).clear()
        vars(estimator).update(attributes)
        if rng is not None:
            rng.set_state(drawn)
        raise


def _written_over(estimator: Any) -> list[Array]:
    """List the vectors that a compiled step may write over."""
    memory = getattr(estimator, "_optimizer", None)
    slots = [] if memory is None else memory.state.slots.values()
    owned = [p for p in (getattr(estimator, "_parameters", None), *slots) if p is not None]
    owned = [p for p in owned if name_of(p.xp) in ("numpy", "cupy")]
    return [v for p in owned for v in (p.flat, p.running) if v is not None]


def _copied(arrays: list[Array], into: list[Array]) -> list[Array]:
    """Copy arrays, into others if those are of the same shapes and dtypes."""
    if [(a.shape, a.dtype) for a in arrays] != [(a.shape, a.dtype) for a in into]:
        return [array.copy() for array in arrays]
    for copy, array in zip(into, arrays, strict=True):
        copy[...] = array
    return into
