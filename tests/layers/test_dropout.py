"""Dropout's mask."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap


def test_the_share_of_dropped_numbers_is_the_rate_and_the_mean_is_kept(rng):
    layer, x = ap.Dropout(0.3), np.ones((200, 500))
    y, _ = layer.forward_train(None, x, layer.noise(rng, x.shape))
    assert set(np.unique(y)) == {0.0, 1.0 / 0.7}
    assert (y == 0.0).mean() == pytest.approx(0.3, abs=0.01)
    assert y.mean() == pytest.approx(1.0, abs=0.02)


def test_a_rate_of_zero_drops_nothing(rng):
    assert ap.Dropout(0.0).noise(rng, (100, 100)).all()


def test_a_seed_draws_the_same_mask_in_every_version():
    """Otherwise a resumed run would differ."""
    mask = ap.Dropout(0.3).noise(np.random.default_rng(7), (4, 8))
    assert np.packbits(mask).tolist() == [254, 91, 94, 191]


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan"), 2])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match=r"Dropout: rate must be in \[0, 1\)"):
        ap.Dropout(rate)


def test_a_mask_is_asked_for(backend, rng):
    layer, x = ap.Dropout(), backend.asarray(np.ones((2, 3)))
    with pytest.raises(ValueError, match="draw it by noise"):
        layer.forward_train(None, x, None)
    with pytest.raises(ValueError, match=r"the mask has shape \(3, 3\), expected \(2, 3\)"):
        layer.forward_train(None, x, backend.asarray(layer.noise(rng, (3, 3))))


def test_a_number_is_kept_where_the_draw_equals_the_rate():
    """Otherwise a rate of 0 would drop the numbers for which 0.0 is drawn, one in 2^24."""

    class AlwaysZero:
        def random(self, shape, dtype):
            return np.zeros(shape, dtype)

    assert ap.Dropout(0.0).noise(AlwaysZero(), (2, 3)).all()
