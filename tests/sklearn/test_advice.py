"""What a message of the estimators advises is done as it says, and the call succeeds."""

import re

import array_api_strict
import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import anyprop as ap
from anyprop import interchange, schedules
from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3))
Y = (X[:, 0] > 0).astype(int)
R = X[:, 0]
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
MIXED = np.asarray(["a", 1] * 30, dtype=object)
SPARSE = scipy.sparse.csr_array(1.0 + Y[:, None])
TINY = np.full(60, 1e-320)
MASKED = np.ma.masked_array(X, X > 2)


def classifier(**options):
    return MLPClassifier(**SMALL | options)


def regressor(**options):
    return MLPRegressor(**SMALL | options)


def fitted(sample_weight=None, **options):
    return classifier(**options).fit(X, Y, sample_weight=sample_weight)


def stopped_early(rows):
    return regressor(early_stopping=True).fit(X, R, X_val=X[:rows], y_val=R[:rows])


def goes_on(change, **options):
    """Fit, change the estimator, and fit again from where it was."""
    model = classifier(warm_start=True, **options).fit(X, Y)
    model.set_params(**change)
    return model.fit(X, Y)


def other_shape(warm_start):
    model = classifier(warm_start=True).fit(X, Y)
    return model.set_params(hidden_layer_sizes=(5,), warm_start=warm_start).fit(X, Y)


def with_weights(value, fit=False):
    model = fitted()
    model.coefs_[0][:] = np.nan
    if value is not None:
        model.coefs_ = [np.full_like(W, value) for W in model.coefs_]
    if fit:
        model.fit(X, Y)
    return model.predict(X)


def with_large_weights():
    model = fitted(dtype="float32", activation="identity")
    model.coefs_[1][...] = 1e5
    return model


def set_after_fit(*names, fit=False):
    model = fitted()
    for name in names:
        model.set_params(activation=name)
    if fit:
        model.fit(X, Y)
    return model.predict(X)


def held_out(scale):
    return regressor(early_stopping=True).fit(X, R, X_val=X * scale, y_val=R)


