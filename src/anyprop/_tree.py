"""Trees of arrays: an array, a dict, tuple or NamedTuple of trees, or an object that says how.

An object is a tree by three methods, `_tree_leaves() -> list`, `_tree_rebuild(leaves) ->
object` and `_tree_map_arrays(function) -> object`, and by a `layout`, which is equal for equal
structures. `Parameters` has them and counts as one leaf, its flat vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from anyprop._typing import Array, Tree


def leaves(tree: Tree) -> list[Array]:
    """List the arrays of a tree, in its own order."""
    if hasattr(tree, "_tree_leaves"):
        held: list[Array] = tree._tree_leaves()
        return held
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves(branch)]
    if isinstance(tree, tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Tree, new_leaves: Sequence[Array], *, order: Tree = None) -> Tree:
    """Return a tree of the structure of `tree` that holds `new_leaves`.

    These are in the order of the tree itself, or in that of `order`, which has its structure.
    """
    if hasattr(tree, "_tree_leaves"):
        return tree._tree_rebuild(new_leaves)
    return _rebuild(tree, iter(new_leaves), tree if order is None else order)


def _rebuild(tree: Tree, new: Iterator[Array], order: Tree) -> Tree:
    if hasattr(tree, "_tree_leaves"):
        return tree._tree_rebuild([next(new) for _ in tree._tree_leaves()])
    if isinstance(tree, dict):
        rebuilt = {key: _rebuild(tree[key], new, branch) for key, branch in order.items()}
        return {key: rebuilt[key] for key in tree}
    if isinstance(tree, tuple):
        pairs = zip(tree, order, strict=True)
        branches = [_rebuild(branch, new, same) for branch, same in pairs]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return next(new)


def map_leaves(function: Callable[[Array], Any], tree: Tree) -> Tree:
    """Apply `function` to every array of a tree."""
    return rebuild(tree, [function(leaf) for leaf in leaves(tree)])


def map_arrays(function: Callable[[Array], Any], tree: Tree) -> Tree:
    """Apply `function`, which keeps shapes, to every array of a tree, also to those inside a leaf.

    A `Parameters` is one leaf that holds several arrays; this one sees each of them in its shape.
    """
    if hasattr(tree, "_tree_map_arrays"):
        return tree._tree_map_arrays(function)
    if isinstance(tree, dict):
        return {key: map_arrays(function, branch) for key, branch in tree.items()}
    if isinstance(tree, tuple):
        branches = [map_arrays(function, branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return function(tree)


def leaves_like(tree: Tree, reference: Tree, *, names: tuple[str, str]) -> list[Array]:
    """List the arrays of `tree` in the order of `reference`, whose structure it must have.

    Dicts are matched by key, so their orders may differ.

    Raises
    ------
    ValueError
        The structures or shapes differ; the message shows both.
    """
    if hasattr(reference, "_tree_leaves") and getattr(tree, "layout", None) is reference.layout:
        same: list[Array] = tree._tree_leaves()  # as nearly always: no need to walk
        return same
    try:
        return list(_matched(tree, reference))
    except _MismatchError:
        raise ValueError(
            f"{names[0]} and {names[1]} differ in structure:\n"
            f"  {names[0]}: {describe(tree)}\n  {names[1]}: {describe(reference)}"
        ) from None


class _MismatchError(Exception):
    pass


def _matched(tree: Tree, reference: Tree) -> Iterator[Array]:
    if type(tree) is not type(reference) and (_is_branch(tree) or _is_branch(reference)):
        raise _MismatchError
    if hasattr(reference, "_tree_leaves"):
        if tree.layout != reference.layout:
            raise _MismatchError
        yield from tree._tree_leaves()
    elif isinstance(reference, dict):
        if tree.keys() != reference.keys():
            raise _MismatchError
        for key, branch in reference.items():
            yield from _matched(tree[key], branch)
    elif isinstance(reference, tuple):
        if len(tree) != len(reference):
            raise _MismatchError
        for ours, theirs in zip(tree, reference, strict=True):
            yield from _matched(ours, theirs)
    else:
        if getattr(tree, "shape", None) != getattr(reference, "shape", None):
            raise _MismatchError
        yield tree


def _is_branch(tree: Tree) -> bool:
    return isinstance(tree, (dict, tuple)) or hasattr(tree, "_tree_leaves")


def describe(tree: Tree) -> str:
    """Write a tree's structure in one line, each array as its shape."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, tuple):
        name = type(tree).__name__ if hasattr(tree, "_fields") else ""
        return f"{name}(" + ", ".join(map(describe, tree)) + ")"
    if hasattr(tree, "_tree_leaves"):
        return repr(tree)
    if hasattr(tree, "shape"):
        return f"array{tuple(tree.shape)}"
    return repr(tree)
