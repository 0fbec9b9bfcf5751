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
