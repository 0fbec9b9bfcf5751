"""An error beside training ends `fit` as it was raised, and loses no work."""

import os

import numpy as np
import pytest

import anyprop as ap


class ClosedError(Exception):
    """Refuses attributes, all but those of Python."""

    def __setattr__(self, name, value):
        if not name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


class Failing(ap.Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch(self, run):
        if run.epoch == 2:
            raise self.error


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(
    "error", [RuntimeError("own"), ClosedError("own")], ids=["plain", "closed"]
)
def test_a_callbacks_error_carries_what_was_trained(problem, compile, error):
    with pytest.raises(type(error)) as caught:
        problem.fit(epochs=3, callbacks=[Failing(error)], compile=compile)
    assert caught.value is error
    wanted = problem.fit(epochs=2, compile=compile)
    np.testing.assert_array_equal(
        problem.numpy(error.params.flat), problem.numpy(wanted.params.flat)
    )
    assert error.state.step == wanted.state.step
    assert error.history.losses == wanted.history.losses


@pytest.mark.parametrize("compile", [True, False])
def test_an_error_does_not_carry_what_diverged_before_losses_were_read(problem, compile):
    class Stopping(ap.Callback):
        def on_settled(self, run, *, ending):
            if run.step == 4:
                raise LookupError("own")

    bold = problem.with_(optimizer=ap.SGD(lr=1e308))
    with pytest.raises(ap.TrainingDivergedError):
        bold.fit(steps=4, compile=compile)
    with pytest.raises(LookupError, match="own") as caught:
        bold.fit(steps=8, compile=compile, callbacks=[Stopping()])
    assert np.isfinite(problem.numpy(caught.value.params.flat)).all()


def test_an_error_carries_the_last_good_state_where_the_device_does_not_answer(
    problem, monkeypatch
):
    def lost(arrays):
        raise RuntimeError("the device is lost")

    class Stopping(ap.Callback):
        def on_settled(self, run, *, ending):
            if run.step == 4:
                monkeypatch.setattr("anyprop.training.run.read", lost)
                raise LookupError("own")

    with pytest.raises(LookupError, match="own") as caught:
        problem.fit(steps=8, callbacks=[Stopping()])
    monkeypatch.undo()
    carries(caught.value, problem, caught.value.state.step)


def test_the_error_of_own_batches_carries_the_last_step(problem):
    def batches(n, batch_size, epoch):
        yield from ap.batch_indices(n, batch_size, seed=3, epoch=epoch)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more") as caught:
        problem.fit(epochs=2, batches=batches)
    error = caught.value
    assert len(error.history.losses) == error.state.step > 0


def carries(error, problem, steps):
    """Check that an error carries the results of a run of so many steps."""
    assert error.state.step == steps
    wanted = problem.fit(steps=steps) if steps else None
    flat = problem.params().flat if wanted is None else wanted.params.flat
    np.testing.assert_allclose(problem.numpy(error.params.flat), problem.numpy(flat), rtol=1e-12)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("bad", [-0.01, float("nan"), "fast", None])
def test_a_schedule_that_goes_wrong(problem, compile, bad):
    def schedule(step):
        return 0.02 if step < 7 else bad

    good = problem.with_(optimizer=ap.SGD(lr=0.02))
    with pytest.raises((ValueError, TypeError), match="lr after 7 updates must be") as caught:
        problem.fit(epochs=3, optimizer=ap.SGD(lr=schedule), compile=compile)
    losses, step = caught.value.history.losses, caught.value.state.step
    if compile:  # the steps may work in place, and several be one call: then it is the last report
        assert 5 <= step <= len(losses) <= 7
    else:
        assert step == len(losses) == 7
    carries(caught.value, good, step)


def test_a_validation_that_fails(problem):
    class Own(ap.SoftmaxCrossEntropy):
        asked = 0

        def correct(self, y, t):
            Own.asked += 1
            if Own.asked == 3:  # the first is before the run
                raise LookupError("own")
            return super().correct(y, t)

    with pytest.raises(LookupError, match="own") as caught:
        problem.fit(epochs=3, loss=Own(), validation=problem.data)
    carries(caught.value, problem, 10)
    assert len(caught.value.history.losses) == 10
    assert len(caught.value.history.epochs) == 1


@pytest.mark.parametrize(
    ("at", "steps"), [("open", 5), ("set_postfix", 5), ("update", 5), ("close", 10)]
)
def test_a_progress_bar_that_fails(problem, at, steps, monkeypatch):
    class Bar:
        def __init__(self, **options):
            self.do("open")

        def do(self, what):
            if what == at:
                raise OSError(5, "the terminal is gone")

        def set_postfix(self, **values):
            self.do("set_postfix")

        def update(self, steps):
            self.do("update")

        def close(self):
            self.do("close")

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    with pytest.raises(OSError, match="the terminal is gone") as caught:
        problem.fit(epochs=2, progress=True)
    carries(caught.value, problem, steps)


@pytest.mark.parametrize("event", ["on_start", "on_report", "on_epoch", "on_settled", "on_end"])
def test_the_error_of_every_event_carries_what_was_trained(problem, event):
    class Own(ap.Callback):
        pass

    def fail(self, run, **options):
        raise LookupError("own")

    setattr(Own, event, fail)
    with pytest.raises(LookupError, match="own") as caught:
        problem.fit(epochs=2, callbacks=[Own()])
    carries(
        caught.value,
        problem,
        {"on_start": 0, "on_report": 5, "on_epoch": 5, "on_settled": 1, "on_end": 10}[event],
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("logger", [ap.CSVLogger, ap.JSONLogger])
def test_loggers_name_their_file(problem, logger):
    with pytest.raises(OSError, match="/dev/full"):
        problem.fit(callbacks=[logger("/dev/full")])


def test_weights_of_zero_are_refused(problem):
    weights = problem.backend.asarray(np.zeros(30))
    with pytest.raises(ValueError, match="no weight above 0"):
        problem.fit(sample_weight=weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_evaluate_refuses_examples_that_are_not_finite(problem, bad):
    x = problem.numpy(problem.x).copy()
    x[3, 1] = bad
    data = problem.backend.asarray(x), problem.t
    with pytest.raises(ValueError, match=r"x\[3, 1\]"):
        ap.evaluate(problem.net, problem.params(), data, loss=problem.loss)
