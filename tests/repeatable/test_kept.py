"""What is kept of earlier runs: the last used, within bounds."""

import types

import pytest

from anyprop.repeatable.kept import Kept


@pytest.fixture
def kept():
    """Three of three objects, of ten bytes each."""
    kept = Kept(3, 35)
    for key in "abc":
        kept.put(key, types.SimpleNamespace(nbytes=10, key=key))
    return kept


def _put(kept, key, nbytes):
    kept.put(key, types.SimpleNamespace(nbytes=nbytes, key=key))


@pytest.mark.parametrize("nbytes", [10, 15])
def test_what_is_used_stays_and_the_longest_unused_goes(kept, nbytes):
    assert kept.get("a").key == "a"
    _put(kept, "d", nbytes)
    assert [*kept.objects] == ["c", "a", "d"]


def test_an_object_that_takes_the_place_of_another_is_the_last_used(kept):
    _put(kept, "a", 10)
    assert [*kept.objects] == ["b", "c", "a"]


def test_one_that_is_too_large_by_itself_is_not_kept(kept):
    _put(kept, "d", 36)
    assert not kept.objects


@pytest.mark.parametrize("key", ["d", None])
def test_there_is_nothing_for_another_key(kept, key):
    assert kept.get(key) is None
    assert [*kept.objects] == ["a", "b", "c"]
