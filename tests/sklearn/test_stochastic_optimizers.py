"""The optimizers of the estimators beside scikit-learn's own, step for step, without a network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

import anyprop.sklearn
from anyprop.sklearn._optimizer import LearningRate, make_optimizer

SHAPES = [(4, 3), (3, 2), (3,), (2,)]
SGD = [
    {"momentum": momentum, "nesterovs_momentum": nesterov, "learning_rate": mode}
    for momentum, nesterov in [(0.0, True), (0.9, True), (0.9, False), (0.3, True), (1.0, False)]
    for mode in ("constant", "invscaling", "adaptive")
]
ADAM = [
    {},
    {"beta_1": 0.5, "beta_2": 0.8},
    {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e-3},
    {"epsilon": 0.1, "learning_rate_init": 0.5},
    {"learning_rate": "adaptive"},  # which it ignores
]


def _theirs(options, params):
    """Return scikit-learn's optimizer as its estimators create it."""
    own = {"sgd": {"momentum": 0.9, "nesterovs_momentum": True}, "adam": {}}[options["solver"]]
    own = {"learning_rate": "constant", "learning_rate_init": 0.001} | own | options
    if options["solver"] == "adam":
        betas = {k: v for k, v in own.items() if k in ("beta_1", "beta_2", "epsilon")}
        return AdamOptimizer(params, own["learning_rate_init"], **betas)
    return SGDOptimizer(
        *(params, own["learning_rate_init"], own["learning_rate"]),
        *(own["momentum"], own["nesterovs_momentum"], own.get("power_t", 0.5)),
    )


@pytest.mark.parametrize(
    "options",
    [{"solver": "sgd", "learning_rate_init": 0.05, "power_t": 0.3} | o for o in SGD]
    + [{"solver": "adam"} | o for o in ADAM],
    ids=str,
)
def test_step_for_step(options, rng):
    estimator = anyprop.sklearn.MLPClassifier(**options)
    opt = make_optimizer(estimator, steps=1)
    ours = tuple(rng.standard_normal(shape) for shape in SHAPES)
    theirs = [p.copy() for p in ours]
    run, their_opt = SimpleNamespace(state=opt.init(ours)), _theirs(options, theirs)
    rate = LearningRate(estimator, opt)
    stops = []
    for step in range(1, 101):
        scale = 10.0 ** rng.uniform(-4, 2)
        grads = tuple(scale * rng.standard_normal(shape) for shape in SHAPES)
        ours, run.state = opt.update(ours, grads, run.state)
        their_opt.update_params(theirs, grads)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-12)
        if step % 10 == 0:  # an epoch of 70 rows
            rate.after_epoch(run, 7 * step)
            their_opt.iteration_ends(7 * step)
        if step % 20 == 0:  # which improved nothing
            stops.append((rate.after_plateau(run)[0], their_opt.trigger_stopping("", False)))
    assert all(a == b for a, b in stops)


def test_the_adaptive_rate_ends_where_theirs_does():
    estimator = anyprop.sklearn.MLPRegressor(solver="sgd", learning_rate="adaptive")
    opt = make_optimizer(estimator, steps=1)
    run, theirs = SimpleNamespace(state=opt.init(np.ones(2))), SGDOptimizer([], 1e-3, "adaptive")
    rate = LearningRate(estimator, opt)
    for _ in range(10):
        stops, _ = rate.after_plateau(run)
        assert stops == theirs.trigger_stopping("", False)
        assert opt.learning_rate(run.state) == pytest.approx(theirs.learning_rate, rel=1e-12)
    assert stops
