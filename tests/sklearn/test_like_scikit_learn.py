"""The same numbers as scikit-learn's own classes: loss curves, weights, scores, predictions."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.base import clone

import anyprop.sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODES = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd without momentum": {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0.0},
    "sgd with full momentum": {"solver": "sgd", "learning_rate_init": 0.002, "momentum": 1.0},
    "heavy ball": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3},
    "invscaling heavy ball": {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "learning_rate_init": 0.3,
        "power_t": 0.2,
        "nesterovs_momentum": False,
    },
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.1,
        "tol": 0.05,
        "n_iter_no_change": 1,
        "max_iter": 40,
    },
    "adam": {},
    "adam with options": {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3, "alpha": 1.0},
    "adam ignores the mode of the learning rate": {"learning_rate": "invscaling"},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh", "hidden_layer_sizes": 9},
    "identity": {"activation": "identity", "hidden_layer_sizes": ()},
    "in order": {"shuffle": False},
    "one batch": {"batch_size": "auto", "alpha": 0.0},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 40},
    "early stopping in order": {
        "early_stopping": True,
        "shuffle": False,
        "validation_fraction": 0.3,
    },
    "until it stalls": {"tol": 0.1, "n_iter_no_change": 2, "max_iter": 60},
    "never": {"n_iter_no_change": np.inf},
}


def assert_alike(ours, theirs, X):
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.n_layers_ == theirs.n_layers_
    assert ours.n_outputs_ == theirs.n_outputs_
    assert ours.out_activation_ == theirs.out_activation_
    assert ours.n_features_in_ == theirs.n_features_in_
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
    for mine, other in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    for method in ("predict", "predict_proba"):
        if hasattr(theirs, method):
            actual, desired = getattr(ours, method)(X), getattr(theirs, method)(X)
            assert actual.dtype == desired.dtype
            np.testing.assert_allclose(actual, desired, rtol=1e-6, atol=1e-9)
    if hasattr(theirs, "predict_proba"):
        # scikit-learn's own logarithms lose their digits where a probability is close to 1.
        np.testing.assert_allclose(
            np.exp(ours.predict_log_proba(X)), theirs.predict_proba(X), rtol=1e-6, atol=1e-9
        )


def assert_same_course(ours, theirs):
    assert len(theirs.loss_curve_) > 1
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert ours.t_ == theirs.t_
    assert (ours.best_loss_ is None) == (theirs.best_loss_ is None)
    if theirs.best_loss_ is not None:
        np.testing.assert_allclose(ours.best_loss_, theirs.best_loss_, rtol=1e-9)
        assert ours.validation_scores_ is theirs.validation_scores_ is None
        assert ours.best_validation_score_ is theirs.best_validation_score_ is None
    else:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-9)
        np.testing.assert_allclose(ours.best_validation_score_, theirs.best_validation_score_)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_course_of_training(task, options, weighted):
    weight = task.weights() if weighted else None
    ours = task.ours(**options).fit(task.X, task.y, sample_weight=weight)
    theirs = task.theirs(**options).fit(task.X, task.y, sample_weight=weight)
    assert_same_course(ours, theirs)
    assert_alike(ours, theirs, task.X)


def test_the_modes_of_the_learning_rate_are_put_to_the_test(make_task):
    """The options above reach what they are about."""
    task = make_task("multiclass")
    adaptive = task.theirs(**MODES["adaptive"]).fit(task.X, task.y)
    assert adaptive._optimizer.learning_rate <= 1e-6
    stalled = task.theirs(**MODES["until it stalls"]).fit(task.X, task.y)
    assert stalled.n_iter_ < 60
    stopped = task.theirs(**MODES["early stopping"]).fit(task.X, task.y)
    assert stopped.n_iter_ < 40


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_lbfgs(task, weighted):
    weight = task.weights() if weighted else None
    options = {"solver": "lbfgs", "alpha": 0.1, "max_iter": 8}
    ours = task.ours(**options).fit(task.X, task.y, sample_weight=weight)
    theirs = task.theirs(**options).fit(task.X, task.y, sample_weight=weight)
    assert_alike(ours, theirs, task.X)
    assert not hasattr(ours, "loss_curve_")


def test_single_precision(task):
    X = task.X.astype("float32")
    ours, theirs = task.ours().fit(X, task.y), task.theirs().fit(X, task.y)
    assert {a.dtype.name for a in ours.coefs_ + ours.intercepts_} == {"float32"}
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)


def test_partial_fit(task):
    ours, theirs = task.ours(), task.theirs()
    classes = np.unique(task.y) if task.y.ndim == 1 else np.arange(task.y.shape[1])
    first = {"classes": classes} if task.kind == "MLPClassifier" else {}
    for part in np.array_split(np.arange(task.X.shape[0]), 4):
        weight = task.weights()[part]
        for model in (ours, theirs):
            model.partial_fit(task.X[part], task.y[part], sample_weight=weight, **first)
        first = {}
    assert_same_course(ours, theirs)
    assert_alike(ours, theirs, task.X)


def test_partial_fit_goes_on_after_fit(task):
    ours, theirs = task.ours(solver="sgd"), task.theirs(solver="sgd")
    for model in (ours, theirs):
        model.fit(task.X, task.y)
        model.partial_fit(task.X[:100], task.y[:100])
    assert_same_course(ours, theirs)
    assert_alike(ours, theirs, task.X)


def test_lbfgs_of_several_outputs_descends_what_it_measures(make_task):
    """scikit-learn hands L-BFGS a loss of another scale than the gradient's, and stops early."""
    task = make_task("several outputs")
    options = {"solver": "lbfgs", "max_iter": 300, "alpha": 1.0}
    ours = task.ours(**options).fit(task.X, task.y)
    theirs = task.theirs(**options).fit(task.X, task.y)
    assert ours.score(task.X, task.y) > theirs.score(task.X, task.y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_warm_start(make_task, solver):
    for name in ("multiclass", "binary", "multilabel", "one output", "poisson"):
        _check_warm_start(make_task(name), solver)


def _check_warm_start(task, solver):
    options = {"solver": solver, "warm_start": True, "max_iter": 3}
    ours, theirs = task.ours(**options), task.theirs(**options)
    for _ in range(3):
        ours.fit(task.X, task.y)
        theirs.fit(task.X, task.y)
    assert_alike(ours, theirs, task.X)
    if solver == "adam":
        assert_same_course(ours, theirs)


def test_a_random_state_is_drawn_from_alike(task):
    ours = task.ours(random_state=np.random.RandomState(4))
    theirs = task.theirs(random_state=np.random.RandomState(4))
    for model in (ours, theirs):
        model.fit(task.X, task.y)
        model.fit(task.X, task.y)
    assert_alike(ours, theirs, task.X)


def test_verbose_prints_the_same(make_task, capsys):
    for name, options in (("multiclass", "early stopping"), ("one output", "adaptive")):
        task = make_task(name)
        task.ours(verbose=True, **MODES[options]).fit(task.X, task.y)
        ours = capsys.readouterr().out
        task.theirs(verbose=True, **MODES[options]).fit(task.X, task.y)
        assert ours == capsys.readouterr().out
        assert len(ours) > 300


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "options", [{}, {"solver": "lbfgs", "max_iter": 2}, {"batch_size": 10_000}], ids=str
)
def test_warnings_are_the_same_and_point_at_the_caller(make_task, options):
    task = make_task("binary")
    seen = []
    for model in (task.ours(**options), task.theirs(**options)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(task.X, task.y)
        seen.append([(w.category, str(w.message)) for w in caught])
        if model.__module__.startswith("anyprop"):
            of_lbfgs = "solver" in options  # that warning is scikit-learn's own
            assert of_lbfgs or {w.filename for w in caught} == {__file__}
    assert seen[0] == seen[1]
    assert seen[0]


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_fit_needs_no_more_memory(kind, solver):
    rng = np.random.default_rng(0)
    X = rng.random((1000, 400), dtype=np.float32)
    y = rng.integers(0, 10, 1000) if kind == "MLPClassifier" else rng.random((1000, 10))
    options = {"hidden_layer_sizes": (200, 200), "batch_size": 200, "max_iter": 2}

    def peak(module):
        estimator = getattr(module, kind)(solver=solver, random_state=0, **options)
        estimator.fit(X, y)  # which imports and compiles what it needs
        tracemalloc.start()
        try:
            clone(estimator).fit(X, y)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(anyprop.sklearn) <= peak(sklearn.neural_network)
