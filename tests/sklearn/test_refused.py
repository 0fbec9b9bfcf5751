"""What cannot be meant is refused in one sentence, before any work."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import anyprop as ap
from anyprop.schedules import Cosine
from anyprop.sklearn import MLPClassifier, MLPRegressor, _stochastic as stochastic
from anyprop.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3))
Y = (X[:, 0] > 0).astype(int)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}


@pytest.fixture
def training():
    """Ask for a test that trains; in all others no step is done."""


@pytest.fixture(autouse=True)
def no_work(request, monkeypatch):
    if "training" not in request.fixturenames:
        epoch = lambda *args: pytest.fail("it began to train")  # noqa: E731
        monkeypatch.setattr(Loop, "epoch", epoch)


works = pytest.mark.usefixtures("training")

VOID = [
    ({"solver": ap.RMSProp(), "learning_rate_init": 0.5}, "learning_rate_init=0.5 has no effect"),
    ({"solver": ap.RMSProp(), "beta_1": 0.5}, r"beta_1=0.5 has no effect.*RMSProp\(...\)"),
    ({"solver": ap.Adam(), "beta_2": 0.5}, "beta_2=0.5 has no effect"),
    ({"solver": ap.SGD(), "momentum": 0.5, "epsilon": 1e-3}, "momentum=0.5, epsilon=0.001 have no"),
    ({"solver": ap.SGD(), "nesterovs_momentum": False}, "nesterovs_momentum=False has no effect"),
    ({"solver": ap.SGD(), "power_t": 0.1}, "power_t=0.1 has no effect"),
    ({"solver": ap.SGD(), "max_fun": 3}, "max_fun=3 has no effect"),
    ({"solver": ap.SGD(), "learning_rate": "cosine"}, "learning_rate='cosine' has no effect"),
    ({"solver": ap.SGD(), "learning_rate": Cosine(0.1, 9)}, r"learning_rate=Cosine\(.* no effect"),
    ({"solver": "rmsprop", "momentum": 0.5}, "momentum=0.5 has no effect"),
    ({"solver": "rmsprop", "epsilon": 1e-3}, "epsilon=0.001 has no effect"),
    ({"learning_rate": Cosine(0.1, 9), "learning_rate_init": 0.5}, "learning_rate_init=0.5 has no"),
    ({"learning_rate": "cosine", "power_t": 0.1}, "power_t=0.1 has no effect"),
    ({"solver": "lbfgs", "learning_rate": "cosine"}, "learning_rate='cosine' has no effect"),
    ({"hidden_layer_sizes": (), "dropout": 0.5}, "dropout=0.5 has no effect"),
    ({"hidden_layer_sizes": (), "norm": "layer"}, "norm='layer' has no effect"),
]


@pytest.mark.parametrize(("options", "message"), VOID, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_settings_that_others_make_void(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**SMALL | options).fit(X, Y)


@works
@pytest.mark.parametrize(("options", "message"), VOID, ids=lambda value: str(value)[:40])
def test_without_them_it_trains(options, message):
    """The advice: leave out what has no effect."""
    model = MLPClassifier(**SMALL | options)
    with pytest.raises(ValueError, match="leave out") as caught:
        model.fit(X, Y)
    names = str(caught.value).rpartition("leave out ")[2].rstrip(".").split(", ")
    defaults = MLPClassifier().get_params()
    model.set_params(**{name: defaults[name] for name in names}).fit(X, Y)


@works
def test_settings_of_scikit_learn_are_set_aside_as_there():
    for solver in ("adam", "sgd", "lbfgs"):
        options = {"momentum": 0.3, "beta_1": 0.3, "power_t": 0.3, "max_fun": 99, "epsilon": 1e-7}
        MLPClassifier(**SMALL, **options, solver=solver).fit(X, Y)
    options = {"learning_rate": "invscaling", "power_t": 0.3}
    MLPClassifier(**SMALL, **options, solver=ap.SGD(lr=0.1)).fit(X, Y)  # which it reaches


def test_nothing_is_held_out_beside_validation_data():
    model = MLPClassifier(**SMALL, validation_fraction=0.3, early_stopping=True)
    with pytest.raises(ValueError, match=r"validation_fraction=0.3 has no effect: X_val is given"):
        model.fit(X, Y, X_val=X, y_val=Y)


WEIGHTS = [
    ({"class_weight": {0: -1, 1: 1}}, None, r"class_weight must hold finite.*\{0: -1, 1: 1\}"),
    ({"class_weight": {0: np.nan, 1: 1}}, None, "class_weight must hold finite weights"),
    ({"class_weight": {0: np.inf, 1: 1}}, None, "class_weight must hold finite weights"),
    ({"class_weight": {0: "a", 1: 1}}, None, "class_weight must hold finite weights"),
    ({"class_weight": {0: 1, 1: 1, 7: -1}}, None, "class_weight must hold finite weights"),
    ({"class_weight": {0: 1e200, 1: 1}, "dtype": "float32"}, None, "class_weight must hold finite"),
    ({"class_weight": {0: 0, 1: 0}}, None, "no row has a weight above 0"),
    ({"class_weight": {0: 0, 1: 1}}, 1.0 - Y, "no row has a weight above 0"),
    ({}, np.zeros(60), "Sample weights must contain at least one non-zero number"),
    ({}, np.where(np.arange(60) == 5, -1.0, 1.0), "Negative values in data .*sample_weight"),
    ({}, np.full(60, np.nan), "sample_weight contains NaN"),
    ({}, np.ma.masked_less(np.ones(60), 2.0), "sample_weight is a masked array"),
    ({"dtype": "float32"}, np.full(60, 1e200), "sample_weight holds numbers too large for float32"),
    ({"dtype": "float32"}, np.full(60, 1e-200), "no row has a weight above 0"),
]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(("options", "weight", "message"), WEIGHTS)
def test_weights(options, weight, message, solver):
    model = MLPClassifier(**SMALL | options, solver=solver)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X, Y, sample_weight=weight)
    if "class_weight" not in options:
        with pytest.raises((ValueError, TypeError), match=message):
            MLPRegressor(**SMALL | options, solver=solver).fit(X, X[:, 0], sample_weight=weight)


@works
def test_a_score_needs_a_weight():
    for kind in (MLPClassifier, MLPRegressor):
        with pytest.raises(ValueError, match="no row has a weight above 0; check the weights"):
            kind(**SMALL).fit(X, Y).score(X, Y, sample_weight=np.zeros(60))
        with pytest.raises(ValueError, match="sample_weight must not be negative"):
            kind(**SMALL).fit(X, Y).score(X, Y, sample_weight=np.linspace(-1.0, 1.0, 60))


@works
def test_sparse_targets_are_not_scored():
    model = MLPRegressor(**SMALL).fit(X, X[:, 0])
    with pytest.raises(TypeError, match=r"^y is sparse; pass y.toarray\(\)"):
        model.score(X, scipy.sparse.csr_array(X[:, :1]))
    labels = np.stack([Y, 1 - Y], axis=1)
    several = MLPClassifier(**SMALL).fit(X, labels)
    assert several.score(X, scipy.sparse.csr_array(labels)) == several.score(X, labels)


def test_class_weights_of_labels_are_not_negative():
    labels = np.stack([Y, 1 - Y], axis=1)
    weight = [{0: -1.0, 1: 1.0}, {0: 1.0, 1: 1.0}]
    with pytest.raises(ValueError, match="class_weight must hold finite weights of 0 or more"):
        MLPClassifier(**SMALL, class_weight=weight).fit(X, labels)


@works
@pytest.mark.parametrize("held_out", [False, True])
def test_rows_without_weight_on_one_side(monkeypatch, held_out):
    """Rows that scikit-learn's split holds out, or all others, are given no weight."""
    seen = []
    original = stochastic.train_test_split
    monkeypatch.setattr(
        stochastic, "train_test_split", lambda *a, **k: seen.append(original(*a, **k)) or seen[-1]
    )
    options = SMALL | {"early_stopping": True}
    MLPRegressor(**options).fit(X, X[:, 0])
    weight = np.ones(60)
    weight[seen[0][int(held_out)]] = 0.0
    side = "held out" if held_out else "not held out"
    with pytest.raises(ValueError, match=f"no row that is {side} has a weight above 0"):
        MLPRegressor(**options).fit(X, X[:, 0], sample_weight=weight)


