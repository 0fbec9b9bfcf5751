"""A source whose portions are copied while the device computes gives the numbers of arrays in memory."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop.backend import pinned as copies, transfer
from anyprop.training import reader
from fake_cupy import put, put_params

from .conftest import make_problem

NET = ap.MLP([4, 5, 3], norm="batch", dropout=0.2)
LOSS = ap.SoftmaxCrossEntropy()


def _examples():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 8, (33, 4)).astype("uint8")
    return x, rng.integers(0, 3, 33), rng.integers(0, 3, 33).astype("float32")


def _fit(data, params, **options):
    given = {"loss": LOSS, "optimizer": ap.Adam(), "epochs": 3, "batch_size": 6, "seed": 1}
    return ap.fit(NET, params, data, **given | {"compile": False} | options)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_it_changes_no_result(ahead, backend, monkeypatch):
    """On a GPU the copies overlap with the steps; elsewhere there are none."""
    monkeypatch.setattr(reader, "SIZE", 100)
    problem, (x, t, weight) = make_problem(backend), _examples()
    net, loss, found = problem.net, problem.loss, []
    for pinned in (False, True):
        source = ap.Source((x, t, weight), ahead=ahead, pinned=pinned)
        trained = problem.fit(data=source, epochs=3)
        measured = ap.evaluate(net, trained.params, source, loss=loss, batch_size=5)
        outputs = ap.predict(net, trained.params, source, batch_size=5)
        found.append((trained, measured, outputs))
    (ours, one, ys), (theirs, other, zs) = found
    assert ours.history.losses == theirs.history.losses
    assert one == other
    np.testing.assert_array_equal(problem.numpy(ys), problem.numpy(zs))
    np.testing.assert_array_equal(
        problem.numpy(ours.params.flat), problem.numpy(theirs.params.flat)
    )


class TestOnAStandIn:
    """With copies that are done as late as they may, and parts of a portion in each batch."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch):
        monkeypatch.setattr(reader, "SIZE", 200)
        monkeypatch.setattr(transfer, "get_device", lambda xp, device: None)
        monkeypatch.setattr(reader, "device_of", lambda array: array.device)
        with fake_cupy.installed() as device:
            yield device

    @pytest.fixture(autouse=True)
    def in_order(self, monkeypatch):
        """Memory is filled, waited for, used and freed in turn, and waited for in the end."""
        states, opened = {}, []

        def follow(name, before, after):
            method = getattr(copies.Moved, name)

            def followed(moved, *args):
                assert states.get(moved, "freed") == before
                method(moved, *args)
                states[moved] = after

            monkeypatch.setattr(copies.Moved, name, followed)

        follow("fill", "freed", "filled")
        follow("hold", "filled", "held")
        follow("free", "held", "freed")
        to, close = copies.Pinned.to, copies.Pinned.close

        def noted(*args):
            opened.append(to(*args))
            return opened[-1]

        def closed(one):
            opened.remove(one)
            close(one)

        monkeypatch.setattr(copies.Pinned, "to", noted)
        monkeypatch.setattr(copies.Pinned, "close", closed)
        yield
        assert states
        assert not opened

    def _assert_same(self, ours, theirs):
        assert ours.history.losses == theirs.history.losses
        np.testing.assert_array_equal(
            ours.params.flat.view(np.ndarray), theirs.params.flat.view(np.ndarray)
        )

    @pytest.mark.parametrize("accumulate", [1, 2])
    @pytest.mark.parametrize("ahead", [0, 1, 3])
    def test_training(self, ahead, accumulate, device):
        x, t, weight = _examples()
        source = ap.Source((x, t, weight), pinned=True, ahead=ahead)
        ours = _fit(source, put_params(NET.init(8)), accumulate=accumulate)
        assert device.log.count("wait in stream") > 10
        before = device.log.count("set")
        theirs = _fit(
            (put(x), put(t)),
            put_params(NET.init(8)),
            sample_weight=put(weight),
            accumulate=accumulate,
        )
        assert before > 0
        assert device.log.count("set") == before
        self._assert_same(ours, theirs)

    @pytest.mark.parametrize("ahead", [0, 1, 3])
    def test_measuring(self, ahead):
        x, t, _ = _examples()
        params, source = put_params(NET.init(8)), ap.Source((x, t), pinned=True, ahead=ahead)
        there = put(x), put(t)
        ours, theirs = (
            ap.evaluate(NET, params, data, loss=LOSS, batch_size=6) for data in (source, there)
        )
        assert ours == theirs
        ys, zs = (ap.predict(NET, params, data, batch_size=6) for data in (source, there[0]))
        np.testing.assert_array_equal(ys.view(np.ndarray), zs.view(np.ndarray))

    def test_a_batch_that_is_larger_than_those_before(self):
        x, t, _ = _examples()
        batches = [np.arange(3), np.arange(3, 23), np.asarray([5, 5, 1])]
        ours, theirs = (
            _fit(data, put_params(NET.init(8)), batches=lambda *given: batches)
            for data in (ap.Source((x, t), pinned=True), (put(x), put(t)))
        )
        self._assert_same(ours, theirs)

    def test_a_run_that_ends_within_an_epoch(self):
        x, t, _ = _examples()
        ours, theirs = (
            _fit(data, put_params(NET.init(8)), epochs=None, steps=9)
            for data in (ap.Source((x, t), pinned=True), (put(x), put(t)))
        )
        self._assert_same(ours, theirs)

    def test_a_reader_that_fails(self, device):
        """What was computed until then is right, and nothing is left to copy."""
        x, t, _ = _examples()
        x = x.astype("float32")
        x[30] = np.nan
        source = ap.Source((x, t), pinned=True, ahead=3)
        order = {"batches": lambda *given: np.arange(33).reshape(-1, 3)}
        with pytest.raises(ap.DataError, match=r"x\[30, 0\] is nan") as told:
            _fit(source, put_params(NET.init(8)), **order)
        x[30] = 0.0
        wanted = _fit((put(x), put(t)), put_params(NET.init(8)), epochs=None, steps=10, **order)
        done = told.value.history.losses
        assert done == wanted.history.losses[: len(done)] != []
