"""Errors: scikit-learn's classes and words where it has them, and one sentence that helps elsewhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

import anyprop as ap
from anyprop.sklearn import MLPClassifier, MLPRegressor
from anyprop.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WRONG = [
    {"hidden_layer_sizes": 0},
    {"activation": "rleu"},
    {"alpha": -1.0},
    {"batch_size": 0},
    {"learning_rate_init": 0.0},
    {"power_t": -0.5},
    {"max_iter": 0},
    {"shuffle": "yes"},
    {"random_state": "one"},
    {"tol": -1.0},
    {"verbose": "loud"},
    {"warm_start": 2.5},
    {"momentum": 1.5},
    {"nesterovs_momentum": "no"},
    {"early_stopping": "no"},
    {"validation_fraction": 1.0},
    {"beta_1": 1.0},
    {"beta_2": -0.1},
    {"epsilon": 0.0},
    {"n_iter_no_change": 0},
    {"max_fun": 0},
]


def message_of(model, *args, **kwargs):
    with pytest.raises(ValueError, match="must be") as caught:
        model.fit(*args, **kwargs)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_wrong_parameters_raise_as_in_scikit_learn(make_task, options):
    for name in ("multiclass", "one output"):
        task = make_task(name)
        kind, message = message_of(task.ours(**options), task.X, task.y)
        expected, theirs = message_of(task.theirs(**options), task.X, task.y)
        assert kind is expected is InvalidParameterError
        # The sets of names are larger here.
        assert message.partition(" must be ")[0] == theirs.partition(" must be ")[0]
        if "among" not in theirs:
            assert message == theirs


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 1.0},
        {"norm": "group"},
        {"dtype": "float16"},
        {"initializer": 3},
        {"solver": "adagrda"},
        {"solver": ap.Adam},
        {"learning_rate": "cosin"},
        {"class_weight": "even"},
    ],
    ids=str,
)
def test_wrong_parameters_of_ours(make_task, options):
    task = make_task("multiclass")
    (name,) = options
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPClassifier"):
        task.ours(**options).fit(task.X, task.y)


def test_sizes_of_layers(make_task):
    task = make_task("multiclass")
    options = {"hidden_layer_sizes": (10, 0)}
    assert message_of(task.ours(**options), task.X, task.y) == message_of(
        task.theirs(**options), task.X, task.y
    )


def test_partial_fit_is_there_for_stochastic_solvers_only(make_task):
    task = make_task("multiclass")
    assert not hasattr(task.ours(solver="lbfgs"), "partial_fit")
    assert hasattr(task.ours(solver="lion"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        task.ours(solver="lbfgs").partial_fit(task.X, task.y)


def test_partial_fit_as_in_scikit_learn(make_task):
    task = make_task("multiclass")
    for make in (task.ours, task.theirs):
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            make().partial_fit(task.X, task.y)
        with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
            make(early_stopping=True).partial_fit(task.X, task.y, classes=np.arange(10))
        with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
            make().partial_fit(task.X, task.y, classes=np.arange(10)).partial_fit(
                task.X, task.y + 1
            )


def test_warm_start_as_in_scikit_learn(make_task):
    task = make_task("multiclass")
    for make in (task.ours, task.theirs):
        model = make(warm_start=True).fit(task.X, task.y)
        with pytest.raises(
            ValueError, match="warm_start can only be used where `y` has the same classes"
        ):
            model.fit(task.X, task.y // 2)


def test_warm_start_with_other_layers(make_task):
    task = make_task("one output")
    model = task.ours(warm_start=True).fit(task.X, task.y)
    with pytest.raises(
        ValueError, match=r"0.W of shape \(10, 5\), but the fitted one has shape \(10, 12\)"
    ):
        model.set_params(hidden_layer_sizes=(5,)).fit(task.X, task.y)
    with pytest.raises(ValueError, match=r"set warm_start=False"):
        model.set_params(hidden_layer_sizes=(12, 7, 7)).fit(task.X, task.y)


def test_too_few_rows_to_validate_on(make_task):
    task = make_task("one output")
    for make in (task.ours, task.theirs):
        with pytest.raises(ValueError, match="The validation set is too small"):
            make(early_stopping=True).fit(task.X[:10], task.y[:10])


def test_validation_data(make_task):
    task = make_task("multiclass")
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        task.ours().fit(task.X, task.y, X_val=task.X)
    with pytest.raises(ValueError, match="has no epochs to validate after"):
        task.ours(solver="lbfgs").fit(task.X, task.y, X_val=task.X, y_val=task.y)
    with pytest.raises(ValueError, match="`y` has classes not in"):
        task.ours().fit(task.X, task.y, X_val=task.X, y_val=task.y + 1)
    task = make_task("several outputs")
    with pytest.raises(ValueError, match="y has 2 outputs, but 3 are expected"):
        task.ours().fit(task.X, task.y, X_val=task.X, y_val=task.y[:, :2])


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"norm": "batch"}], ids=str)
def test_lbfgs_needs_a_loss_that_stays(make_task, options):
    task = make_task("multiclass")
    with pytest.raises(ValueError, match="solver='lbfgs' needs a loss that is the same"):
        task.ours(solver="lbfgs", **options).fit(task.X, task.y)


def test_counts_are_not_negative(make_task):
    task = make_task("poisson")
    with pytest.raises(ValueError, match="loss='poisson' requires non-negative y"):
        task.ours().fit(task.X, task.y - 1.0)


def test_predicting_before_fitting():
    for model in (MLPClassifier(), MLPRegressor()):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            model.predict([[1.0]])


def test_ctrl_c_keeps_what_was_trained(make_task, monkeypatch):
    task = make_task("multiclass")
    original, calls = Loop.epoch, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(Loop, "epoch", interrupted)
    model = task.ours()
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(task.X, task.y)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    monkeypatch.undo()
    two = task.ours(max_iter=2).fit(task.X, task.y)
    np.testing.assert_array_equal(model.predict_proba(task.X), two.predict_proba(task.X))


def test_a_missing_scikit_learn_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "try:\n    import anyprop.sklearn\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "anyprop[sklearn]"' in done.stdout


def test_callbacks_that_are_none(make_task):
    task = make_task("multiclass")
    with pytest.raises(
        TypeError, match="callbacks must hold anyprop.Callback objects, not <built-in"
    ):
        task.ours(callbacks=[print]).fit(task.X, task.y)
    with pytest.raises(ValueError, match="solver='lbfgs' has no epochs to call after"):
        task.ours(callbacks=[ap.Callback()], solver="lbfgs").fit(task.X, task.y)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_arguments_of_other_libraries_are_named(kind):
    for theirs, ours in {
        "lr": "learning_rate_init",
        "epochs": "max_iter",
        "seed": "random_state",
        "patience": "n_iter_no_change",
        "hidden": "hidden_layer_sizes",
        "droupout": "dropout",
    }.items():
        with pytest.raises(TypeError, match=f"'{theirs}'; did you mean '{ours}'"):
            kind(**{theirs: 3})
    with pytest.raises(TypeError, match=rf"write {kind.__name__}\(hidden_layer_sizes="):
        kind(zzz=3)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_arguments_of_methods_that_others_name_otherwise_are_named(kind):
    model, rows = kind(hidden_layer_sizes=(2,), max_iter=1), ([[0.0], [1.0]], [0, 1])
    model.fit(*rows)
    for method in (model.fit, model.partial_fit, model.score):
        for theirs in ("weights", "weight", "sample_wieght"):
            with pytest.raises(TypeError, match=f"'{theirs}'; did you mean 'sample_weight'"):
                method(*rows, **{theirs: [1.0, 1.0]})
        with pytest.raises(TypeError, match=rf"'y'; write model.{method.__name__}\(X, y"):
            method(rows[0])
    with pytest.raises(TypeError, match="'eval_set'; did you mean 'X_val'"):
        model.fit(*rows, eval_set=rows)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_autocast_is_refused_and_a_fitted_model_stays(solver, method):
    import torch

    if solver == "lbfgs" and method == "partial_fit":
        pytest.skip("it has none")
    x = torch.linspace(-1.0, 1.0, 40)[:, None]
    y = (x[:, 0] > 0).to(torch.int64)
    model = MLPClassifier(hidden_layer_sizes=(3,), solver=solver, max_iter=3, random_state=0)
    with config_context(array_api_dispatch=True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with pytest.raises(ValueError, match=r"^MLPClassifier: torch.autocast .*; leave it\.$"):
                model.fit(x, y)
            assert not hasattr(model, "coefs_")
        before = model.fit(x, y).coefs_
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            pytest.raises(ValueError, match="torch.autocast"),
        ):
            getattr(model, method)(x, y)
        assert all(a is b for a, b in zip(model.coefs_, before, strict=True))
        getattr(model, method)(x, y)
        assert model.coefs_[0].dtype == torch.float32
