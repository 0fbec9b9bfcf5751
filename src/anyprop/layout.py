"""Which arrays a layer or network has, by name, and where each is in the vector that holds them all."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from anyprop._typing import Array, Shape


class Spec(NamedTuple):
    """A layer's description of one of its arrays.

    Parameters
    ----------
    shape : tuple of int
        The array's shape.
    initial : float or None
        What to fill it with; None for a weight matrix, which the initializer draws.
    trainable : bool
        False for running statistics, which no gradient changes.
    """

    shape: Shape
    initial: float | None = None
    trainable: bool = True


@dataclass(frozen=True)
class Entry:
    """One named array: where it starts in its vector, and its shape."""

    name: str
    shape: Shape
    start: int
    trainable: bool

    @property
    def stop(self) -> int:
        """Where the array ends in its vector, exclusive."""
        return self.start + math.prod(self.shape)


class Place(NamedTuple):
    """Where an array is in its vector, its shape, and which vector that is."""

    range: slice
    shape: Shape
    trainable: bool


@dataclass(frozen=True)
class Layout:
    """Which arrays a `Parameters` holds, in order; only equal layouts can be computed together."""

    entries: tuple[Entry, ...]
    layers: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Number of layers of each part whose layers are counted, by the prefix of its names."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Kept, since each step of a compiled loop looks up the layout of its arrays.
        return hash(self.entries)

    def __reduce__(self) -> Any:
        # Without what is kept: another process hashes strings differently.
        return Layout, (self.entries, self.layers)

    @classmethod
    def of(cls, specs: Mapping[str, Spec], layers: Mapping[str, int] | None = None) -> Layout:
        """Lay out the arrays of `specs` one after another."""
        starts = {True: 0, False: 0}
        entries = []
        for name, spec in specs.items():
            entry = Entry(name, spec.shape, starts[spec.trainable], spec.trainable)
            starts[spec.trainable] = entry.stop
            entries.append(entry)
        return cls(tuple(entries), layers or {})

    def size(self, *, trainable: bool = True) -> int:
        """Count the numbers in the trainable (or in the running) vector."""
        return self._sizes[trainable]

    @cached_property
    def trainable(self) -> tuple[Entry, ...]:
        """The arrays in the trainable vector, in order."""
        return tuple(e for e in self.entries if e.trainable)

    @cached_property
    def _sizes(self) -> dict[bool, int]:
        return {
            trainable: sum(math.prod(e.shape) for e in self.entries if e.trainable == trainable)
            for trainable in (True, False)
        }

    @cached_property
    def children(self) -> dict[int | str, Place | tuple[Layout, slice, slice | None]]:
        """What the first part of a name leads to: an array, or a layout and its two ranges.

        The second range is None where it would be empty.
        """
        children: dict[int | str, Any] = {}
        groups: dict[str, list[Entry]] = {}
        for entry in self.entries:
            head, dot, rest = entry.name.partition(".")
            if dot:
                groups.setdefault(head, []).append(
                    Entry(rest, entry.shape, entry.start, entry.trainable)
                )
            else:
                place = Place(slice(entry.start, entry.stop), entry.shape, entry.trainable)
                children[head] = place
        for head, group in groups.items():
            specs = {e.name: Spec(e.shape, None, e.trainable) for e in group}
            prefix, counts = f"{head}.", self.layers.items()
            inner = {name[len(prefix) :]: n for name, n in counts if name.startswith(prefix)}
            layout = Layout.of(specs, inner)
            key = int(head) if head.isdecimal() else head  # a layer is asked for by its number
            kept = _range(head, group, trainable=False)
            children[key] = layout, _range(head, group, trainable=True) or slice(0, 0), kept
        for i in range(self.layers.get("", 0)):
            children.setdefault(i, (Layout(()), slice(0, 0), None))  # without arrays
        return children


@lru_cache(maxsize=16)
def splitter(layout: Layout) -> Callable[[Array], dict[str, Array]]:
    """Return what splits a vector of JAX into its arrays, by name, in one call."""

    def split(flat: Array) -> dict[str, Array]:
        return {e.name: flat[e.start : e.stop].reshape(e.shape) for e in layout.trainable}

    at_once: Callable[[Array], dict[str, Array]] = sys.modules["jax"].jit(split)
    return at_once


def _range(head: str, entries: list[Entry], *, trainable: bool) -> slice | None:
    chosen = [e for e in entries if e.trainable == trainable]
    if any(a.stop != b.start for a, b in pairwise(chosen)):
        raise ValueError(
            f"specs() must list the arrays of {head!r} one after another, with no others between them."
        )
    return slice(chosen[0].start, chosen[-1].stop) if chosen else None
