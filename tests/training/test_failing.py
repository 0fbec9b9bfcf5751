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


def test_the_error_of_own_batches_carries_the_last_step(problem):
    def batches(n, batch_size, epoch):
        yield from ap.batch_indices(n, batch_size, seed=3, epoch=epoch)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more") as caught:
        problem.fit(epochs=2, batches=batches)
    error = caught.value
    assert len(error.history.losses) == error.state.step > 0


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