@works
def test_a_part_of_the_data_may_lack_classes_that_have_weights():
    weight = {0: 1.0, 1: 2.0, 2: 3.0}
    y = np.arange(60) % 3
    ours = MLPClassifier(**SMALL, class_weight=weight)
    rows = MLPClassifier(**SMALL)
    for part in (y < 2, y > 0, y == 1):
        ours.partial_fit(X[part], y[part], classes=[0, 1, 2])
        of_rows = np.asarray([1.0, 2.0, 3.0])[y[part]]
        rows.partial_fit(X[part], y[part], classes=[0, 1, 2], sample_weight=of_rows)
    assert ours.loss_curve_ == rows.loss_curve_


def test_parts_of_the_data_are_not_balanced():
    with pytest.raises(ValueError, match="partial_fit cannot balance classes"):
        MLPClassifier(**SMALL, class_weight="balanced").partial_fit(X, Y, classes=[0, 1])


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("where", ["X", "y", "sample_weight", "X_val", "y_val"])
def test_masked_arrays(kind, where):
    given = {"X": X, "y": Y, "sample_weight": np.ones(60), "X_val": X, "y_val": Y}
    given[where] = np.ma.masked_greater(given[where], 0.5)
    with pytest.raises(TypeError, match=f"^{where} is a masked array; fill or drop what is masked"):
        kind(**SMALL).fit(**given)


