"""Batches: every row once, reproducible, independent streams."""

import numpy as np
import pytest

from anyprop import batch_indices
from anyprop.training.batches import stream


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (3, 10), (1, 1)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_row_once(n, batch_size, shuffle):
    batches = list(batch_indices(n, batch_size, seed=0, epoch=0, shuffle=shuffle))
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size
    assert all(batch.dtype == np.int64 for batch in batches)


def test_the_order_depends_on_seed_and_epoch_only():
    def order(**key):
        return np.concatenate(list(batch_indices(50, 8, **key))).tolist()

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    orders = [order(seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 9
    assert order(seed=1, epoch=2) != list(range(50))


def test_the_order_does_not_depend_on_the_batch_size():
    orders = [
        np.concatenate(list(batch_indices(20, size, seed=0, epoch=1))).tolist() for size in (3, 20)
    ]
    assert orders[0] == orders[1]


def test_draws_with_replacement_are_full_and_repeat_rows():
    batches = list(batch_indices(100, 40, seed=0, epoch=0, replacement=True))
    assert [batch.shape for batch in batches] == [(40,)] * 3
    rows = np.concatenate(batches)
    assert rows.dtype == np.int64
    assert 0 <= rows.min() <= rows.max() < 100
    assert len(set(rows.tolist())) < 120 * 0.8  # about 70 of 100 rows come up in 120 draws


def test_streams_share_nothing_with_one_another_or_with_the_weights():
    """SeedSequence([8]), ([8, 0]) and ([8, 0, 0]) would be one and the same stream."""
    streams = [
        np.random.default_rng(8),
        *(stream(8, *key) for key in [(0,), (0, 0), (0, 1), (1,), (1, 0)]),
    ]
    assert len({rng.random() for rng in streams}) == len(streams)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 1), (5, 0), (5, -1)])
def test_empty_data_and_batches_are_refused(n, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        batch_indices(n, batch_size, seed=0, epoch=0)


SIZES = [(1, 1), (5, 1), (5, 2), (5, 5), (5, 7), (64, 2), (100, 3), (100, 6), (1000, 16), (977, 10)]


def order_by_blocks(n, block, seed=0, epoch=0, batch_size=7):
    batches = list(batch_indices(n, batch_size, seed=seed, epoch=epoch, block=block))
    assert all(batch.dtype == np.int64 for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size
    return np.concatenate(batches).tolist()


@pytest.mark.parametrize(("n", "block"), [*SIZES, (1000, 10**30), (1000, np.int64(8))])
def test_an_epoch_by_blocks_holds_every_row_once(n, block):
    assert sorted(order_by_blocks(n, block)) == list(range(n))


def test_the_order_by_blocks_depends_on_seed_epoch_and_block_only():
    keys = [(seed, epoch, block) for seed in range(2) for epoch in range(3) for block in (2, 5)]
    orders = [tuple(order_by_blocks(80, block, seed, epoch)) for seed, epoch, block in keys]
    again = [tuple(order_by_blocks(80, block, seed, epoch, 33)) for seed, epoch, block in keys]
    assert orders == again
    assert len(set(orders)) == len(keys)


@pytest.mark.parametrize(("n", "block"), SIZES)
def test_the_order_by_blocks_is_the_documented_one(n, block):
    """The steps of the docstring's notes, on lists."""
    blocks = [list(range(n))[first : first + block] for first in range(0, n, block)]
    rng = stream(3, 5)
    turns = rng.permutation(len(blocks)).tolist()
    rows = []
    while turns:
        now, turns = turns[:16], turns[16:]
        rows += rng.permutation([row for k in now for row in blocks[k]]).tolist()
    assert order_by_blocks(n, block, 3, 5) == rows


def test_sixteen_blocks_are_mixed_and_no_more():
    n, block = 64 * 50, 50
    order = np.asarray(order_by_blocks(n, block, batch_size=100))
    for together in np.split(order, 4):
        blocks, counts = np.unique(together // block, return_counts=True)
        assert len(blocks) == 16
        assert set(counts.tolist()) == {block}
        # In a batch of 100 there are about 6 rows of each block: all of one would be unmixed.
        assert all(len(set((batch // block).tolist())) > 12 for batch in np.split(together, 8))
    assert np.any(np.diff(np.unique(order[:800] // block)) > 1)  # which are not neighbours


def test_blocks_do_not_matter_without_shuffling():
    batches = batch_indices(7, 3, seed=0, epoch=0, shuffle=False, block=2)
    assert np.concatenate(list(batches)).tolist() == list(range(7))


def test_blocks_with_replacement_are_refused():
    with pytest.raises(ValueError, match="so there are no blocks"):
        batch_indices(100, 10, seed=0, epoch=0, replacement=True, block=4)


@pytest.mark.parametrize("block", [0, -1, 2.0, "4", True, np.ones(2)])
def test_blocks_are_whole_numbers_of_at_least_one(block):
    with pytest.raises(
        (TypeError, ValueError), match="batch_indices: block must be a whole number"
    ):
        batch_indices(100, 10, seed=0, epoch=0, block=block)
