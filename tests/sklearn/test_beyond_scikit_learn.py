"""What scikit-learn does not offer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import config_context
from sklearn.utils.class_weight import compute_sample_weight

import anyprop as ap
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.schedules import Cosine
from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_by_name_lowers_the_loss(make_task, name):
    model = (task := make_task("multiclass")).ours(
        solver=name, learning_rate_init=0.01, max_iter=20
    )
    curve = model.fit(task.X, task.y).loss_curve_
    assert curve[-1] < curve[0]


def test_an_optimizer_by_object_is_that_by_name(make_task):
    task = make_task("one output")
    by_name = task.ours(solver="rmsprop", learning_rate_init=0.02).fit(task.X, task.y)
    by_object = task.ours(solver=ap.RMSProp(lr=0.02)).fit(task.X, task.y)
    assert by_name.loss_curve_ == by_object.loss_curve_


@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop"])
def test_a_schedule_by_name_is_that_by_object(make_task, solver):
    task = make_task("multiclass")
    steps = 6 * 7  # epochs, and batches of 64 rows of 400
    by_name = task.ours(solver=solver, learning_rate="cosine", learning_rate_init=0.05)
    by_object = task.ours(solver=solver, learning_rate=Cosine(0.05, steps))
    constant = task.ours(solver=solver, learning_rate_init=0.05)
    curves = [m.fit(task.X, task.y).loss_curve_ for m in (by_name, by_object, constant)]
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("mode", ["adaptive", "invscaling"])
def test_the_modes_of_the_learning_rate_reach_other_optimizers(make_task, mode):
    task = make_task("multiclass")
    options = {"solver": "rmsprop", "tol": 1.0, "n_iter_no_change": 1}
    plain = task.ours(**options).fit(task.X, task.y)
    slowed = task.ours(**options, learning_rate=mode).fit(task.X, task.y)
    assert slowed.loss_curve_[:1] == plain.loss_curve_[:1]
    assert slowed.loss_curve_ != plain.loss_curve_


def test_dropout_is_drawn_from_the_random_state(make_task):
    task = make_task("multiclass")
    first = task.ours(dropout=0.5).fit(task.X, task.y)
    again = task.ours(dropout=0.5).fit(task.X, task.y)
    other = task.ours(dropout=0.5, random_state=7).fit(task.X, task.y)
    plain = task.ours().fit(task.X, task.y)
    assert first.loss_curve_ == again.loss_curve_
    assert len({tuple(m.loss_curve_) for m in (first, other, plain)}) == 3
    np.testing.assert_array_equal(first.predict_proba(task.X), first.predict_proba(task.X))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms(make_task, norm):
    task = make_task("multiclass")
    model = task.ours(norm=norm, max_iter=30).fit(task.X, task.y)
    assert model.score(task.X, task.y) > 0.5
    assert len(model.norms_) == 2
    assert model.norms_[0]["gamma"].shape == (12,)
    assert len(model.intercepts_) == (1 if norm == "batch" else 3)
    assert ("var" in model.norms_[0]) == (norm == "batch")
    # The L2 term leaves the norms alone: however strong, only the matrices vanish.
    strong = task.ours(
        norm=norm, max_iter=200, alpha=1e4, learning_rate_init=0.01, n_iter_no_change=200
    )
    strong.fit(task.X, task.y)
    assert max(np.abs(W).max() for W in strong.coefs_) < 0.05
    assert min(n["gamma"].min() for n in strong.norms_) > 0.5


def test_batch_norm_goes_on_with_its_statistics(make_task):
    task = make_task("multiclass")
    model = task.ours(norm="batch").fit(task.X, task.y)
    before = model.norms_[0]["mean"].copy()
    model.partial_fit(task.X + 1.0, task.y)
    assert not np.allclose(model.norms_[0]["mean"], before)


@pytest.mark.parametrize("weight", ["balanced", {0: 5.0, 3: 0.0}], ids=str)
def test_class_weights_are_sample_weights(make_task, weight):
    task = make_task("multiclass")
    of_rows = compute_sample_weight(weight, task.y) * task.weights()
    ours = task.ours(class_weight=weight).fit(task.X, task.y, sample_weight=task.weights())
    theirs = task.theirs().fit(task.X, task.y, sample_weight=of_rows)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_class_weights_of_labels(make_task):
    task = make_task("multilabel")
    weight = [{0: 1.0, 1: 3.0}, {0: 1.0, 1: 1.0}, {0: 2.0, 1: 1.0}, {0: 1.0, 1: 1.0}]
    ours = task.ours(class_weight=weight).fit(task.X, task.y)
    of_rows = compute_sample_weight(weight, task.y)
    theirs = task.theirs().fit(task.X, task.y, sample_weight=of_rows)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_validation_data_of_ones_own(task):
    half = task.X.shape[0] // 2
    X, y, X_val, y_val = task.X[:half], task.y[:half], task.X[half:], task.y[half:]
    model = task.ours(alpha=0.0).fit(X, y, X_val=X_val, y_val=y_val)
    plain = task.ours(alpha=0.0).fit(X, y)
    assert model.loss_curve_ == plain.loss_curve_
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
    np.testing.assert_allclose(model.validation_scores_[-1], model.score(X_val, y_val), rtol=1e-12)
    # The loss after one full batch without an update to speak of is that of the next epoch.
    still = task.ours(alpha=0.0, learning_rate_init=1e-12, batch_size=half, max_iter=2)
    still.fit(X, y, X_val=X, y_val=y)
    np.testing.assert_allclose(still.validation_loss_curve_[0], still.loss_curve_[1], rtol=1e-6)


def test_early_stopping_on_validation_data_of_ones_own(make_task):
    task = make_task("multiclass")
    model = task.ours(
        early_stopping=True, max_iter=200, n_iter_no_change=3, learning_rate_init=0.02
    )
    model.fit(task.X[:200], task.y[:200], X_val=task.X[200:], y_val=task.y[200:])
    assert model.n_iter_ < 200
    best = max(model.validation_scores_)
    assert model.best_validation_score_ == best == model.score(task.X[200:], task.y[200:])


def test_initializers(make_task):
    task = make_task("multiclass")
    start = {"max_iter": 1, "learning_rate_init": 1e-30}
    named = task.ours(initializer="he_normal", **start).fit(task.X, task.y)
    assert abs(named.coefs_[0].std() / np.sqrt(2 / 64) - 1.0) < 0.1
    assert np.abs(named.intercepts_[0]).max() < 1e-20
    ones = task.ours(initializer=lambda rng, shape: np.ones(shape), **start).fit(task.X, task.y)
    np.testing.assert_allclose(ones.coefs_[1], 1.0)
    with pytest.raises(
        ValueError, match="unknown initializer 'he_norml'; did you mean 'he_normal'"
    ):
        task.ours(initializer="he_norml").fit(task.X, task.y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_dtype(make_task, dtype, given):
    task = make_task("multiclass")
    X = (16 * task.X).astype(given)
    model = task.ours(dtype=dtype).fit(X, task.y)
    assert model.coefs_[0].dtype.name == dtype
    assert model.predict_proba(X).dtype.name == dtype
    model.partial_fit(X, task.y)
    assert model.coefs_[0].dtype.name == dtype


@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "gelu", "silu", "softplus", "sigmoid"])
def test_more_activations(make_task, activation):
    task = make_task("one output")
    curve = task.ours(activation=activation, max_iter=20).fit(task.X, task.y).loss_curve_
    assert curve[-1] < curve[0]


def test_log_probabilities_do_not_underflow():
    X = np.asarray([[-1.0], [1.0]] * 10)
    model = MLPClassifier(hidden_layer_sizes=(), random_state=0, max_iter=2).fit(X, [0, 1] * 10)
    far = model.predict_log_proba(np.asarray([[1e5], [-1e5]]))
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far.min(axis=1), -np.abs(far).max(axis=1))


def test_regression_of_a_column(make_task):
    task = make_task("one output")
    model = task.ours()
    with pytest.warns(Warning, match="column-vector y was passed"):
        model.fit(task.X, task.y[:, None])
    assert model.loss_curve_ == MLPRegressor(**model.get_params()).fit(task.X, task.y).loss_curve_


class Watch(ap.Callback):
    """Keeps what it sees."""

    def __init__(self):
        self.calls, self.lrs, self.snapshots = [], [], []

    def on_start(self, run):
        self.calls.append("start")
        self.monitors = run.monitors

    def on_report(self, run):
        self.calls.append("report")

    def on_epoch(self, run):
        self.calls.append("epoch")
        self.lrs.append(run.lr)
        self.snapshots.append(run.snapshot()[0])

    def on_end(self, run):
        self.calls.append("end")
        self.history = run.history


def test_callbacks_see_the_run(make_task):
    for name, accuracy in (("multiclass", True), ("one output", False)):
        task = make_task(name)
        watch = Watch()
        model = task.ours(callbacks=[watch], solver="sgd", learning_rate="invscaling")
        model.fit(task.X, task.y, X_val=task.X[:50], y_val=task.y[:50])
        n = model.n_iter_
        assert watch.calls == ["start", *["report", "epoch"] * n, "end"]
        assert ("validation_accuracy" in watch.monitors) == accuracy
        epochs = watch.history.epochs
        assert [e.train_loss for e in epochs] == model.loss_curve_
        assert [e.validation_loss for e in epochs] == model.validation_loss_curve_
        if accuracy:
            assert [e.validation_accuracy for e in epochs] == model.validation_scores_
        assert len(watch.history.losses) == n * -(-task.X.shape[0] // 64)
        assert sorted(watch.lrs, reverse=True) == watch.lrs
        np.testing.assert_array_equal(watch.snapshots[-1][0].W, model.coefs_[0])
        assert not np.array_equal(watch.snapshots[0][0].W, model.coefs_[0])
        plain = task.ours(solver="sgd", learning_rate="invscaling").fit(task.X, task.y)
        assert plain.loss_curve_ == model.loss_curve_


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_callbacks_can_end_the_run_and_restore_its_best(make_task):
    task = make_task("multiclass")
    stop = ap.EarlyStopping("validation_loss", patience=2)
    options = {"max_iter": 200, "learning_rate_init": 0.05, "n_iter_no_change": 200}
    model = task.ours(callbacks=(stop,), **options)
    model.fit(task.X[:200], task.y[:200], X_val=task.X[200:], y_val=task.y[200:])
    curve = model.validation_loss_curve_
    assert model.n_iter_ == np.argmin(curve) + 3 < 200
    predicted = model.predict_log_proba(task.X[200:])
    best = -predicted[np.arange(200), task.y[200:]].mean()
    np.testing.assert_allclose(best, min(curve), rtol=1e-10)


def test_callbacks_write_files_as_in_fit(make_task, tmp_path):
    task = make_task("multiclass")
    callbacks = [ap.Checkpoints(tmp_path / "run"), ap.JSONLogger(tmp_path / "log.jsonl")]
    model = task.ours(callbacks=callbacks, max_iter=4).fit(task.X, task.y)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["train_loss"] for line in lines] == model.loss_curve_
    steps = [7 * epoch for epoch in (2, 3, 4)]  # the last three
    names = [f"step-{step:08d}.safetensors" for step in steps]
    assert sorted(path.name for path in (tmp_path / "run").glob("step-*")) == names
    last = ap.load(tmp_path / "run" / names[-1])
    np.testing.assert_array_equal(last.params[0].W, model.coefs_[0])


def test_callbacks_can_lower_the_learning_rate(make_task):
    task = make_task("multiclass")
    watch = Watch()
    lower = ap.ReduceLROnPlateau("train_loss", factor=0.5, patience=1, min_delta=10.0)
    task.ours(callbacks=[lower, watch], learning_rate_init=0.01).fit(task.X, task.y)
    np.testing.assert_allclose(watch.lrs, [0.01, 0.01, 0.005, 0.0025, 0.00125, 0.000625])


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_the_loss_of_tiny_weights_beside_large_biases_is_that_of_float64(backend, solver):
    """Here the loss is the L2 term alone: hidden units are 0, and the last bias is the target."""
    rng = np.random.default_rng(0)
    losses = {"float32": [], "float64": []}
    for _ in range(5):
        x = rng.standard_normal((30, 3))
        coefs = [1e-3 * rng.standard_normal(shape) for shape in ((3, 4), (4, 1))]
        intercepts = [-1e3 - rng.random(4), np.asarray([1e3])]
        for dtype, found in losses.items():
            given = backend.asarray(x, dtype), backend.asarray(np.full(30, 1e3), dtype)
            options = {"solver": solver, "max_iter": 1, "warm_start": True, "random_state": 0}
            model = MLPRegressor(hidden_layer_sizes=(4,), learning_rate_init=1e-9, **options)
            with config_context(array_api_dispatch=True):
                model.fit(*given)
                model.coefs_ = [backend.asarray(c, dtype) for c in coefs]
                model.intercepts_ = [backend.asarray(b, dtype) for b in intercepts]
                found.append(model.fit(*given).loss_)
    np.testing.assert_allclose(losses["float32"], losses["float64"], rtol=1e-5)
    assert min(losses["float32"]) > 0.0
