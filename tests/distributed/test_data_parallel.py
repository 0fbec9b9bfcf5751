"""Several ranks train as one does: the same numbers to rounding, whatever their shares are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import anyprop as ap
from anyprop.distributed import (
    SerialCommunicator,
    SyncBatchNorm,
    make_data_parallel_step,
    shares,
    synchronized,
)
from anyprop.distributed.communicator import any_rank
from parallel_cases import CASES, assert_equal, mean_of_means
from ranks import on_ranks


@pytest.fixture(scope="module")
def alone():
    """What one process computes, on NumPy."""
    return {name: case.alone() for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ranks_train_as_one_process(name, size, alone):
    results = on_ranks(size, CASES[name].on_rank)
    assert_equal(results[0], alone[name])
    for other in results[1:]:
        assert_equal(other, results[0], tolerance=0)  # replicas never drift apart


def test_ranks_train_as_one_process_on_every_backend(backend, alone):
    for name in ("plain", "everything"):
        results = on_ranks(
            2, lambda communicator, n=name: CASES[n].on_rank(communicator, backend.xp)
        )
        assert_equal(results[0], alone[name], tolerance=1e-10)


@pytest.mark.parametrize("name", ["plain", "weights"])
def test_a_mean_of_means_is_told_apart(name, alone):
    case = CASES[name]
    results = on_ranks(2, lambda c: case.on_rank(c, step=mean_of_means(case, c)))
    with pytest.raises(AssertionError):
        assert_equal(results[0], alone[name], tolerance=1e-6)


@pytest.mark.parametrize("left_out", ["forward", "backward"])
def test_batch_norm_must_agree_in_both_directions(left_out, alone, monkeypatch):
    """The negative control for the statistics: each direction counts."""
    own, synced = ap.BatchNorm._batch_means, SyncBatchNorm._batch_means

    def batch_means(self, *arrays):
        going_back = len(arrays) == 2
        if going_back == (left_out == "backward"):
            means, n = own(self, *arrays)
            return means, np.asarray([float(n)])
        return synced(self, *arrays)

    monkeypatch.setattr(SyncBatchNorm, "_batch_means", batch_means)
    results = on_ranks(2, CASES["batch-norm"].on_rank)
    with pytest.raises(AssertionError):
        assert_equal(results[0], alone["batch-norm"], tolerance=1e-6)


def test_a_step_reduces_once():
    def reductions(communicator):
        CASES["plain"].on_rank(communicator)
        return communicator.reductions

    assert on_ranks(2, reductions) == [100, 100]


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 10**15])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 11, 64])
def test_shares_cover_a_batch_once_and_keep_its_parts(n, parts):
    for size in (1, 2, 3, 8):
        of_ranks = on_ranks(size, lambda communicator: shares(n, communicator, parts))
        by_part = list(zip(*of_ranks, strict=True))
        rows = [i for part in by_part for share in part for i in range(n)[share]]
        assert rows == list(range(n))
        wholes = [slice(part[0].start, part[-1].stop) for part in by_part]
        assert wholes == shares(n, SerialCommunicator(), parts)
        sizes = [s.stop - s.start for s in by_part[0]]
        assert max(sizes) - min(sizes) <= 1


def test_what_the_ranks_lost_is_observed():
    case, seen = CASES["plain"], []

    def train(communicator):
        own = []
        step = make_data_parallel_step(
            case.net, case.loss, case.opt, communicator, observe=own.append
        )
        numbers = case.on_rank(communicator, step=step)
        seen.append([float(value) for value in own])
        return numbers

    losses = on_ranks(2, train)[0]["losses"]
    sizes = [11, 11, 1] * 34
    np.testing.assert_allclose(np.sum(seen, axis=0), losses * sizes[:100], rtol=1e-12)


def test_a_process_of_its_own_has_what_rank_0_has():
    x = np.ones(2)
    assert SerialCommunicator().broadcast(x) is x


def test_a_step_without_parts_is_refused():
    case = CASES["plain"]
    step = make_data_parallel_step(case.net, case.loss, case.opt, SerialCommunicator())
    params = case.net.init()
    with pytest.raises(ValueError, match="at least one part"):
        step(params, case.opt.init(params), [])


def test_a_compiled_step_names_what_is_no_array_in_a_part():
    case = CASES["plain"]
    step = ap.compile(make_data_parallel_step(case.net, case.loss, case.opt, SerialCommunicator()))
    params = case.net.init()
    with pytest.raises(TypeError, match=r"^x: builtins\.float is not an Array API array"):
        step(params, case.opt.init(params), [{"x": 1.0, "t": np.zeros(1, "int64")}])


def test_only_batch_norms_are_replaced():
    (net, serial) = on_ranks(2, lambda c: synchronized(CASES["everything"].net, c))
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds[1] == "SyncBatchNorm"
    assert type(net.layers[4].block.layers[1]) is SyncBatchNorm
    assert net.specs() == CASES["everything"].net.specs() == serial.specs()


def test_the_layer_alone_is_batch_norm():
    layer, theirs = SyncBatchNorm(3, momentum=0.3), ap.BatchNorm(3, momentum=0.3)
    params = theirs.init(dtype="float64")
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 3))
    for n in (5, 1, 0):
        y, kept = layer.forward_train(params, x[:n], None)
        wanted, theirs_kept = theirs.forward_train(params, x[:n], None)
        np.testing.assert_allclose(y, wanted, atol=1e-14)
        pairs = [
            (layer.updated_running(params, kept), theirs.updated_running(params, theirs_kept)),
            (
                layer.backward(params, kept, dy[:n])[1],
                theirs.backward(params, theirs_kept, dy[:n])[1],
            ),
        ]
        for ours, expected in pairs:
            for key in expected:
                np.testing.assert_allclose(ours[key], expected[key], atol=1e-14)
        dx, _ = layer.backward(params, kept, dy[:n])
        expected, _ = theirs.backward(params, theirs_kept, dy[:n])
        np.testing.assert_allclose(dx, expected, atol=1e-14)
    y, kept = layer.forward(params, x)
    assert layer.updated_running(params, kept).keys() == {"mean", "var"}


def test_a_flag_of_one_rank_is_known_to_all():
    assert on_ranks(3, lambda c: any_rank(c, c.rank == 1)) == [True] * 3
    assert on_ranks(3, lambda c: any_rank(c, False)) == [False] * 3
    assert any_rank(SerialCommunicator(), True)


def test_alone_an_abort_ends_the_process_with_the_code():
    call = "from anyprop.distributed import SerialCommunicator; SerialCommunicator().abort(3)"
    assert subprocess.run([sys.executable, "-c", call]).returncode == 3