@works
def test_masked_arrays_are_not_predicted_from():
    model = MLPClassifier(**SMALL).fit(X, Y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(TypeError, match="X is a masked array"):
            getattr(model, method)(np.ma.masked_greater(X, 0.5))
    filled = np.ma.masked_greater(X, 0.5).filled(0.5)  # the advice
    assert model.predict(filled).shape == (60,)


@pytest.mark.parametrize("dtype", ["Float64", "Int64"])
def test_missing_numbers_of_pandas(dtype):
    frame = pandas.DataFrame({"a": [1, 2, None] * 20, "b": [0, 1, 1] * 20}, dtype=dtype)
    for kind in (MLPClassifier, MLPRegressor):
        with pytest.raises(ValueError, match="contains NaN"):
            kind(**SMALL).fit(frame, Y)


@works
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_weights_that_are_not_finite_predict_nothing(kind, value):
    model = kind(**SMALL).fit(X, Y)
    for arrays in (model.coefs_, model.intercepts_):
        before = arrays[0].copy()
        arrays[0][..., 0] = value
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(model, method):
                with pytest.raises(
                    ValueError, match=f"weights of this {kind.__name__} are not fin"
                ):
                    getattr(model, method)(X)
        arrays[0][...] = before
    assert model.predict(X).shape == (60,)


@works
@pytest.mark.parametrize("sparse", [False, True])
def test_outputs_that_overflow_are_no_class(sparse):
    model = MLPClassifier(**SMALL, dtype="float32", activation="identity").fit(X, Y)
    model.coefs_[1][...] = 1e5
    far = np.full((1, 3), 3e38)
    with pytest.raises(ValueError, match="outputs of this MLPClassifier overflow float32"):
        model.predict(scipy.sparse.csr_array(far) if sparse else far)


@works
def test_an_activation_set_after_fit():
    model = MLPClassifier(**SMALL).fit(X, Y)
    before = model.predict_proba(X)
    model.set_params(activation="tanh")
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(ValueError, match=r"'tanh' was set after fit.*trained with 'relu'"):
            getattr(model, method)(X)
    np.testing.assert_array_equal(model.set_params(activation="relu").predict_proba(X), before)
    model.set_params(activation="tanh").fit(X, Y).predict(X)  # the advice


@works
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"norm": "layer"}, {"norm": None}, "has no place for gamma"),
        ({"norm": None}, {"norm": "layer"}, "has 1.gamma of shape"),
        ({"hidden_layer_sizes": (3, 3)}, {"hidden_layer_sizes": (3,)}, "has no place for W"),
        (
            {"dtype": "float64"},
            {"dtype": "float32"},
            "fitted in float64 and cannot go on in dtype=",
        ),
        (
            {"loss": "squared_error"},
            {"loss": "poisson"},
            "outputs with 'identity' cannot go on with",
        ),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_another_model_than_the_one_that_goes_on(before, after, message, method):
    targets = np.abs(X)
    model = MLPRegressor(**SMALL | before, warm_start=True).fit(X, targets)
    with pytest.raises(ValueError, match=message):
        getattr(model.set_params(**after), method)(X, targets)
    model.set_params(warm_start=False).fit(X, targets)  # the advice


