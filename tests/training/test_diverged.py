"""NaN and infinity end a run with what was good before."""

import math
import pickle

import numpy as np
import pytest

import anyprop as ap
from anyprop.losses.base import Loss


class Poisoned(Loss):
    """Cross entropy whose value, or whose gradient, is bad in one step."""

    def __init__(self, step, *, value=None, gradient=None):
        self.loss, self.step, self.calls = ap.SoftmaxCrossEntropy(), step, 0
        self.value, self.gradient = value, gradient

    def forward(self, y, t, *, sample_weight=None):
        self.calls += 1
        value, residuals = self.loss.forward(y, t, sample_weight=sample_weight)
        bad = self.calls == self.step and self.value is not None
        return (value * self.value if bad else value), residuals

    def backward(self, residuals, dvalue=1.0):
        dy = self.loss.backward(residuals, dvalue)
        bad = self.calls == self.step and self.gradient is not None
        return dy * self.gradient if bad else dy


def diverged(problem, **options):
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
@pytest.mark.parametrize(
    ("report_every", "good"), [(1, 5), (2, 5), (3, 5), (5, 4), (6, 5), (1000, 4)]
)
def test_a_bad_loss_is_named_and_the_last_good_parameters_are_kept(
    problem, value, report_every, good
):
    """Step 7 is bad. An epoch has 5 steps, and its end is a report too.

    The parameters kept are those that gave the last loss read before: that of step 5 or 6.
    """
    losses = problem.fit(steps=6).history.losses
    error = diverged(problem, loss=Poisoned(7, value=value), steps=12, report_every=report_every)
    assert error.step == 7
    assert "step 7" in str(error)
    assert f"{losses[-1]:.6g}" in str(error)
    assert "learning rate" in str(error)
    assert error.history.losses == losses
    assert_same(problem, error, problem.fit(steps=good))


def test_a_bad_first_loss_gives_the_initial_parameters_back(problem):
    params = problem.params()
    error = diverged(problem, loss=Poisoned(1, value=math.nan), params=params)
    assert error.step == 1
    assert "first step" in str(error)
    assert error.history.losses == []
    np.testing.assert_array_equal(problem.numpy(error.params.flat), problem.numpy(params.flat))
    assert error.state.step == 0


def test_an_update_that_ruins_the_parameters_is_found_though_no_loss_follows(problem):
    error = diverged(problem, loss=Poisoned(4, gradient=math.nan), steps=4)
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

    diverged(problem, loss=Poisoned(3, value=math.nan), callbacks=[Last()])


def test_the_error_can_be_sent_to_another_process():
    error = ap.TrainingDivergedError("the loss is nan in step 2.")
    error.step, error.history = 2, ap.History([1.0])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.step == 2
    assert again.history == error.history