LARGE = {"solver": "sgd", "learning_rate_init": 1e10, "max_iter": 50}
# advice -> (what fails with it, what follows it)
ADVICE = {
    "leave out callbacks": (
        lambda: fitted(solver="lbfgs", callbacks=[ap.Callback()]),
        lambda: fitted(solver="lbfgs"),
    ),
    "leave out X_val": (
        lambda: classifier(solver="lbfgs").fit(X, Y, X_val=X, y_val=Y),
        lambda: fitted(solver="lbfgs"),
    ),
    "leave out learning_rate_init": (
        lambda: fitted(solver=ap.RMSProp(), learning_rate_init=0.5),
        lambda: fitted(solver=ap.RMSProp()),
    ),
    "choose solver='adam'": (
        lambda: fitted(solver="lbfgs", dropout=0.1),
        lambda: fitted(solver="adam", dropout=0.1),
    ),
    "cannot go on in dtype='float32'; set warm_start=False and call fit to start again": (
        lambda: goes_on({"dtype": "float32"}),
        lambda: goes_on({"dtype": "float32", "warm_start": False}),
    ),
    "but the fitted one has shape (3, 4) there; set warm_start=False and call fit to start again": (
        lambda: other_shape(True),
        lambda: other_shape(False),
    ),
    "which the fitted one has; set warm_start=False and call fit to start again": (
        lambda: goes_on({"norm": None}, norm="layer"),
        lambda: goes_on({"norm": None, "warm_start": False}, norm="layer"),
    ),
    "set that again, or call fit": (
        lambda: set_after_fit("tanh"),
        lambda: [set_after_fit("tanh", "relu"), set_after_fit("tanh", fit=True)],
    ),
    "set others in coefs_ and intercepts_, or call fit": (
        lambda: with_weights(None),
        lambda: [with_weights(1.0), with_weights(None, fit=True)],
    ),
    "so scale it alike": (
        lambda: with_large_weights().predict(np.full((1, 3), 3e38)),
        lambda: with_large_weights().predict(np.full((1, 3), 1.0)),
    ),
    "so scale them alike": (lambda: held_out(1e300), lambda: held_out(1.0)),
    "fill or drop what is masked": (
        lambda: classifier().fit(MASKED, Y),
        lambda: classifier().fit(MASKED.filled(0), Y),
    ),
    "y is sparse; pass y.toarray()": (
        lambda: regressor().fit(X, SPARSE),
        lambda: regressor().fit(X, SPARSE.toarray().ravel()),
    ),
    "classes is sparse; pass classes.toarray()": (
        lambda: classifier().partial_fit(X, Y, classes=scipy.sparse.csr_array([[0, 1]])),
        lambda: classifier().partial_fit(
            X, Y, classes=scipy.sparse.csr_array([[0, 1]]).toarray().ravel()
        ),
    ),
    "sample_weight is sparse; pass sample_weight.toarray()": (
        lambda: fitted().score(X, Y, SPARSE),
        lambda: fitted().score(X, Y, SPARSE.toarray().ravel()),
    ),
    "give more rows in X_val": (lambda: stopped_early(1), lambda: stopped_early(2)),
    "make them strings by y.astype(str)": (
        lambda: classifier().fit(X, MIXED),
        lambda: classifier().fit(X, MIXED.astype(str)),
    ),
    "divide them": (
        lambda: classifier(dtype="float32").fit(X, Y, sample_weight=np.full(60, 1e300)),
        lambda: classifier(dtype="float32").fit(X, Y, sample_weight=np.full(60, 1e300) / 1e300),
    ),
    "check the weights that were given": (
        lambda: classifier(class_weight={0: 0, 1: 0}).fit(X, Y),
        lambda: classifier(class_weight={0: 0, 1: 1}).fit(X, Y),
    ),
    "multiply them if they round to 0": (
        lambda: fitted(dtype="float32", sample_weight=TINY),
        lambda: fitted(dtype="float32", sample_weight=TINY * 1e300),
    ),
    "1. Multiply the weights of the rows, now 1e-320 on average": (
        lambda: fitted(sample_weight=TINY),
        lambda: fitted(sample_weight=TINY * 1e300),
    ),
    "inf. Multiply the weights of the rows": (
        lambda: fitted(solver="lbfgs", sample_weight=TINY),
        lambda: fitted(solver="lbfgs", sample_weight=TINY * 1e300),
    ),
    "Increase 'validation_fraction' or the size of your dataset": (
        lambda: regressor(early_stopping=True, validation_fraction=0.02).fit(X[:40], R[:40]),
        lambda: [
            regressor(early_stopping=True, validation_fraction=0.1).fit(X[:40], R[:40]),
            regressor(early_stopping=True, validation_fraction=0.02).fit(
                np.concatenate([X, X]), np.concatenate([R, R])
            ),
        ],
    ),
    "pass class_weight as a dict, or weigh rows by sample_weight": (
        lambda: classifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1]),
        lambda: [
            classifier(class_weight={0: 1, 1: 2}).partial_fit(X, Y, classes=[0, 1]),
            classifier().partial_fit(X, Y, classes=[0, 1], sample_weight=1.0 + Y),
        ],
    ),
    "divide differences by a unit, such as numpy.timedelta64(1, 'D')": (
        lambda: regressor().fit(X, DATES),
        lambda: regressor().fit(X, (DATES - DATES[0]) / np.timedelta64(1, "D")),
    ),
    "train on y / 1e+300, and multiply what is predicted, as float64": (
        lambda: regressor(dtype="float32").fit(X, np.full(60, 1e300)),
        lambda: np.multiply(
            regressor(dtype="float32").fit(X, np.full(60, 1e300) / 1e300).predict(X),
            1e300,
            dtype="float64",
        ),
    ),
    "call fit first": (
        lambda: interchange.from_sklearn(classifier()),
        lambda: interchange.from_sklearn(fitted()),
    ),
    "Lower alpha=1e+307": (
        lambda: fitted(solver="lbfgs", dtype="float32", alpha=1e307),
        lambda: fitted(solver="lbfgs", dtype="float32", alpha=1.0),
    ),
    "inf. Scale X, for example by MaxAbsScaler": (
        lambda: regressor(solver="lbfgs").fit(X * 1e200, R),
        lambda: make_pipeline(MaxAbsScaler(), regressor(solver="lbfgs")).fit(X * 1e200, R),
    ),
    "Lower learning_rate_init=10000000000.0, or scale X, for example by MaxAbsScaler": (
        lambda: regressor(**LARGE).fit(X, R),
        lambda: regressor(**LARGE | {"learning_rate_init": 1e-3}).fit(X, R),
    ),
    "Lower learning_rate=Constant(lr=10000000000.0)": (
        lambda: regressor(max_iter=50, solver="sgd", learning_rate=schedules.Constant(1e10)).fit(
            X, R
        ),
        lambda: regressor(max_iter=50, solver="sgd", learning_rate=schedules.Constant(1e-3)).fit(
            X, R
        ),
    ),
    "Lower the lr of solver=SGD(lr=10000000000.0": (
        lambda: regressor(max_iter=50, solver=ap.SGD(1e10)).fit(X, R),
        lambda: regressor(max_iter=50, solver=ap.SGD(1e-3)).fit(X, R),
    ),
    "Scale y, for example by TransformedTargetRegressor(model, transformer=MaxAbsScaler())": (
        lambda: regressor().fit(X, R * 1e200),
        lambda: TransformedTargetRegressor(regressor(), transformer=MaxAbsScaler()).fit(
            X, R * 1e200
        ),
    ),
}
DATES = np.datetime64("2020-01-01") + np.arange(60)


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_leads_somewhere(advice):
    fails, follows = ADVICE[advice]
    with pytest.raises((TypeError, ValueError), match=re.escape(advice)):
        fails()
    follows()


def test_advice_about_places_leads_somewhere(monkeypatch):
    foreign, theirs = array_api_strict.asarray(X), array_api_strict.asarray(Y)
    with sklearn.config_context(array_api_dispatch=True):
        model = classifier().fit(foreign, theirs)
        with pytest.raises(ValueError, match=re.escape("move X with anyprop.to_namespace(X, xp")):
            model.predict(X)
        model.predict(ap.to_namespace(X, "array_api_strict"))


@pytest.mark.filterwarnings("error")
def test_advice_about_numbers_that_do_not_fit_is_right():
    """The prediction that it leads to is the number that was trained on, not infinity."""
    y = np.where(Y == 1, 1e300, -1e300)
    model = regressor(dtype="float32", max_iter=3).fit(X, y / 1e300)
    predicted = np.multiply(model.predict(X), 1e300, dtype="float64")
    assert np.isfinite(predicted).all()