@works
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_labels_of_another_kind(method):
    labels = np.stack([Y, 1 - Y], axis=1)
    for first, then, message in (
        (labels, Y, "y must hold 2 labels for each row"),
        (Y, labels, "y must hold a class for each row"),
    ):
        model = MLPClassifier(**SMALL, warm_start=True).fit(X, first)
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(X, then)
    model = MLPRegressor(**SMALL, warm_start=True).fit(X, X)
    with pytest.raises(ValueError, match="y has 2 outputs, but the model was fitted to 3"):
        getattr(model, method)(X, X[:, :2])


def test_the_label_of_a_class_that_is_too_small():
    for labels, shown in ((["no", "yes"], "'yes'"), ([3, 7], "7")):
        y = np.asarray(labels)[(np.arange(60) == 5).astype(int)]
        with pytest.raises(ValueError, match=rf"too few members are: \[.*{shown}"):
            MLPClassifier(**SMALL, early_stopping=True).fit(X, y)


@works
def test_one_class_is_certain():
    for y in (np.full(60, 7), np.full(60, "only")):
        model = MLPClassifier(**SMALL).fit(X, y)
        assert (model.predict(X) == y).all()
        np.testing.assert_array_equal(model.predict_proba(X), np.ones((60, 1)))
        np.testing.assert_array_equal(model.predict_log_proba(X), np.zeros((60, 1)))


def test_the_loss_has_a_name():
    assert MLPClassifier().loss == "log_loss"
    assert "loss" not in MLPClassifier().get_params()


HUGE = [
    (X, X[:, 0] * 1e200, {}, "y"),
    (X, X[:, 0] * 1e200, {"solver": "lbfgs"}, "y"),
    (X, X[:, 0] * 1e200, {"solver": ap.SGD(lr=0.01)}, "y"),
    (X.astype("float32"), X[:, 0] * 1e30, {}, "y"),
    (X, np.exp(X[:, 0]) * 1e300, {"loss": "poisson"}, "y"),
    (X, X[:, :2] * 1e200, {}, "y"),
    (X * 1e200, X[:, 0], {}, "X"),
    (X.astype("float32") * np.float32(1e30), X[:, 0], {}, "X"),
    (scipy.sparse.csr_array(X * 1e200), X[:, 0], {}, "X"),
    (X * 1e200, X[:, 0] * 1e200, {}, "X and y"),
]


