"""A step in parts is the step of the whole batch."""

import itertools
import sys

import numpy as np
import pytest

import anyprop as ap
from anyprop.network import noise_beside

LOSSES = {
    "plain": ap.SoftmaxCrossEntropy(),
    "class_weight": ap.SoftmaxCrossEntropy(class_weight=[0.3, 2.0, 1.0], label_smoothing=0.1),
    "mean_squared_error": ap.MeanSquaredError(),
}


def _targets(problem, loss):
    if isinstance(loss, ap.MeanSquaredError):
        values = np.random.default_rng(2).standard_normal((problem.x.shape[0], 3))
        return problem.backend.asarray(values)
    return problem.t


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2, 4, 7, 30, 100, 10**15])
def test_the_parts_of_a_batch_give_its_loss_and_gradient(problem, loss, weighted, accumulate):
    t, params, weight = _targets(problem, loss), problem.params(), None
    if weighted:
        # Uneven over the parts, and some parts without any weight at all.
        w = np.where(np.arange(30) < 9, 0.0, np.random.default_rng(3).exponential(size=30))
        weight = problem.backend.asarray(w)
    opt = ap.SGD(lr=1.0)
    results = []
    for parts in (1, accumulate):
        step = ap.make_step(problem.net, loss, opt, accumulate=parts)
        new, state, value = step(params, opt.init(params), problem.x, t, sample_weight=weight)
        assert state.step == 1
        results.append((problem.numpy(new.flat), float(value)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-14)


def test_only_the_ratios_of_weights_count(problem):
    w = np.random.default_rng(3).exponential(size=30)
    opt, params = ap.SGD(lr=1.0), problem.params()
    step = ap.make_step(problem.net, problem.loss, opt, accumulate=4)
    large, small = (
        step(
            params, opt.init(params), problem.x, problem.t, sample_weight=problem.backend.asarray(v)
        )
        for v in (w, w / 1e3)
    )
    np.testing.assert_allclose(
        problem.numpy(small[0].flat), problem.numpy(large[0].flat), atol=1e-14
    )
    np.testing.assert_allclose(float(small[2]), float(large[2]), rtol=1e-14)


def test_no_weight_at_all_changes_nothing(problem):
    weight = problem.backend.asarray(np.zeros(30))
    opt, params = ap.SGD(lr=1.0), problem.params()
    step = ap.make_step(problem.net, problem.loss, opt, accumulate=4)
    new, _, value = step(params, opt.init(params), problem.x, problem.t, sample_weight=weight)
    assert float(value) == 0.0
    np.testing.assert_array_equal(problem.numpy(new.flat), problem.numpy(params.flat))


def test_a_batch_without_rows_changes_nothing(problem):
    opt, params = ap.SGD(lr=1.0), problem.params()
    step = ap.make_step(problem.net, problem.loss, opt, accumulate=3)
    new, _, value = step(params, opt.init(params), problem.x[:0, ...], problem.t[:0])
    assert float(value) == 0.0
    np.testing.assert_array_equal(problem.numpy(new.flat), problem.numpy(params.flat))


def test_the_mask_of_dropout_is_split_with_the_rows(problem):
    net = ap.Sequential(
        ap.Affine(4, 5), ap.Dropout(0.5), ap.Residual(ap.Dropout(0.2)), ap.Affine(5, 3)
    )
    params = problem.with_(net=net).params()
    noise = noise_beside(params, net.noise(np.random.default_rng(0), problem.x.shape))
    opt = ap.SGD(lr=1.0)
    whole, parts = (
        ap.make_step(net, problem.loss, opt, accumulate=parts)(
            params, opt.init(params), problem.x, problem.t, noise=noise
        )[0]
        for parts in (1, 4)
    )
    np.testing.assert_allclose(problem.numpy(parts.flat), problem.numpy(whole.flat), atol=1e-14)


@pytest.mark.needs("torch")
def test_batch_norm_sees_the_parts_one_after_the_other():
    import torch

    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((10, 3)), rng.standard_normal((10, 3))
    net, opt = ap.BatchNorm(3, momentum=0.3), ap.SGD(lr=0.1)
    params = net.init(dtype="float64")
    step = ap.make_step(net, ap.MeanSquaredError(), opt, accumulate=3)
    new, _, _ = step(params, opt.init(params), x, t)

    theirs = torch.nn.BatchNorm1d(3, momentum=0.3, dtype=torch.float64)
    for a, b in itertools.pairwise([0, 3, 6, 10]):
        y = theirs(torch.asarray(x[a:b]))
        ((y - torch.asarray(t[a:b])) ** 2).sum().div(30).backward()
    np.testing.assert_allclose(new.mean, theirs.running_mean.numpy(), rtol=1e-14)
    np.testing.assert_allclose(new.var, theirs.running_var.numpy(), rtol=1e-14)
    np.testing.assert_allclose(new.gamma, 1.0 - 0.1 * theirs.weight.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(params.mean, 0.0)


def test_arguments_stay_as_they_were(problem):
    params = problem.params()
    before = problem.numpy(params.flat).copy()
    state = problem.optimizer.init(params)
    step = ap.make_step(problem.net, problem.loss, problem.optimizer, accumulate=4)
    step(params, state, problem.x, problem.t)
    np.testing.assert_array_equal(problem.numpy(params.flat), before)
    assert not problem.numpy(state.slots["h"].flat).any()


@pytest.mark.parametrize("accumulate", [0, -1])
def test_accumulate_must_be_positive(accumulate):
    with pytest.raises(ValueError, match="accumulate"):
        ap.make_step(ap.ReLU(), ap.MeanSquaredError(), ap.SGD(), accumulate=accumulate)


def test_a_step_on_numpy_makes_few_calls_in_python():
    """They take longer than the arithmetic of a small network; 370 in the last version."""
    net, opt = ap.MLP([4, 8, 2]), ap.RMSProp()
    step, params = ap.make_step(net, ap.SoftmaxCrossEntropy(), opt), net.init(seed=8)
    x, t = np.ones((8, 4), dtype="float32"), np.zeros(8, dtype="int64")
    params, state, _ = step(params, opt.init(params), x, t)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        step(params, state, x, t)
    finally:
        sys.setprofile(before)
    assert calls < 180  # of PyTorch's, where it is loaded, are 16
