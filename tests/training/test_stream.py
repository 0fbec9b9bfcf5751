"""Training on batches in an order of their own, as they come."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import anyprop as ap
from ranks import on_ranks

from .test_source import Examples, StopAt, noisy


@pytest.fixture
def examples(backend):
    return Examples(backend)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [t for t in threading.enumerate() if t.name == "anyprop-ahead"] == []


def order(n, batch_size, epoch):
    """Batches of several sizes, another number of them in each epoch."""
    rng = np.random.default_rng(epoch)
    return [rng.integers(n, size=int(rng.integers(2, 9))) for _ in range(4 + epoch)]


class Batches:
    """The batches of `order`; it counts how many it made."""

    def __init__(self, examples, *, weighted=False, fails=None):
        self.arrays = (*examples.host, examples.weight)[: 3 if weighted else 2]
        self.made, self.fails = [], fails

    def __call__(self, epoch):
        for k, rows in enumerate(order(30, None, epoch)):
            if self.fails == (epoch, k):
                raise OSError("the line is dead")
            self.made.append((epoch, k))
            yield tuple(array[rows] for array in self.arrays)


def fit(examples, stream, net=None, **options):
    return examples.fit(stream, net, **{"batch_size": None, **options})


@pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_numbers_are_those_from_memory(examples, ahead, compile):
    for net in (None, noisy()):
        stream = ap.Stream(Batches(examples), ahead=ahead)
        ours = fit(examples, stream, net, epochs=3, compile=compile)
        theirs = examples.fit(examples.problem.data, net, batches=order, epochs=3, compile=compile)
        assert len(ours.history.losses) == 4 + 5 + 6
        # On JAX steps of arrays are done many at a time, which may round otherwise.
        tolerance = 1e-12 if examples.problem.backend.name == "jax" else 0
        np.testing.assert_allclose(ours.history.losses, theirs.history.losses, rtol=tolerance)
        flat, wanted = (examples.problem.numpy(r.params.flat) for r in (ours, theirs))
        np.testing.assert_allclose(flat, wanted, rtol=1e3 * tolerance)
        assert all(0 <= record.waited <= record.seconds for record in ours.history.epochs)


def test_weights_and_accumulation(examples):
    stream = ap.Stream(Batches(examples, weighted=True))
    ours = fit(examples, stream, epochs=2, accumulate=3)
    theirs = examples.fit(
        examples.problem.data,
        batches=order,
        epochs=2,
        accumulate=3,
        sample_weight=examples.weights,
        compile=False,
    )
    np.testing.assert_allclose(ours.history.losses, theirs.history.losses, rtol=1e-12)


def test_all_batches_have_weights_or_none(examples):
    def batches(epoch):
        for k, batch in enumerate(Batches(examples, weighted=True)(epoch)):
            yield batch if k == 0 else batch[:2]

    with pytest.raises(ap.DataError, match="there are 2 arrays, but 3 in batch 0"):
        fit(examples, ap.Stream(batches), epochs=1)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize(
    "options", [{"steps": 6}, {"epochs": 9, "report_every": 2, "callbacks": [StopAt(5)]}]
)
def test_it_ends_where_it_should(examples, options, ahead):
    made = Batches(examples)
    ours = fit(examples, ap.Stream(made, ahead=ahead), **options)
    theirs = examples.fit(examples.problem.data, batches=order, **options)
    assert len(ours.history.losses) == len(theirs.history.losses)
    assert [r.step for r in ours.history.epochs] == [r.step for r in theirs.history.epochs]
    assert len(made.made) <= len(ours.history.losses) + 1 + ahead


def test_without_an_end(examples):
    def simulated(epoch):
        rng = np.random.default_rng(epoch)
        while True:
            yield rng.integers(0, 8, (5, 4)).astype("uint8"), rng.integers(0, 3, 5)

    result = fit(examples, ap.Stream(simulated), steps=20)
    assert len(result.history.losses) == 20
    assert len(result.history.epochs) == 1


@pytest.mark.parametrize("ahead", [0, 1])
def test_resumed_by_replay(examples, ahead, tmp_path):
    saving = [ap.Checkpoints(tmp_path, every=1, keep=99)]
    whole = fit(examples, ap.Stream(Batches(examples)), noisy(), epochs=3, callbacks=saving)
    for step in range(1, 15):
        made = Batches(examples)
        path = tmp_path / f"step-{step:08d}.safetensors"
        ours = fit(examples, ap.Stream(made, ahead=ahead), noisy(), epochs=3, resume=path)
        examples.assert_same(ours, whole)
        assert made.made[0] == ((0, 0) if step <= 4 else (1, 0) if step <= 9 else (2, 0))
    with pytest.raises(OSError, match="the line is dead") as caught:
        fit(examples, ap.Stream(Batches(examples, fails=(2, 1))), noisy(), epochs=3, resume=path)
    assert "batch 1 of epoch 2" in "".join(caught.value.__notes__)
    with pytest.raises(ap.ResumeError, match="examples was None and is 30"):
        examples.fit(examples.problem.data, noisy(), epochs=3, resume=path)
    short = ap.Stream(lambda epoch: list(Batches(examples)(epoch))[:2])
    with pytest.raises(ValueError, match="batches gave 2 for epoch 0, but 3 were done"):
        fit(examples, short, noisy(), epochs=3, resume=tmp_path / "step-00000003.safetensors")


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_was_trained_is_kept(examples, ahead):
    made = Batches(examples, fails=(1, 2))
    with pytest.raises(
        ap.DataError, match="batch 2 of epoch 1: OSError: the line is dead"
    ) as caught:
        fit(examples, ap.Stream(made, ahead=ahead), epochs=3)
    error = caught.value
    assert (error.epoch, error.batch, error.rows) == (1, 2, None)
    assert isinstance(error.__cause__, OSError)
    wanted = fit(examples, ap.Stream(Batches(examples)), steps=6)
    examples.assert_same_state(error, wanted)


def test_other_failures(examples):
    x, t = examples.x[:4].astype("float32"), examples.t[:4]
    bad = x.copy()
    bad[2, 1] = np.nan

    for second, said in [
        ((bad, t), r"x\[2, 1\] is nan"),
        ((x, t + 7), "row 0, label .* out of range"),
        ((x[:, :3], t), "rows of shape"),
        (x, r"\(x, t\)"),
    ]:
        with pytest.raises(ap.DataError, match=f"batch 1 of epoch 0: .*{said}"):
            fit(examples, ap.Stream(lambda epoch, second=second: [(x, t), second]))
    # Before the first step the error is what it is.
    with pytest.raises(ValueError, match=r"data: x\[2, 1\] is nan|x\[2, 1\] is nan"):
        fit(examples, ap.Stream(lambda epoch: [(bad, t)]))
    with pytest.raises(TypeError, match="which float64 parameters cannot hold exactly"):
        fit(examples, ap.Stream(lambda epoch: [(x.astype("int64"), t)]))
    with pytest.raises(ap.DataError, match="batches gave no batch for epoch 1"):
        fit(examples, ap.Stream(lambda epoch: [(x, t)] * (1 - epoch)), epochs=2)


@pytest.mark.parametrize("own", [True, False])
def test_batches_that_have_ended_are_told_to_be_made_anew(examples, own):
    advice = "epoch 1; a generator can be run through only once, so make another in each call"
    if own:
        once = iter([np.arange(4)])
        with pytest.raises(ValueError, match=advice):
            examples.fit(examples.problem.data, batches=lambda n, size, epoch: once, epochs=2)
    else:
        once = iter([examples.host])
        with pytest.raises(ap.DataError, match=advice):
            fit(examples, ap.Stream(lambda epoch: once), epochs=2)


def test_an_error_after_the_last_step_is_none(examples):
    for ahead in (0, 2):
        made = Batches(examples, fails=(1, 2))
        assert len(fit(examples, ap.Stream(made, ahead=ahead), steps=6).history.losses) == 6


def test_what_does_not_go_together(examples):
    stream = ap.Stream(Batches(examples))
    for options, said in [
        ({"batch_size": 100}, "brings its own batches; leave out batch_size"),
        ({"batches": order}, "brings its own batches; leave out batches"),
        ({"sample_weight": examples.weights}, "as third value of each batch"),
    ]:
        with pytest.raises(ValueError, match=said):
            fit(examples, stream, **options)

    def train(communicator):
        with pytest.raises(
            ValueError, match="a Stream is for one process; give the ranks a Source"
        ):
            fit(examples, stream, communicator=communicator)

    on_ranks(2, train)
    for batches, said in [
        (iter([]), "it can be run through only once; give Stream"),
        ([1, 2, 3], r"not a list of 3; if it has batches, give Stream\(lambda epoch: data\)"),
    ]:
        with pytest.raises(TypeError, match=said):
            fit(examples, batches)
