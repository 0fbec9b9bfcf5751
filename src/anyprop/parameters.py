"""All parameters of a network in one contiguous vector, and views of it by name.

The optimizer, clipping, an all-reduce and a checkpoint each see one array: one update, one kernel,
one message, one file. `params[0].W` is a view of that array (on JAX a slice), so a layer reads its
own matrix without a copy.

What a layer also keeps and no gradient ever changes (the running statistics of BatchNorm) is in a
second vector, `running`; networks without such layers have none.

To XLA a slice of a vector is a copy. So what one compiled step on JAX hands to the next is in parts, the
arrays themselves. They are joined when someone asks for `flat`, and split again by the next step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from anyprop._checks import check_shape, kind
from anyprop._typing import Array, Namespace
from anyprop.backend import check_array, concatenated, name_of, namespace, reshaped
from anyprop.layout import Entry, Layout, Place, splitter


class Parameters:
    """The parameters of a layer or network: one flat vector and named views of it.

    Parameters
    ----------
    layout : Layout
        Names, shapes and places.
    flat : array, shape (P,), float
        All trainable numbers.
    running : array, shape (R,), float, optional
        All running statistics; None for a network that has none.

    Examples
    --------
    >>> import anyprop as ap
    >>> params = ap.MLP([4, 3, 2]).init(seed=8)
    >>> params.flat.shape, params[0].W.shape
    ((23,), (4, 3))
    >>> list(params.named())
    ['0.W', '0.b', '2.W', '2.b']
    """

    __slots__ = ("__weakref__", "_parts", "_views", "flat", "layout", "running")

    def __init__(self, layout: Layout, flat: Array, running: Array | None = None) -> None:
        if not _registered and "jax" in sys.modules:
            _register_with_jax()
        self.layout = layout
        self.flat = flat
        self.running = running
        self._parts: dict[str, Array] | None = None  # the trainable arrays, by name
        self._views: dict[int | str, Any] = {}

    def __getitem__(self, key: int | str) -> Any:
        """Get the parameters of layer `key`, or an array by its dotted name ``"0.W"``."""
        view = self._views.get(key)
        return self._made(key) if view is None else view

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "flat":  # not set, as all is in parts
            return self._join()
        view = self._views.get(name)
        if view is not None:
            return view
        try:
            return self._made(name)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def _made(self, key: int | str) -> Any:
        """Make a view, and keep it where that is safe."""
        running, children, parts = self.running, self.layout.children, self._parts
        if key not in children:
            return self._other(key)
        if parts is not None and key in parts:
            return parts[str(key)]
        flat = self.flat if parts is None else self._any
        on_numpy = type(flat) is np.ndarray
        views = self._views if on_numpy or name_of(namespace(flat)) not in _TRACING else {}
        # On NumPy, where views cost little, all are made at once: a step asks for each.
        for name in children if on_numpy else (key,):
            child = children[name]
            if not isinstance(child, Place):
                layout, of_flat, of_running = child
                kept = None if running is None or of_running is None else running[of_running]
                if parts is not None and layout.trainable:
                    inner = {e.name: parts[f"{name}.{e.name}"] for e in layout.trainable}
                    views[name] = parted(layout, inner, kept)
                else:
                    vector: Array = flat[of_flat] if parts is None else self._empty
                    views[name] = Parameters(layout, vector, kept)
            elif child.trainable or running is not None:
                vector = flat if child.trainable else running
                array = vector[child.range]
                views[name] = array if len(child.shape) == 1 else reshaped(array, child.shape)
        return views[key] if key in views else self._other(key)

    def _other(self, key: int | str) -> Any:
        """Get what is not named in the layout itself: an array further down, or no parameters."""
        if isinstance(key, int) and key < 0:
            raise IndexError("negative layer indices are not supported; count from 0.")
        head, _, rest = str(key).partition(".")
        if rest:
            return self[head][rest]
        if head.isdigit():
            if int(head) in self.layout.children:
                return self[int(head)]
            n = self.layout.layers.get("")
            if n is not None and int(head) >= n:
                raise IndexError(f"there is no layer {head}; this network has {n}, counted from 0.")
            return Parameters(_EMPTY, self._empty)  # a layer that has no parameters
        have = ", ".join(dict.fromkeys(e.name.partition(".")[0] for e in self._entries))
        if key in self.layout.children:  # with no vector to be in
            have += (
                ", and running statistics in what net.init() and params.replace(flat=...) return"
            )
        raise KeyError(f"there is no parameter {head!r}; this layer has {have or 'no parameters'}.")

    @property
    def _entries(self) -> list[Entry]:
        """What is in the vectors: without running statistics, the slots of an optimizer lack them."""
        return [e for e in self.layout.entries if e.trainable or self.running is not None]

    def named(self) -> dict[str, Array]:
        """List every array under its dotted name, running statistics included."""
        return {e.name: self[e.name] for e in self._entries}

    def replace(self, *, flat: Array | None = None, running: Array | None = None) -> Parameters:
        """Return parameters of the same layout with another vector.

        Parameters
        ----------
        flat : array, shape (P,), optional
            New trainable numbers; the current ones by default.
        running : array, shape (R,), optional
            New running statistics; the current ones by default.

        Returns
        -------
        params : Parameters
            New parameters; these stay as they are.

        Raises
        ------
        ValueError
            The shape of a vector is not that of the layout.
        TypeError
            A vector is not an array.
        """
        for name, vector, trainable in (("flat", flat, True), ("running", running, False)):
            if vector is not None:
                check_array(name, vector)
                check_shape(name, vector, (self.layout.size(trainable=trainable),))
        running = self.running if running is None else running
        if flat is None and self._parts is not None:
            return parted(self.layout, self._parts, running)
        return Parameters(self.layout, self.flat if flat is None else flat, running)

    def copy(self) -> Parameters:
        """Copy both vectors, so that the copy outlives an update of the original in place."""
        copied = partial(self.xp.asarray, copy=True)
        running = None if self.running is None else copied(self.running)
        if self._parts is None:
            return Parameters(self.layout, copied(self.flat), running)
        return parted(self.layout, {name: copied(p) for name, p in self._parts.items()}, running)

    @property
    def size(self) -> int:
        """How many trainable numbers there are, P."""
        return self.layout.size()

    @property
    def xp(self) -> Namespace:
        """The namespace of the vectors."""
        return namespace(self._any)

    @property
    def _any(self) -> Array:
        """An array of trainable numbers, whichever: all are of one dtype and in one place."""
        parts = self._parts
        return self.flat if parts is None else next(iter(parts.values()))

    @property
    def _empty(self) -> Array:
        """A vector of no numbers."""
        return reshaped(self._any, (-1,))[:0]

    def __repr__(self) -> str:
        arrays = ", ".join(f"{e.name} {e.shape}" for e in self.layout.entries)
        return f"Parameters({self.size} numbers: {arrays})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the views: copied on their own, they would no longer be views of the vector.
        return Parameters, (self.layout, self.flat, self.running)

    def _join(self) -> Array:
        """Join the parts into the vector, which is kept in their place."""
        parts = self._parts
        if parts is None:  # another thread has just done it
            return self.flat
        flat = concatenated([reshaped(parts[e.name], (-1,)) for e in self.layout.trainable])
        if not _is_traced(flat):
            self.flat, self._parts = flat, None
        return flat

    def _split(self) -> dict[str, Array]:
        """Split the vector into parts, which are kept in its place."""
        parts = self._parts
        if parts is None:
            parts = splitter(self.layout)(self.flat)
            if not any(map(_is_traced, parts.values())):
                self._parts = parts
                with suppress(AttributeError):  # unless another thread has just done it
                    del self.flat
        return parts

    def _joined(self, vectors: Sequence[Array]) -> Parameters:
        """Return gradients of these parameters, whose vectors follow each other."""
        if self._parts is not None:
            pairs = zip(self.layout.trainable, vectors, strict=True)
            return parted(self.layout, {e.name: reshaped(v, e.shape) for e, v in pairs})
        # Without vectors that of the parameters is empty.
        return Parameters(self.layout, concatenated(vectors) if vectors else self.flat)

    def _tree_leaves(self) -> list[Array]:
        return [self.flat]

    def _tree_rebuild(self, leaves: Sequence[Array]) -> Parameters:
        return Parameters(self.layout, leaves[0], self.running)

    def _tree_map_arrays(self, function: Callable[[Array], Array]) -> Parameters:
        mapped = [function(self[e.name]) for e in self.layout.entries if e.trainable]
        return self.replace(flat=concatenated([reshaped(array, (-1,)) for array in mapped]))


def parted(layout: Layout, parts: dict[str, Array], running: Array | None = None) -> Parameters:
    """Return parameters of JAX in parts, of which there is at least one."""
    params = Parameters(layout, None, running)
    params._parts = parts
    del params.flat
    return params


def _is_traced(array: Array) -> bool:
    """Return whether JAX is tracing a function that made an array, which must not outlive it."""
    return isinstance(array, sys.modules["jax"].core.Tracer)


def check_kind(params: Any) -> None:
    """Raise TypeError unless `params` are `Parameters`."""
    if not isinstance(params, Parameters):
        raise TypeError(f"params must be what net.init() returns, not {kind(params)}.")


def map_vectors(params: Parameters, function: Callable[[Array], Array]) -> Parameters:
    """Return parameters of the same layout whose vectors are `function` of these."""
    running = None if params.running is None else function(params.running)
    return Parameters(params.layout, function(params.flat), running)


def filled(layout: Layout, array_of: Callable[[Entry], Any], dtype: str) -> Parameters:
    """Return parameters on the host, each array filled with what `array_of` returns for its entry."""
    vectors: dict[bool, Any] = {
        trainable: np.empty(layout.size(trainable=trainable), dtype) for trainable in (True, False)
    }
    for entry in layout.entries:
        vectors[entry.trainable][entry.start : entry.stop] = np.reshape(array_of(entry), -1)
    return Parameters(layout, vectors[True], vectors[False] if vectors[False].size else None)


_EMPTY = Layout(())
# A view made while these trace a function is a tracer, and must not outlive the trace.
_TRACING = ("jax", "torch")

_registered = False


def _register_with_jax() -> None:
    # JAX must know the class before it traces one, and must not be imported for that.
    global _registered
    register = getattr(sys.modules.get("jax.tree_util"), "register_pytree_node", None)
    if _registered or register is None:
        return
    _registered = True
    register(
        Parameters,
        lambda params: ((params.flat, params.running), params.layout),
        lambda layout, vectors: Parameters(layout, *vectors),
    )
