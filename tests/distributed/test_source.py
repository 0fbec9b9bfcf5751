"""Each rank reads its own rows of a source; together they compute what one process does."""

from __future__ import annotations

import time

import numpy as np
import pytest

import anyprop as ap
from anyprop.training import reader
from ranks import on_ranks

N, BATCH = 41, 8


class Rows:
    def __init__(self, *arrays):
        self.arrays, self.asked = arrays, []

    def __len__(self):
        return N

    def __getitem__(self, rows):
        self.asked.append(rows)
        return tuple(array[rows] for array in self.arrays)


class Job:
    """Arguments of `fit`, of which each rank makes its own."""

    net = ap.Sequential(ap.Affine(4, 6), ap.Tanh(), ap.Dropout(0.2), ap.Affine(6, 3))

    def __init__(self, backend):
        rng = np.random.default_rng(0)
        self.backend = backend
        self.host = rng.integers(0, 9, (N, 4)).astype("uint8"), rng.integers(0, 3, N)
        self.data = tuple(map(backend.asarray, (self.host[0].astype("float64"), self.host[1])))
        self.params = self.net.init(seed=1, xp=backend.xp, dtype="float64", device=backend.device)

    def fit(self, data, communicator=None, **options):
        given = {"batch_size": BATCH, "epochs": 2, "seed": 3, "report_every": 3}
        return ap.fit(
            self.net,
            self.params,
            data,
            loss=ap.SoftmaxCrossEntropy(),
            optimizer=ap.Adam(lr=0.05),
            communicator=communicator,
            **given | options,
        )


@pytest.fixture
def job(backend):
    return Job(backend)


@pytest.fixture(params=[1, 60, 1 << 20])
def size(request, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", request.param)


def draw(rng, n):
    return rng.integers(0, 4, (n, 1))


def rolled(x, t, by):
    return np.take_along_axis(x, (np.arange(4) + by) % 4, axis=1), t


@pytest.mark.parametrize("accumulate", [1, 3])
def test_three_ranks_compute_what_they_do_from_memory(job, size, accumulate):
    def train(communicator):
        # Some of the twelve shares of a batch of one row are empty.
        options = {"accumulate": accumulate, "batch_size": 10}
        return [job.fit(data, communicator, **options) for data in (ap.Source(job.host), job.data)]

    alone = job.fit(job.data, accumulate=accumulate, batch_size=10)
    for ours, theirs in on_ranks(3, train):
        assert ours.history.losses == theirs.history.losses
        flat, wanted = (job.backend.to_numpy(r.params.flat) for r in (ours, theirs))
        np.testing.assert_array_equal(flat, wanted)
        np.testing.assert_allclose(ours.history.losses, alone.history.losses, rtol=1e-9)


def test_augmentation_does_not_depend_on_the_number_of_ranks(job, size):
    def train(communicator=None):
        return job.fit(ap.Source(job.host, draw=draw, augment=rolled), communicator)

    wanted = train().history.losses
    for ranks in (2, 3):
        for ours in on_ranks(ranks, train):
            np.testing.assert_allclose(ours.history.losses, wanted, rtol=1e-9)


def test_each_row_is_read_by_one_rank(job, size):
    asked = []

    def train(communicator):
        data = Rows(*job.host)
        job.fit(ap.Source(data, ahead=communicator.rank), communicator)
        first, ends, *rest = data.asked
        assert first.tolist() == [0]
        assert ends.tolist() == [0, N - 1]
        asked.extend(rest)

    on_ranks(3, train)
    assert np.bincount(np.concatenate(asked)).tolist() == [2] * N


def test_resumed_on_another_number_of_ranks(job, size, tmp_path):
    source = ap.Source(job.host, draw=draw, augment=rolled)
    whole = job.fit(source, steps=14, epochs=None)
    for step in (4, 6, 9):
        folder = tmp_path / str(step)
        job.fit(source, steps=step, epochs=None, callbacks=[ap.Checkpoints(folder)])

        def train(communicator, folder=folder):
            return job.fit(source, communicator, steps=14, epochs=None, resume=folder)

        for ours in on_ranks(2, train):
            np.testing.assert_allclose(ours.history.losses, whole.history.losses, rtol=1e-9)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("failing", [0, 2])
def test_a_reader_that_fails_on_one_rank_ends_all(job, failing, ahead, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", 1)
    began = time.perf_counter()

    class Failing(Rows):
        def __getitem__(self, rows):
            if len(self.asked) == 6:
                raise OSError("the disk is gone")
            return super().__getitem__(rows)

    def train(communicator):
        kind = Failing if communicator.rank == failing else Rows
        with pytest.raises(RuntimeError) as caught:
            job.fit(ap.Source(kind(*job.host), ahead=ahead), communicator)
        return caught.value

    wanted = job.fit(job.data, steps=4, epochs=None)
    for rank, error in enumerate(on_ranks(3, train)):
        assert "batch 4 of epoch 0: OSError: the disk is gone" in str(error)
        assert isinstance(error, ap.DataError) == (rank == failing)
        assert ("rank" in str(error)) == (rank != failing)
        np.testing.assert_allclose(error.history.losses, wanted.history.losses, rtol=1e-9)
        flat, theirs = (job.backend.to_numpy(p.flat) for p in (error.params, wanted.params))
        np.testing.assert_allclose(flat, theirs, rtol=1e-9)
    assert time.perf_counter() - began < 30


def test_other_data_on_one_rank(job):
    def train(communicator):
        x, t = job.host
        other = t if communicator.rank else (t + 1) % 3
        with pytest.raises(ValueError, match="different rows at the ends of data"):
            job.fit(ap.Source((x, other)), communicator)

    on_ranks(2, train)
