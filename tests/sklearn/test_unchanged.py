"""A fit that is refused, diverges or is interrupted leaves an estimator as it was before."""

from __future__ import annotations

import pickle
import signal

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import anyprop as ap
from anyprop.sklearn import MLPClassifier, MLPRegressor
from anyprop.training.loop import Loop
from anyprop.training.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Raising(ap.Callback):
    """Raises an error after each epoch."""

    def __init__(self, error):
        self.error = error

    def on_epoch(self, run):
        raise self.error


def nan_in(X):
    X = X.copy()
    X[3, 1] = np.nan
    return X


# Each makes another call of a method fail, for the (X, y) of a task.
FAILURES = {
    "too few weights": lambda X, y: {"sample_weight": np.ones(3)},
    "no weight": lambda X, y: {"sample_weight": np.zeros(X.shape[0])},
    "a negative weight": lambda X, y: {"sample_weight": np.linspace(-1.0, 1.0, X.shape[0])},
    "NaN in X": lambda X, y: {"X": nan_in(X)},
    "a masked X": lambda X, y: {"X": np.ma.masked_greater(X, 0.5)},
    "too few rows of y": lambda X, y: {"y": y[:-1]},
    "numbers out of range": lambda X, y: {"X": X * 1e300},
}
MORE = {  # which a new fit does not mind
    "another number of features": lambda X, y: {"X": X[:, 1:]},
    "other targets": lambda X, y: {"y": y + 50 if y.ndim == 1 else y[:, 1:]},
}
SETTINGS = {
    "dropout without a layer": {"hidden_layer_sizes": (), "dropout": 0.5},
    "diverging": {"solver": ap.SGD(lr=1e100), "learning_rate_init": 0.001},
    "an error in a callback": {"callbacks": [Raising(RuntimeError("no space"))]},
    "initializer": {"initializer": "nonsense"},
}


def arrays_of(model):
    state = model._optimizer.state
    vectors = [v for p in (model._parameters, *state.slots.values()) for v in (p.flat, p.running)]
    return [*model._arrays(), *(v for v in vectors if v is not None)]


def numbers_of(model):
    """List all numbers of a model, by attribute."""
    plain = {k: v for k, v in vars(model).items() if isinstance(v, (int, float, str, type(None)))}
    lists = {
        k: list(v) for k, v in vars(model).items() if isinstance(v, list) and k.endswith("curve_")
    }
    state = model._optimizer.state
    return plain | lists | {"step": float(state.step), "scale": float(state.lr_scale)}


def fitted(task, **options):
    options = {"solver": "adam", "norm": "batch", "dropout": 0.3} | options
    model = task.ours(random_state=np.random.RandomState(4), **options)
    model.fit(task.X, task.y)
    if not model.warm_start:
        model.partial_fit(task.X, task.y)
    return model


def fails(model, method, options):
    """Check that a call fails and leaves the model as it was, to the bit."""
    twin = pickle.loads(pickle.dumps(model))
    held, numbers = arrays_of(model), numbers_of(model)
    copies = [array.copy() for array in held]
    with pytest.raises((ValueError, TypeError, RuntimeError, KeyboardInterrupt)) as caught:
        getattr(model, method)(**options)
    assert numbers_of(model) == numbers
    assert vars(model).keys() >= vars(twin).keys()
    for array, before, now in zip(held, copies, arrays_of(model), strict=True):
        assert array is now
        np.testing.assert_array_equal(now, before)
    drawn = [m.random_state.get_state(legacy=False)["state"] for m in (model, twin)]
    assert drawn[0]["pos"] == drawn[1]["pos"]
    np.testing.assert_array_equal(drawn[0]["key"], drawn[1]["key"])
    return twin, caught.value


def assert_goes_on_alike(model, twin, method, X, y):
    for each in (model, twin):
        getattr(each, method)(X, y)
    assert model.loss_curve_ == twin.loss_curve_
    assert (model.t_, model.n_iter_) == (twin.t_, twin.n_iter_)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))


@pytest.mark.parametrize("failure", FAILURES | MORE)
@pytest.mark.parametrize("how", ["partial_fit", "warm fit", "fit"])
def test_a_call_that_fails_changes_nothing(task, how, failure):
    if how == "fit" and failure in MORE:
        return
    if failure == "other targets" and task.kind == "MLPRegressor" and task.y.ndim == 1:
        return
    model = fitted(task, warm_start=how == "warm fit")
    given = {"X": task.X, "y": task.y} | (FAILURES | MORE)[failure](task.X, task.y)
    method = how.rpartition(" ")[2]
    twin, _ = fails(model, method, given)
    np.testing.assert_array_equal(model.predict(task.X), twin.predict(task.X))
    assert_goes_on_alike(model, twin, method, task.X, task.y)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_settings_that_fail_change_nothing_else(make_task, method, settings):
    if method == "partial_fit" and "initializer" in settings:
        return  # nothing is initialized
    task = make_task("multiclass")
    model = fitted(task)
    before = model.get_params()
    model.set_params(**settings)
    twin, _ = fails(model, method, {"X": task.X, "y": task.y})
    for each in (model, twin):
        each.set_params(**{name: before[name] for name in settings})
    assert_goes_on_alike(model, twin, method, task.X, task.y)


def test_an_old_network_never_answers_with_new_labels(make_task):
    task = make_task("multiclass")
    model = task.ours().fit(task.X, task.y)
    before = model.predict(task.X)
    words = np.asarray([f"digit {label}" for label in task.y])
    with pytest.raises(ValueError, match="sample_weight.shape"):
        model.fit(task.X[:, :5], words, sample_weight=np.ones(3))
    np.testing.assert_array_equal(model.predict(task.X), before)
    assert model.classes_.tolist() == list(range(10))
    assert model.n_features_in_ == 64