@works
@pytest.mark.parametrize(("huge", "y", "options", "named"), HUGE)
def test_advice_about_numbers_out_of_range_helps(huge, y, options, named):
    model = MLPRegressor(**SMALL | options)
    with pytest.raises(ValueError, match="scale|Scale") as caught:
        model.fit(huge, y)
    text = str(caught.value)
    assert ("cale X" in text) == ("X" in named)
    assert ("cale y" in text) == ("y" in named)
    assert "learning_rate_init" not in text
    better = clone(model)
    if "X" in named:
        assert "MaxAbsScaler" in text
        better = make_pipeline(MaxAbsScaler(), better)
    if "y" in named:
        assert "TransformedTargetRegressor(model, transformer=MaxAbsScaler())" in text
        better = TransformedTargetRegressor(better, transformer=MaxAbsScaler())
    assert np.isfinite(better.fit(huge, y).predict(huge)).all()


@works
@pytest.mark.parametrize(
    ("options", "advised"),
    [
        ({"solver": "sgd", "learning_rate_init": 1e100}, r"Lower learning_rate_init=1e\+100"),
        ({"solver": ap.SGD(lr=1e100)}, r"Lower the lr of solver=SGD\(lr=1e\+100"),
        ({"solver": "sgd", "learning_rate": lambda t: 1e100}, "Lower learning_rate=<function"),
    ],
)
def test_a_rate_that_is_too_large_is_named(options, advised):
    model = MLPRegressor(**SMALL | options)
    with pytest.raises(ValueError, match=advised):
        model.fit(X, X[:, 0])
    with pytest.raises(NotFittedError):
        model.predict(X)


@works
def test_targets_that_float32_cannot_hold():
    y = X[:, 0] * 1e200
    for model in (MLPRegressor(**SMALL, dtype="float32"), MLPRegressor(**SMALL)):
        with pytest.raises(
            ValueError, match=r"y holds numbers up to .*e\+200, too large"
        ) as caught:
            model.fit(X.astype("float32"), y)
        divisor = float(str(caught.value).rpartition("y / ")[2].partition(",")[0])
        assert (
            model.fit(X.astype("float32"), y / divisor).score(X.astype("float32"), y / divisor) < 1
        )


@works
@pytest.mark.parametrize("other", [1, None, 2.5], ids=str)
def test_labels_of_several_types(other):
    y = np.asarray([other, "a"] * 30, dtype=object)
    with pytest.raises(TypeError, match="y holds labels of several types, .*str") as caught:
        MLPClassifier(**SMALL).fit(X, y)
    assert "y.astype(str)" in str(caught.value)
    with pytest.raises(TypeError, match="classes holds labels of several types"):
        MLPClassifier(**SMALL).partial_fit(X, y.astype(str), classes=y[:2])
    with pytest.raises(TypeError, match="y holds labels of several types"):
        MLPClassifier(**SMALL).partial_fit(X, y, classes=["a", "b"])
    assert MLPClassifier(**SMALL).fit(X, y.astype(str)).classes_.tolist() == [str(other), "a"]


def test_dates_are_no_real_numbers():
    for dtype in ("M8[D]", "m8[s]"):
        with pytest.raises(ValueError, match="y holds dates or times"):
            MLPRegressor(**SMALL).fit(X, np.arange(60).astype(dtype))


@pytest.mark.parametrize("sizes", [((2,),), (2.5,), ("3",)], ids=str)
def test_sizes_that_are_no_whole_numbers(sizes):
    with pytest.raises(TypeError, match="hidden_layer_sizes must hold whole numbers, got"):
        MLPClassifier(hidden_layer_sizes=sizes).fit(X, Y)


@works
def test_early_stopping_without_a_finite_score():
    """Nothing says which epoch was the best: not that before the first."""
    model = MLPRegressor(**SMALL, early_stopping=True)
    with pytest.raises(ValueError, match="no epoch had a finite score on the validation rows"):
        model.fit(X, Y, X_val=X * 1e300, y_val=Y)
    assert not hasattr(model, "coefs_")
