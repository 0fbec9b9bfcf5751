"""Trees of arrays, and how their differences are shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import anyprop as ap
from anyprop import _tree


class Pair(NamedTuple):
    W: np.ndarray
    b: np.ndarray


def _zeros(*shape):
    return np.zeros(shape)


TREES = {
    "array": lambda: _zeros(3),
    "dict": lambda: {"W": _zeros(2, 3), "b": _zeros(3)},
    "tuple": lambda: (_zeros(2), _zeros(3)),
    "namedtuple": lambda: Pair(_zeros(2, 3), _zeros(3)),
    "nested": lambda: {"a": (Pair(_zeros(1), _zeros(2)), {"c": _zeros(3)}), "d": _zeros(4)},
    "empty": lambda: {},
    "Parameters": lambda: ap.Affine(2, 3).init(dtype="float64"),
}


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_rebuild_puts_new_leaves_where_the_old_ones_were(make):
    tree = make()
    numbered = [leaf + i for i, leaf in enumerate(_tree.leaves(tree))]
    rebuilt = _tree.rebuild(tree, numbered)
    assert type(rebuilt) is type(tree)
    assert _tree.describe(rebuilt) == _tree.describe(tree)
    for ours, given in zip(_tree.leaves(rebuilt), numbered, strict=True):
        assert ours is given


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_a_tree_matches_its_own_structure(make):
    tree = make()
    matched = _tree.leaves_like(tree, make(), names=("a", "b"))
    assert [id(leaf) for leaf in matched] == [id(leaf) for leaf in _tree.leaves(tree)]


def test_dicts_are_matched_by_key():
    ours, theirs = {"b": _zeros(3), "a": _zeros(2)}, {"a": _zeros(2), "b": _zeros(3)}
    matched = _tree.leaves_like(ours, theirs, names=("ours", "theirs"))
    assert [leaf.shape for leaf in matched] == [(2,), (3,)]


@pytest.mark.parametrize(
    ("tree", "reference", "shown"),
    [
        ({"a": _zeros(2)}, {"b": _zeros(2)}, ["{'a': array(2,)}", "{'b': array(2,)}"]),
        ((_zeros(2),), (_zeros(2), _zeros(1)), ["(array(2,))", "(array(2,), array(1,))"]),
        (_zeros(2), _zeros(3), ["array(2,)", "array(3,)"]),
        (_zeros(2), (_zeros(2),), ["array(2,)", "(array(2,))"]),
        (
            (_zeros(2, 3), _zeros(3)),
            Pair(_zeros(2, 3), _zeros(3)),
            ["(array(2, 3), array(3,))", "Pair(array(2, 3), array(3,))"],
        ),
        (
            ap.Affine(2, 3).init(),
            ap.Affine(3, 2).init(),
            ["W (2, 3), b (3,)", "W (3, 2), b (2,)"],
        ),
        ({"a": 3.0}, {"a": _zeros(2)}, ["{'a': 3.0}", "{'a': array(2,)}"]),
        (ap.Affine(2, 3).init(), {"W": _zeros(2, 3)}, ["Parameters(9", "{'W': array(2, 3)}"]),
    ],
)
def test_a_mismatch_shows_both(tree, reference, shown):
    with pytest.raises(ValueError, match="grads and params differ in structure") as caught:
        _tree.leaves_like(tree, reference, names=("grads", "params"))
    for part in shown:
        assert part in str(caught.value)


def test_map_arrays_sees_the_arrays_inside_parameters():
    params = ap.Affine(2, 3).init(dtype="float64")
    marked = _tree.map_arrays(lambda a: a * 0.0 + a.ndim, {"net": params, "x": _zeros(2)})
    np.testing.assert_array_equal(marked["net"].flat, [2.0] * 6 + [1.0] * 3)
    np.testing.assert_array_equal(marked["x"], [1.0, 1.0])
    pair = _tree.map_arrays(lambda a: a + 1.0, Pair(_zeros(1), _zeros(2)))
    assert isinstance(pair, Pair)
    np.testing.assert_array_equal(pair.b, [1.0, 1.0])
