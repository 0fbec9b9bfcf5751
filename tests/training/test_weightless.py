"""Examples of which none has a weight are refused, wherever they are."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from ranks import on_ranks

NET = ap.MLP([4, 3])
X, T = np.ones((20, 4), "float32"), np.arange(20) % 2 * 2
CUTS = [slice(i, i + 5) for i in range(0, 20, 5)]
WEIGHTLESS = {
    "zeros": (np.zeros(20), None),
    "rounded to 0": (np.full(20, 1e-60), None),
    "falsehoods": (np.zeros(20, bool), None),
    "classes": (None, (0.0, 1.0, 0.0)),
    "classes and rows": (np.arange(20) % 2, (1.0, 0.0, 0.0)),
}


def fit(data, class_weight=None, **options):
    loss = ap.SoftmaxCrossEntropy(class_weight=class_weight)
    given = {"loss": loss, "optimizer": ap.SGD(lr=0.1), "epochs": 2}
    return ap.fit(NET, NET.init(), data, **{**given, **options})


def streamed(*arrays):
    return ap.Stream(lambda epoch: [tuple(array[cut] for array in arrays) for cut in CUTS])


def in_order(n, batch_size, epoch):
    return [np.arange(n)[cut] for cut in CUTS]


@pytest.mark.parametrize("kind", WEIGHTLESS)
def test_in_memory_read_and_streamed(kind):
    weight, class_weight = WEIGHTLESS[kind]
    arrays = (X, T) if weight is None else (X, T, weight)
    with pytest.raises(ValueError, match="no weight above 0|no example has a weight above 0"):
        fit((X, T), class_weight, sample_weight=weight)
    for data in (ap.Source(arrays), streamed(*arrays)):
        with pytest.raises(ValueError, match="data: no example has a weight above 0") as caught:
            fit(data, class_weight)
        np.testing.assert_array_equal(caught.value.params.flat, NET.init().flat)


def test_on_several_ranks_all_of_which_have_none():
    def refused(communicator):
        with pytest.raises(ValueError, match="data: no example has a weight above 0"):
            fit(ap.Source((X, T, np.zeros(20))), batch_size=5, communicator=communicator)

    on_ranks(3, refused)


@pytest.mark.parametrize("size", [1, 3])
def test_one_weight_is_enough(size):
    weight = np.zeros(20)
    weight[7] = 1e-6

    def both(communicator):
        options = {"batches": in_order, "communicator": communicator}
        read = fit(ap.Source((X, T, weight)), **options)
        held = fit((X, T), sample_weight=weight, **options)
        assert read.history.losses == held.history.losses
        assert read.history.losses[0] == read.history.losses[2] == 0.0

    on_ranks(size, both)


def test_a_resumed_run_may_end_with_rows_without_weight(tmp_path):
    data = ap.Source((X, T, np.arange(20) < 5))
    fit(data, batches=in_order, epochs=None, steps=2, callbacks=[ap.Checkpoints(tmp_path, every=1)])
    assert len(fit(data, batches=in_order, epochs=1, resume=tmp_path).history.losses) == 4


def test_an_epoch_of_no_loss_is_none_without_weight():
    x, t = np.zeros((20, 4), "float32"), np.zeros((20, 3), "float32")
    for data in (ap.Source((x, t)), streamed(x, t)):
        result = fit(data, loss=ap.MeanSquaredError())
        assert set(result.history.losses) == {0.0}
