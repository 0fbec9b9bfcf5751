"""Array API dispatch: targets and weights move to X; fitted attributes and predictions live there."""

from __future__ import annotations

import pickle

import array_api_strict
import numpy as np
import pytest
from sklearn import config_context, datasets
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import get_namespace_and_device, move_estimator_to

from anyprop.backend import device_of, namespace
from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = {"hidden_layer_sizes": (9,), "max_iter": 4, "random_state": 0, "batch_size": 40}


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


def assert_beside(array, X):
    assert namespace(array) is namespace(X)
    assert device_of(array) == device_of(X)


VARIANTS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True},
    "norms and dropout": {"norm": "batch", "dropout": 0.3},
    "layer norm": {"norm": "layer", "solver": "rmsprop", "learning_rate": "cosine"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_on_every_backend_as_on_numpy(backend, make_task, options):
    for name in ("multiclass", "binary", "multilabel", "several outputs", "poisson"):
        task = make_task(name)
        weight = task.weights()
        on_numpy = task.ours(**OPTIONS | options).fit(task.X, task.y, sample_weight=weight)
        X, y, w = (backend.asarray(a) for a in (task.X, task.y, weight))
        model = task.ours(**OPTIONS | options).fit(X, y, sample_weight=w)
        if options.get("solver") != "lbfgs":
            np.testing.assert_allclose(model.loss_curve_, on_numpy.loss_curve_, rtol=1e-7)
        for ours, theirs in zip(model._arrays(), on_numpy._arrays(), strict=True):
            assert_beside(ours, X)
            np.testing.assert_allclose(backend.to_numpy(ours), theirs, rtol=1e-5, atol=1e-7)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(model, method):
                result = getattr(model, method)(X)
                assert_beside(result, X)
                np.testing.assert_allclose(
                    backend.to_numpy(result),
                    getattr(on_numpy, method)(task.X),
                    rtol=1e-4,
                    atol=1e-7,
                )


@pytest.mark.parametrize("name", ["multiclass", "one output"])
def test_targets_and_weights_may_come_from_numpy(backend, make_task, name):
    task = make_task(name)
    X = backend.asarray(task.X)
    ours = task.ours(**OPTIONS).fit(X, task.y, sample_weight=task.weights())
    there = task.ours(**OPTIONS).fit(
        X, backend.asarray(task.y), sample_weight=backend.asarray(task.weights())
    )
    assert_beside(ours.coefs_[0], X)
    assert ours.loss_curve_ == there.loss_curve_
    assert isinstance(ours.score(X, task.y), float)


def test_validation_data_may_come_from_numpy(backend, make_task):
    task = make_task("multiclass")
    X = backend.asarray(task.X)
    model = task.ours(**OPTIONS).fit(X, task.y, X_val=task.X[:50], y_val=task.y[:50])
    assert len(model.validation_loss_curve_) == model.n_iter_


def test_single_precision_stays(backend, make_task):
    task = make_task("binary")
    X = backend.asarray(task.X, "float32")
    model = task.ours(**OPTIONS).fit(X, task.y)
    assert {str(a.dtype).rpartition(".")[2] for a in model.coefs_} == {"float32"}
    assert model.predict_proba(X).dtype == X.dtype


def test_classes_that_are_no_numbers_stay_on_the_host(backend, make_task):
    task = make_task("multiclass")
    names = np.asarray([f"digit {label}" for label in task.y])
    X = backend.asarray(task.X)
    model = task.ours(**OPTIONS).fit(X, names)
    assert model.classes_.tolist() == [f"digit {i}" for i in range(10)]
    predicted = model.predict(X)
    assert isinstance(predicted, np.ndarray)
    assert set(predicted) <= set(names)


def test_predicting_elsewhere_raises_and_tells_the_remedy(backend, make_task):
    task = make_task("binary")
    X = backend.asarray(task.X)
    other = array_api_strict.asarray(task.X) if backend.name == "numpy" else task.X
    model = task.ours(**OPTIONS).fit(X, task.y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(
            ValueError,
            match=rf"MLPClassifier.{method}\(\) must use the same namespace.*to_namespace",
        ):
            getattr(model, method)(other)
    with pytest.raises(ValueError, match=r"partial_fit\(\) must use the same namespace"):
        model.partial_fit(other, task.y)
    with pytest.raises(ValueError, match=r"MLPClassifier.fit\(\) must use the same namespace"):
        model.set_params(warm_start=True).fit(other, task.y)


def test_moving_an_estimator(backend, make_task):
    """scikit-learn's own function moves what was fitted, and training goes on there."""
    task = make_task("multiclass")
    model = task.ours(**OPTIONS, norm="batch").fit(task.X, task.y)
    stayed = pickle.loads(pickle.dumps(model))
    X = backend.asarray(task.X)
    xp, _, device = get_namespace_and_device(X)
    moved = move_estimator_to(model, xp, device)
    assert_beside(moved.predict_proba(X), X)
    np.testing.assert_allclose(
        backend.to_numpy(moved.predict_proba(X)), model.predict_proba(task.X), rtol=1e-6
    )
    moved.partial_fit(X, task.y)
    stayed.partial_fit(task.X, task.y)
    np.testing.assert_allclose(moved.loss_curve_, stayed.loss_curve_, rtol=1e-7)


@pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning"
)  # inside StandardScaler, on strict
def test_a_pipeline(backend):
    X, y = datasets.load_iris(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    # scikit-learn's transformers write into arrays, which JAX's do not allow
    scaler = "passthrough" if backend.name == "jax" else StandardScaler()
    model = make_pipeline(scaler, MLPClassifier(random_state=0, max_iter=200))
    model.fit(backend.asarray(X), backend.asarray(y))
    assert model.score(backend.asarray(X_test), backend.asarray(y_test)) > 0.8


def test_partial_fit(backend, make_task):
    for name in ("multiclass", "several outputs"):
        task = make_task(name)
        first = {"classes": np.unique(task.y)} if name == "multiclass" else {}
        there, here = task.ours(**OPTIONS), task.ours(**OPTIONS)
        for part in np.array_split(np.arange(task.X.shape[0]), 3):
            X, y = task.X[part], task.y[part]
            here.partial_fit(X, y, **first)
            there.partial_fit(backend.asarray(X), backend.asarray(y), **first)
            first = {}
        np.testing.assert_allclose(there.loss_curve_, here.loss_curve_, rtol=1e-7)


def test_regression_targets_of_integers(backend):
    X = np.random.default_rng(0).standard_normal((60, 3))
    y = np.arange(60)
    model = MLPRegressor(**OPTIONS).fit(backend.asarray(X), backend.asarray(y))
    same = MLPRegressor(**OPTIONS).fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, same.loss_curve_, rtol=1e-7)
