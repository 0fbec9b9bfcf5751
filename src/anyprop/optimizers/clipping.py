"""Clipping: what keeps a gradient, or its norm, from being too large.

    value       each entry g:           g <- min(max(g, -c), c)
    norm        arrays g_1, g_2, ...:   g_i <- g_i c / max(|g|, c),   |g|^2 = sum_i sum g_i^2

Where an entry is infinite or NaN, all that its norm covers becomes NaN, so that the run stops.
"""

from __future__ import annotations

import math
from functools import partial, reduce

from anyprop import _tree
from anyprop._numerics import cast, largest_of, widened
from anyprop._typing import Array, Tree
from anyprop.backend import namespace


def clipped_to_value(grads: Tree, largest: float) -> Tree:
    """Clip every entry to [-largest, largest]."""
    return _tree.map_leaves(partial(_held, largest=largest), grads)


def clipped_to_norms(grads: Tree, of_each: float | None, of_all: float | None) -> Tree:
    """Reduce Euclidean norms to the largest allowed: of each array, then of all together."""
    if of_each is not None:
        grads = _tree.map_arrays(lambda g: _shrunk(of_each, [g])[0], grads)
    if of_all is not None:
        grads = _tree.rebuild(grads, _shrunk(of_all, _tree.leaves(grads)))
    return grads


def _held(g: Array, largest: float) -> Array:
    xp = namespace(g)
    largest = min(largest, largest_of(xp, g.dtype))
    return xp.minimum(xp.maximum(g, -largest), largest)


def _shrunk(largest: float, gs: list[Array]) -> list[Array]:
    """Reduce the joint Euclidean norm of `gs` to `largest`, where it is above."""
    xp = namespace(*gs)
    wide = [widened(xp, g) for g in gs]
    tops = [xp.max(xp.abs(g)) for g in wide if math.prod(g.shape)]
    if not tops:
        return gs
    # Squares of large entries overflow where what comes of the norm does not. The unit has a reciprocal
    # that is not a subnormal number, which JAX would treat as 0.
    top = reduce(xp.maximum, tops)
    limits = xp.finfo(top.dtype)
    unit = xp.minimum(top, 1.0 / float(limits.smallest_normal))
    unit = unit + xp.astype(unit == 0.0, unit.dtype)
    squares = []
    for g in wide:
        scaled = g / cast(xp, unit, g.dtype)
        squares.append(xp.sum(scaled * scaled))
    limit = largest / xp.maximum(xp.sqrt(sum(squares)), 1.0)
    limit = xp.where(top <= float(limits.max), limit, xp.nan)  # the run stops, as for NaN
    fits = unit <= limit
    unit, limit = xp.where(fits, 1.0, unit), xp.where(fits, 1.0, limit)
    return [
        cast(xp, w / cast(xp, unit, w.dtype) * cast(xp, limit, w.dtype), g.dtype)
        for g, w in zip(gs, wide, strict=True)
    ]