@pytest.mark.parametrize("failure", FAILURES)
def test_what_was_not_fitted_stays_so(task, failure):
    model = task.ours()
    before = dict(vars(model))
    given = {"X": task.X, "y": task.y} | FAILURES[failure](task.X, task.y)
    methods = [model.fit]
    if task.kind == "MLPRegressor":
        methods.append(model.partial_fit)
    for method in methods:
        with pytest.raises((ValueError, TypeError)):
            method(**given)
        assert vars(model) == before
        with pytest.raises(NotFittedError):
            model.predict(task.X)


@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_ctrl_c_amid_a_step_changes_nothing(make_task, monkeypatch, method):
    task = make_task("multiclass")
    model = fitted(task)
    original, calls = Run.advance, []

    def interrupted(self, step, batch):
        original(self, step, batch)
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "advance", interrupted)
    twin, error = fails(model, method, {"X": task.X, "y": task.y})
    assert isinstance(error, KeyboardInterrupt)
    monkeypatch.undo()
    assert_goes_on_alike(model, twin, method, task.X, task.y)


def test_ctrl_c_ends_partial_fit_and_the_loop_around_it(make_task, monkeypatch):
    """Between two steps, where `fit` would keep what was trained."""
    task = make_task("multiclass")
    model = fitted(task)
    original, calls = Run.advance, []

    def interrupted(self, step, batch):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        original(self, step, batch)

    monkeypatch.setattr(Run, "advance", interrupted)
    twin, error = fails(model, "partial_fit", {"X": task.X, "y": task.y})
    assert isinstance(error, KeyboardInterrupt)
    assert len(calls) == 3
    monkeypatch.undo()
    assert_goes_on_alike(model, twin, "partial_fit", task.X, task.y)


def test_ctrl_c_in_the_first_epoch_leaves_the_model_there_was(make_task, monkeypatch):
    task = make_task("multiclass")
    model = fitted(task)

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "epoch", interrupted)
    fails(model, "fit", {"X": task.X, "y": task.y})


@pytest.mark.parametrize("rng", [None, np.random.RandomState(np.random.PCG64(3))], ids=str)
def test_the_generator_that_is_drawn_from_goes_back(make_task, rng):
    task = make_task("one output")
    model = task.ours(random_state=rng, solver=ap.SGD(lr=1e100))
    drawn = rng or np.random.mtrand._rand
    state = drawn.get_state(legacy=False)
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(task.X, task.y)
    expected = drawn.random_sample()
    drawn.set_state(state)
    assert drawn.random_sample() == expected


def test_on_every_backend(backend, make_task):
    """Also where a compiled step writes over what it is given, and where it makes new arrays."""
    with config_context(array_api_dispatch=True):
        for name in ("multiclass", "several outputs"):
            task = make_task(name)
            X, y = backend.asarray(task.X), backend.asarray(task.y)
            model = task.ours(norm="batch").fit(X, y)
            model.partial_fit(X, y)
            twin = pickle.loads(pickle.dumps(model))
            held = arrays_of(model)
            before = [backend.to_numpy(array).copy() for array in held]
            with pytest.raises(ValueError, match="non-finite"):
                model.partial_fit(X * 1e300, y)
            for array, copy, now in zip(held, before, arrays_of(model), strict=True):
                assert array is now
                np.testing.assert_array_equal(backend.to_numpy(array), copy)
            for each in (model, twin):
                each.partial_fit(X, y)
            assert model.loss_curve_ == twin.loss_curve_


def test_a_warm_start_that_diverges_in_float32(make_task):
    task = make_task("one output")
    X = task.X.astype("float32")
    model = task.ours(warm_start=True, solver="sgd").fit(X, task.y)
    before = model.predict(X)
    model.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError, match=r"Lower learning_rate_init=1e\+30"):
        model.fit(X, task.y)
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_early_stopping_that_diverges_keeps_its_best_with_a_warning(make_task, norm):
    """scikit-learn does so too, and in silence but for NumPy's warnings."""
    task = make_task("one output")
    options = {"early_stopping": True, "solver": "sgd", "max_iter": 20, "norm": norm}
    good = task.ours(**options, learning_rate_init=0.01)

    class Worse(ap.Callback):
        def on_epoch(self, run):
            if run.epoch == 3:
                run.params = run.params.replace(flat=run.params.flat * 1e150)

    good.set_params(callbacks=[Worse()])
    with pytest.warns(ConvergenceWarning, match="weights are those of the best validation score"):
        good.fit(task.X, task.y)
    assert good.n_iter_ == len(good.loss_curve_) == len(good.validation_scores_) == 4
    assert np.isnan([good.loss_curve_[-1], good.validation_scores_[-1]]).all()
    three = task.ours(**options | {"max_iter": 3}, learning_rate_init=0.01).fit(task.X, task.y)
    assert good.best_validation_score_ == max(three.validation_scores_)
    np.testing.assert_array_equal(good.predict(task.X), three.predict(task.X))


def test_early_stopping_that_never_had_a_score_is_an_error():
    X = np.random.default_rng(0).standard_normal((100, 3))
    for model in (MLPRegressor(early_stopping=True), MLPClassifier(early_stopping=True)):
        with pytest.raises(ValueError, match="non-finite"):
            model.fit(X * 1e300, (X[:, 0] > 0).astype(int))
        assert not hasattr(model, "coefs_")
