"""Long vectors on the host, updated a piece at a time.

A rule is elementwise, so the pieces of a vector can be updated one after another, with the same numbers,
bit for bit. What the rule computes on its way then stays in the processor's cache. In arrays of the
vector's own length it would be in memory that the system provides anew, page by page, which takes longer
than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from anyprop._autograd import detached
from anyprop._typing import Array, Tree
from anyprop.backend import computes_on_host, create, memory_range, namespace
from anyprop.parameters import Parameters

PIECE = 1 << 17
"""Numbers in a piece: few enough for the cache, and so many that the calls for each hardly count."""
LONG = 1 << 20
"""Longest vector that is updated at once: for arrays of its length, what was freed is taken again."""

Update = Callable[[Array, Array, dict[str, Array], Array | None], tuple[Array, dict[str, Array]]]
"""``(p, g, slots, mask) -> (p, slots)``, elementwise."""


def is_long(params: Tree) -> bool:
    """Return whether parameters are a vector that is updated in pieces."""
    # Asked in every update, so first what is not so of a small network.
    return (
        type(params) is Parameters and params.flat.shape[0] > LONG and computes_on_host(params.flat)
    )


def in_pieces(
    update: Update,
    params: Parameters,
    grads: Parameters,
    slots: dict[str, Parameters],
    mask: Parameters | None,
    *,
    donate: bool,
) -> tuple[Parameters, dict[str, Parameters]]:
    """Update parameters a piece at a time.

    Parameters
    ----------
    update : callable
        Updates a piece.
    params, grads, slots, mask
        As `Optimizer.apply` takes them.
    donate : bool
        Whether the results may be stored in `params` and `slots`.

    Returns
    -------
    params, slots
        What `update` returns, of all pieces.
    """
    p, g = params.flat, grads.flat
    m = None if mask is None else mask.flat
    kept = {name: slot.flat for name, slot in slots.items()}
    olds = [p, *kept.values()]
    news = olds if donate and _can_be_written(olds, g) else []
    n = p.shape[0]
    for start, stop in pairwise([*range(0, n, PIECE), n]):
        rows = slice(start, stop)
        of_p, of_slots = update(
            p[rows],
            g[rows],
            {name: vector[rows] for name, vector in kept.items()},
            None if m is None else m[rows],
        )
        pieces = [of_p, *of_slots.values()]
        news = news or [
            create(namespace(p).empty, (n,), like=p, dtype=piece.dtype) for piece in pieces
        ]
        for new, piece in zip(news, pieces, strict=True):
            new[rows] = piece
    first, *others = map(detached, news)
    pairs = zip(slots.items(), others, strict=True)
    return (
        Parameters(params.layout, first, params.running),
        {name: Parameters(slot.layout, vector) for (name, slot), vector in pairs},
    )


def _can_be_written(vectors: list[Array], g: Array) -> bool:
    """Return whether what is stored in vectors leaves as it is what is read of them and g later."""
    spans = [memory_range(vector) or (0, 0) for vector in (*vectors, g)]
    sizes = [vector.shape[0] * vector.itemsize for vector in (*vectors, g)]
    if any(stop - start != size for (start, stop), size in zip(spans, sizes, strict=True)):
        return False  # they are not contiguous, or one number in many places
    if any(stop > start for (_, stop), (start, _) in pairwise(sorted(set(spans)))):
        return False
    try:
        for vector in vectors:
            vector[:1] = vector[:1]
    except (ValueError, RuntimeError):  # read-only memory; tensors of the inference mode
        return False
    return True
