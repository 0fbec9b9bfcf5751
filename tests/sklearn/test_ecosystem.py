"""What scikit-learn does with an estimator: pipelines, searches, clones, pickles, names, routing."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import anyprop as ap
from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = {
    "hidden_layer_sizes": (9,),
    "max_iter": 60,
    "random_state": 0,
    "learning_rate_init": 0.01,
}


@pytest.fixture
def iris():
    return train_test_split(*load_iris(return_X_y=True), random_state=0)


def test_a_pipeline_and_cross_validation(iris):
    X, X_test, y, y_test = iris
    model = make_pipeline(StandardScaler(), MLPClassifier(**OPTIONS))
    assert model.fit(X, y).score(X_test, y_test) > 0.85
    assert cross_val_score(model, X, y, cv=3).mean() > 0.8


def test_a_grid_search_in_two_processes(iris):
    X, _, y, _ = iris
    sizes = {"hidden_layer_sizes": [(5,), (9,)]}
    grid = [sizes, sizes | {"solver": [ap.RMSProp(lr=0.01)], "learning_rate_init": [0.001]}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(MLPClassifier(**OPTIONS), grid, n_jobs=2, cv=2, error_score="raise")
        search.fit(StandardScaler().fit_transform(X), y)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.8


def test_clone_keeps_the_parameters_and_forgets_the_rest(iris):
    X, _, y, _ = iris
    options = {k: v for k, v in OPTIONS.items() if k != "learning_rate_init"}
    model = MLPClassifier(**options, solver=ap.AdamW(lr=0.01), class_weight={0: 2.0}).fit(X, y)
    copy = clone(model)
    assert repr(copy) == repr(model)
    assert not hasattr(copy, "coefs_")
    copy.fit(X, y)
    assert copy.loss_curve_ == model.loss_curve_


@pytest.mark.parametrize("norm", [None, "batch"])
def test_a_pickle_holds_each_number_once_and_goes_on_training(iris, norm):
    X, _, y, _ = iris
    model = MLPClassifier(**OPTIONS | {"hidden_layer_sizes": (500,)}, norm=norm).fit(X, y)
    content = pickle.dumps(model)
    numbers = sum(a.size for a in model._arrays())
    assert len(content) < 8 * numbers * 3 + 20_000  # the parameters, and Adam's two means
    copy = pickle.loads(content)
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    for each in (copy, model):
        each.partial_fit(X, y)
        each.partial_fit(X, y)
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert copy.loss_curve_ == model.loss_curve_


def test_changed_coefficients_change_predictions(iris):
    X, _, y, _ = iris
    model = MLPClassifier(**OPTIONS).fit(X, y)
    model.intercepts_[-1][2] += 100.0  # in place
    assert (model.predict(X) == 2).all()
    model.intercepts_ = [model.intercepts_[0], np.asarray([0.0, 100.0, 0.0])]  # by others
    assert (model.predict(X) == 1).all()


def test_names_of_features_and_frames_as_output(iris):
    X, X_test, y, _ = iris
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    scaler = StandardScaler().set_output(transform="pandas")
    model = make_pipeline(scaler, MLPClassifier(**OPTIONS)).fit(frame, pandas.Series(y))
    assert model[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model[-1].predict(X_test)
    with pytest.raises(ValueError, match="feature names should match"):
        model[-1].predict(frame[["b", "a", "c", "d"]])


def test_sample_weights_are_routed(iris):
    X, _, y, _ = iris
    weight = (y != 2).astype(float)
    with config_context(enable_metadata_routing=True):
        final = MLPClassifier(**OPTIONS).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model = make_pipeline(scaler, final).fit(X, y, sample_weight=weight)
    assert 2 not in model.predict(X)


def test_it_is_shown_as_html():
    html = MLPClassifier(hidden_layer_sizes=(3,), dropout=0.5)._repr_html_()
    assert "MLPClassifier" in html
    assert "dropout" in html
    assert repr(MLPRegressor(loss="poisson")) == "MLPRegressor(loss='poisson')"


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_data(make_task, kind, solver):
    for name in ("multiclass", "several outputs"):
        task = make_task(name)
        X = np.where(np.abs(task.X) > 0.5, task.X, 0.0)
        sparse = scipy.sparse.csr_array(X).asformat(kind)
        dense = task.ours(solver=solver).fit(X, task.y, sample_weight=task.weights())
        model = task.ours(solver=solver).fit(sparse, task.y, sample_weight=task.weights())
        np.testing.assert_allclose(model.coefs_[0], dense.coefs_[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(model.predict(sparse), dense.predict(X), rtol=1e-6, atol=1e-9)


def test_many_sparse_rows_become_dense_in_parts(make_task, monkeypatch):
    monkeypatch.setattr("anyprop.sklearn._rows.AT_ONCE", 50)
    task = make_task("multiclass")
    sparse = scipy.sparse.csr_array(task.X)
    for options in ({"solver": "lbfgs", "norm": "layer"}, {"early_stopping": True}):
        dense = task.ours(**options).fit(task.X, task.y)
        model = task.ours(**options).fit(sparse, task.y)
        np.testing.assert_allclose(
            model.predict_proba(sparse), dense.predict_proba(task.X), rtol=1e-5, atol=1e-8
        )


def test_sparse_labels(make_task):
    task = make_task("multilabel")
    dense = task.ours().fit(task.X, task.y)
    model = task.ours().fit(task.X, scipy.sparse.csr_array(task.y))
    assert model.loss_curve_ == dense.loss_curve_
    assert scipy.sparse.issparse(model.predict(task.X))
    np.testing.assert_array_equal(model.predict(task.X).toarray(), dense.predict(task.X))


def test_one_model_for_each_output(iris):
    X, _, y, _ = iris
    both = MultiOutputClassifier(MLPClassifier(**OPTIONS)).fit(X, np.stack([y, 2 - y], axis=1))
    assert both.predict(X).shape == (X.shape[0], 2)


def test_labels_may_be_words(iris):
    X, _, y, _ = iris
    words = np.asarray(["setosa", "versicolor", "virginica"], dtype=object)[y]
    model = MLPClassifier(**OPTIONS).fit(X, words)
    assert set(model.predict(X)) <= set(words)
    assert (model.predict(X) == words).mean() == MLPClassifier(**OPTIONS).fit(X, y).score(X, y)
