"""An estimator's network, outside of it, predicts what the estimator does."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.neural_network
from sklearn import config_context

import anyprop as ap
from anyprop import interchange
from anyprop.layers.registry import ACTIVATIONS
from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 4))
TARGETS = {
    "several classes": (MLPClassifier, {}, np.digitize(X[:, 0], [-0.5, 0.5])),
    "two classes": (MLPClassifier, {}, np.where(X[:, 0] > 0.0, "yes", "no")),
    "several labels": (MLPClassifier, {}, (X[:, :3] > 0.0).astype(int)),
    "real numbers": (MLPRegressor, {}, X[:, 0] * X[:, 1]),
    "rows of real numbers": (MLPRegressor, {}, X[:, :2] * X[:, 2:]),
    "counts": (MLPRegressor, {"loss": "poisson"}, np.floor(np.exp(X[:, 0]))),
}
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 0, "learning_rate_init": 0.02}


def assert_same_predictions(model, net, params, x, tolerance):
    """Apply what `out_activation_` names, by NumPy, to what the network gives."""
    y = ap.predict(net, params, x).astype("float64")
    if model.out_activation_ == "softmax":
        e = np.exp(y - y.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)
    elif model.out_activation_ == "logistic":
        y = 1.0 / (1.0 + np.exp(-y))
        y = np.concatenate([1.0 - y, y], axis=1) if y.shape[1] == 1 else y
    elif model.out_activation_ == "exp":
        y = np.exp(y)
    else:
        assert model.out_activation_ == "identity"
    expected = model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)
    np.testing.assert_allclose(
        y.reshape(expected.shape), expected, rtol=tolerance, atol=tolerance / 100
    )


@pytest.mark.parametrize("activation", ["logistic", *ACTIVATIONS])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("task", TARGETS)
def test_a_network_predicts_what_its_estimator_does(task, norm, activation):
    kind, options, y = TARGETS[task]
    for dtype, dropout in (("float64", 0.0), ("float32", 0.3)):
        settings = {"norm": norm, "activation": activation, "dtype": dtype, "dropout": dropout}
        model = kind(**SMALL | options | settings).fit(X, y)
        net, params = interchange.from_sklearn(model)
        name = "sigmoid" if activation == "logistic" else activation
        assert net == ap.MLP([4, 6, 5, model.n_outputs_], name, norm=norm, dropout=dropout)
        assert params.flat.dtype == dtype
        assert_same_predictions(
            model, net, params, X.astype(dtype), 1e-9 if dtype == "float64" else 1e-4
        )


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", TARGETS)
def test_and_what_one_of_scikit_learn_does(task, activation):
    kind, options, y = TARGETS[task]
    theirs = getattr(sklearn.neural_network, kind.__name__)
    for dtype in ("float64", "float32"):
        model = theirs(**SMALL | options, activation=activation).fit(X.astype(dtype), y)
        net, params = interchange.from_sklearn(model)
        assert params.flat.dtype == dtype
        assert_same_predictions(
            model, net, params, X.astype(dtype), 1e-9 if dtype == "float64" else 1e-4
        )


@pytest.mark.parametrize("task", TARGETS)
def test_there_and_back(task):
    """An estimator predicts what the network that its parameters came from predicts."""
    kind, options, y = TARGETS[task]
    model = kind(**SMALL | options, activation="tanh").fit(X, y)
    net, _ = interchange.from_sklearn(model)
    params = net.init(seed=3, dtype="float64")
    model.coefs_, model.intercepts_ = interchange.to_sklearn(net, params)
    assert_same_predictions(model, net, params, X, 1e-9)
    again, same = interchange.from_sklearn(model)
    assert again == net
    np.testing.assert_array_equal(same.flat, params.flat)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_scikit_learn_has_no_place_for_norms(norm):
    model = MLPClassifier(**SMALL, norm=norm).fit(X, X[:, 0] > 0.0)
    with pytest.raises(ValueError, match="scikit-learn has no place for"):
        interchange.to_sklearn(*interchange.from_sklearn(model))


def test_settings_changed_after_fit_do_not_change_the_network():
    model = MLPClassifier(**SMALL, norm="layer").fit(X, X[:, 0] > 0.0)
    net, _ = interchange.from_sklearn(model)
    model.set_params(norm=None, activation="tanh", hidden_layer_sizes=(3,))
    assert interchange.from_sklearn(model)[0] == net


def test_arrays_that_are_none_of_the_network():
    model = MLPClassifier(**SMALL, norm="layer").fit(X, X[:, 0] > 0.0)
    model.norms_ = model.norms_[:1]
    with pytest.raises(
        ValueError, match=r"has 4.gamma of shape \(5,\), but the fitted one has nothing"
    ):
        interchange.from_sklearn(model)
    model = sklearn.neural_network.MLPClassifier(**SMALL).fit(X, X[:, 0] > 0.0)
    model.intercepts_.append(np.zeros(3))
    with pytest.raises(ValueError, match="has no place for b"):
        interchange.from_sklearn(model)


def test_one_class_has_no_network():
    for module in (sklearn.neural_network.MLPClassifier, MLPClassifier):
        model = module(**SMALL).fit(X, np.ones(80))
        with pytest.raises(ValueError, match="saw one class only"):
            interchange.from_sklearn(model)


def test_from_every_backend(backend):
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    with config_context(array_api_dispatch=True):
        model = MLPClassifier(**SMALL, norm="batch").fit(backend.asarray(X), y)
        net, params = interchange.from_sklearn(model)
        expected = backend.to_numpy(model.predict_proba(backend.asarray(X)))
        model.out_activation_ = "softmax"
    p = ap.Softmax().forward(params, ap.predict(net, params, X))[0]
    np.testing.assert_allclose(p, expected, rtol=1e-9)
    there = interchange.from_sklearn(model, xp=backend.xp, device=backend.device, dtype="float32")[
        1
    ]
    np.testing.assert_array_equal(backend.to_numpy(there.flat), params.flat.astype("float32"))


def test_layers_of_ones_own_do_not_pass_for_the_library_s():
    class Doubled(ap.Affine):
        def forward(self, params, x):
            y, residuals = super().forward(params, x)
            return 2.0 * y, residuals

    class Loud(ap.Dropout):
        def forward(self, params, x):
            return 2.0 * x, None

    for net in (
        Doubled(2, 3),
        ap.Sequential(ap.Affine(2, 3), Loud(0.5), ap.ReLU(), ap.Affine(3, 1)),
    ):
        with pytest.raises(ValueError, match="scikit-learn has no place for"):
            interchange.to_sklearn(net, net.init())
