"""NaN and infinity end a run with what was good before."""

import math
import pickle

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import namespace
from anyprop.losses.base import Loss

BAD = 9
"""A label of one more example, which no batch holds but that of one step."""


class Poisoned(Loss):
    """Cross entropy whose value, or whose gradient, is bad in a batch that holds the label BAD."""

    def __init__(self, *, value=1.0, gradient=1.0):
        self.loss, self.value, self.gradient = ap.SoftmaxCrossEntropy(), value, gradient

    def forward(self, y, t, *, sample_weight=None):
        xp = namespace(y)
        labels = t * xp.astype(t != BAD, t.dtype)
        value, residuals = self.loss.forward(y, labels, sample_weight=sample_weight)
        bad = xp.max(xp.astype(t == BAD, y.dtype)) > 0.0
        return xp.where(bad, value * self.value, value), (residuals, bad)

    def backward(self, residuals, dvalue=1.0):
        residuals, bad = residuals
        dy = self.loss.backward(residuals, dvalue)
        return namespace(dy).where(bad, dy * self.gradient, dy)


def diverged(problem, step=None, value=1.0, gradient=1.0, **options):
    """Run into a batch in the given step that makes the value or the gradient bad."""
    if step is not None:
        x, t = problem.numpy(problem.x), problem.numpy(problem.t)
        problem = problem.with_(
            x=problem.backend.asarray(np.concatenate([x, x[:1]])),
            t=problem.backend.asarray(np.concatenate([t, [BAD]])),
            loss=Poisoned(value=value, gradient=gradient),
        )
        options["batches"] = lambda n, batch_size, epoch: (
            np.append(rows[1:], 30) if 5 * epoch + k == step else rows
            for k, rows in enumerate(ap.batch_indices(30, batch_size, seed=3, epoch=epoch), 1)
        )
    with pytest.raises(ap.TrainingDivergedError) as caught:
        problem.fit(**options)
    assert isinstance(caught.value, ArithmeticError)
    return caught.value


def assert_same(problem, error, result):
    np.testing.assert_array_equal(
        problem.numpy(error.params.flat), problem.numpy(result.params.flat)
    )
    assert error.state.step == result.state.step


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("report_every", [1, 2, 3, 4, 5, 6, 1000])
@pytest.mark.parametrize("step", [7, 8])
def test_a_bad_loss_is_named_and_the_last_good_parameters_are_kept(
    problem, value, report_every, step, compile
):
    """An epoch has 5 steps, and its end is a report too."""
    losses = problem.fit(steps=step - 1, compile=compile).history.losses
    error = diverged(problem, step, value, steps=12, report_every=report_every, compile=compile)
    assert error.step == step
    assert f"step {step}" in str(error)
    assert f"{losses[-1]:.6g}" in str(error)
    assert "learning rate" in str(error)
    assert error.history.losses == losses
    reports = [s for s in range(step) if s % report_every == 0 or s % 5 == 0]
    # The parameters of the last report, unless it is they that gave the bad loss.
    good = reports[-1] if reports[-1] + 1 < step else reports[-2]
    assert_same(problem, error, problem.fit(steps=good, compile=compile))


def test_a_bad_first_loss_gives_the_initial_parameters_back(problem):
    params = problem.params()
    error = diverged(problem, 1, math.nan, params=params)
    assert error.step == 1
    assert "first step" in str(error)
    assert error.history.losses == []
    np.testing.assert_array_equal(problem.numpy(error.params.flat), problem.numpy(params.flat))
    assert error.state.step == 0


def test_an_update_that_ruins_the_parameters_is_found_though_no_loss_follows(problem):
    error = diverged(problem, 4, gradient=math.nan, steps=4)
    assert error.step == 4
    assert "parameters" in str(error)
    assert len(error.history.losses) == 4
    assert np.isfinite(problem.numpy(error.params.flat)).all()


def test_a_learning_rate_that_is_far_too_large(problem):
    """For real, and NumPy's own warnings of overflow are not in the way."""
    t = problem.backend.asarray(np.random.default_rng(0).standard_normal((30, 3)))
    problem = problem.with_(t=t, loss=ap.MeanSquaredError(), net=ap.Affine(4, 3))
    error = diverged(problem, optimizer=ap.SGD(lr=1e9), steps=500, validation=problem.data)
    assert error.step == len(error.history.losses) + 1
    assert all(map(math.isfinite, error.history.losses))
    value = ap.evaluate(problem.net, error.params, problem.data, loss=problem.loss).loss
    assert math.isfinite(value)


def test_a_saturated_classifier_does_not_count_as_diverged(problem):
    result = problem.fit(optimizer=ap.SGD(lr=1e4), steps=20)
    assert max(result.history.losses) > 100
    assert np.isfinite(problem.numpy(result.params.flat)).all()


def test_callbacks_do_not_end_a_run_that_failed(problem):
    class Last(ap.Callback):
        def on_end(self, run):
            pytest.fail("the run has not come to an end")

    diverged(problem, 3, math.nan, callbacks=[Last()])


def test_the_error_can_be_sent_to_another_process():
    error = ap.TrainingDivergedError("the loss is nan in step 2.")
    error.step, error.history = 2, ap.History([1.0])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.step == 2
    assert again.history == error.history
