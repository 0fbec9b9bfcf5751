"""A short fit is not compiled, and that changes nothing but its time."""

from __future__ import annotations

import types
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import validate_data
from threadpoolctl import ThreadpoolController

import anyprop.sklearn
from anyprop.backend import get_namespace
from anyprop.compiled import on_numpy
from anyprop.compiled.numpy_plan import make_plan
from anyprop.sklearn import _lbfgs, _rows, _stochastic
from anyprop.sklearn._given import Place, validated
from anyprop.sklearn._objective import pays

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ALL_WAYS = {
    "compiled": lambda *given: True,
    "as it is": lambda *given: False,
    "compiled later": pays,
}


def forget():
    """Make L-BFGS begin as in a new process."""
    _lbfgs._calls_of.cache_clear()
    on_numpy.kept.objects.clear()


def fitted(monkeypatch, way, fit):
    """Return the arrays and the losses after a fit that is compiled in one of the ways."""
    calls = []

    def decide(steps, rows, params):
        calls.append(way(steps, rows, params))
        return calls[-1]

    forget()
    with monkeypatch.context() as patched:
        patched.setattr(_stochastic, "pays", decide)
        patched.setattr(_lbfgs, "pays", decide)
        model = fit()
    return [*model._arrays(), model.loss_], calls


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs", "rmsprop"])
def test_a_fit_is_the_same_to_the_bit_whether_it_is_compiled(task, monkeypatch, solver):
    weights = task.weights()

    def fit():
        return task.ours(solver=solver, max_iter=80, tol=0.0).fit(task.X, task.y, weights)

    wanted, calls = fitted(monkeypatch, ALL_WAYS["compiled"], fit)
    assert all(calls)
    for name in ("as it is", "compiled later"):
        found, calls = fitted(monkeypatch, ALL_WAYS[name], fit)
        assert all(map(np.array_equal, found, wanted))
    assert solver != "lbfgs" or set(calls) == {False, True}  # from one of them to the other


def test_lbfgs_of_sparse_rows_in_parts_is_the_same_to_the_bit(task, monkeypatch):
    monkeypatch.setattr(_rows, "AT_ONCE", 1 + task.X.shape[0] // 4)
    X, weights = scipy.sparse.csr_matrix(task.X), task.weights()

    def fit():
        return task.ours(solver="lbfgs", max_iter=5, alpha=0.1).fit(X, task.y, weights)

    ways = [fitted(monkeypatch, ALL_WAYS[name], fit)[0] for name in ("compiled", "as it is")]
    assert all(map(np.array_equal, *ways))
    X = task.X
    np.testing.assert_allclose(ways[0][0], fit()._arrays()[0], rtol=1e-4)


def test_equal_fits_by_lbfgs_share_their_plan(task, monkeypatch):
    made = []

    def noted(program):
        made.append(program)
        return make_plan(program)

    def fit(alpha):
        made.clear()
        model = task.ours(solver="lbfgs", max_iter=60, tol=0.0, alpha=alpha).fit(task.X, task.y)
        return model._arrays(), len(made)

    forget()
    monkeypatch.setattr(on_numpy, "make_plan", noted)
    first, plans = fit(0.1)
    assert plans == 1
    for alpha, plans in ((0.1, 0), (0.2, 1), (0.1, 0)):
        again, found = fit(alpha)
        assert found == plans
        same = all(map(np.array_equal, again, first))
        assert same == (alpha == 0.1)


def test_an_objective_that_was_computed_often_is_planned_from_the_first_call(task):
    def compiled_calls():
        made.clear()
        task.ours(solver="lbfgs", max_iter=60, tol=0.0).fit(task.X, task.y)
        return made.count(True), made.count(False)

    made = []
    forget()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_lbfgs, "pays", lambda *given: made.append(pays(*given)) or made[-1])
        assert compiled_calls()[1] == 32
        assert compiled_calls()[1] == 0


def test_partial_fit_goes_on_compiled_where_it_began_without(task, monkeypatch):
    classes = np.unique(task.y) if task.y.ndim == 1 else np.arange(task.y.shape[1])
    known = {"classes": classes} if task.kind == "MLPClassifier" else {}

    def fit():
        model = task.ours(dropout=0.25)
        for _ in range(25):
            model.partial_fit(task.X, task.y, **known)
        return model

    wanted, _ = fitted(monkeypatch, ALL_WAYS["compiled"], fit)
    found, calls = fitted(monkeypatch, ALL_WAYS["compiled later"], fit)
    assert set(calls) == {False, True}
    assert all(map(np.array_equal, found, wanted))


def test_many_steps_and_large_ones_are_compiled():
    small, large = (types.SimpleNamespace(xp=get_namespace("numpy"), size=n) for n in (1000, 10**6))
    assert not pays(64, 200, small)
    assert pays(65, 200, small)
    assert not pays(1, 200, large)
    assert pays(2, 200, large)


def test_other_backends_compile_from_the_first_step():
    strict = types.SimpleNamespace(xp=get_namespace("array_api_strict"), size=10)
    assert pays(1, 1, strict)


@pytest.mark.parametrize(
    "y",
    [
        np.asarray([3, 1, 1, 3]),
        np.asarray(["no", "yes", "no", "yes"]),
        np.asarray([True, False, True, True]),
        np.asarray([0.0, -1.0, 0.0, -1.0], dtype="float32"),
        np.asarray(["b", "a", "b", "b"], dtype=object),
        np.asarray([7, 7, 7, 7]),
    ],
    ids=str,
)
def test_two_classes_are_encoded_as_scikit_learn_does(y):
    model = anyprop.sklearn.MLPClassifier()
    place = Place(get_namespace("numpy"), None, "float64")
    model._learn_targets(y, place, incremental=False)
    wanted = LabelBinarizer().fit(y).transform(y).astype("float64")
    found = model._encoded(y, place)
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("rows", "alone"), [(20, False), (2000, True)])
def test_scipy_takes_one_thread_where_numpy_takes_several(rows, alone, monkeypatch):
    def threads():
        loaded = ThreadpoolController().info()
        return {lib["num_threads"] for lib in loaded if "scipy.libs" in lib["filepath"]}

    def look(function, *args, **options):
        seen.append(threads())
        return inner(function, *args, **options)

    seen, inner = [], _lbfgs.scipy.optimize.minimize
    monkeypatch.setattr(_lbfgs.scipy.optimize, "minimize", look)
    X = np.random.default_rng(0).standard_normal((rows, 4))
    model = anyprop.sklearn.MLPClassifier(50, solver="lbfgs", max_iter=2)
    with _lbfgs._blas_of_scipy().limit(limits=2):
        before = threads()
        model.fit(X, X[:, 0] > 0.0)
        assert threads() == before
    assert seen == [{1} if before and alone else before]


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("lib/python3.13/site-packages/scipy.libs/libscipy_openblas-6c.so", True),
        ("lib/python3.13/site-packages/scipy/.dylibs/libscipy_openblas.dylib", True),
        ("lib/python3.13/site-packages/numpy.libs/libscipy_openblas64_-32.so", False),
        ("scipy/env/lib/libopenblas.so.0", False),
    ],
)
def test_a_blas_that_numpy_shares_keeps_its_threads(path, own, monkeypatch):
    loaded = types.SimpleNamespace(
        lib_controllers=[types.SimpleNamespace(filepath=path)],
        select=lambda filepath: filepath,
    )
    monkeypatch.setattr(_lbfgs, "ThreadpoolController", lambda: loaded)
    assert _lbfgs._blas_of_scipy.__wrapped__() == ([path] if own else [])


ROWS = np.arange(12.0).reshape(4, 3)
NUMBERS = np.asarray([1.0, 2.0, 3.0, 1.0])
PAIRS = {
    "plain": (ROWS, NUMBERS),
    "float32": (ROWS.astype("float32"), NUMBERS.astype("int8")),
    "float16": (ROWS.astype("float16"), NUMBERS.astype("float16")),
    "whole": (ROWS.astype("int64"), NUMBERS > 1.0),
    "words": (ROWS, NUMBERS.astype(str)),
    "objects": (ROWS, NUMBERS.astype(object)),
    "object with None": (ROWS, np.asarray([None, 1, 2, 3], dtype=object)),
    "complex y": (ROWS, NUMBERS * 1j),
    "dates": (ROWS, NUMBERS.astype("datetime64[s]")),
    "a NaN in y": (ROWS, NUMBERS * np.nan),
    "a sum of y that overflows": (ROWS, np.full(4, 1e308)),
    "an infinity in X": (ROWS + np.asarray([np.inf, 0.0, 0.0]), NUMBERS),
    "fewer y": (ROWS, NUMBERS[:3]),
    "a column": (ROWS, NUMBERS[:, None]),
    "a scalar": (ROWS, np.asarray(1.0)),
    "no rows": (ROWS[:0], NUMBERS[:0]),
    "no columns": (ROWS[:, :0], NUMBERS),
    "a vector": (NUMBERS, NUMBERS),
    "lists": (ROWS.tolist(), NUMBERS.tolist()),
    "no y": (ROWS, None),
}


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("dtype", ["float64", "float32", None])
@pytest.mark.parametrize("name", PAIRS)
def test_data_are_checked_as_scikit_learn_does(name, dtype, kind):
    """The quick way for plain arrays takes and refuses what the long one does, and says the same."""
    X, y = PAIRS[name]
    dtypes = [np.dtype(name) for name in (("float64", "float32") if dtype is None else (dtype,))]

    def outcome(check):
        model = getattr(anyprop.sklearn, kind)()
        model.feature_names_in_ = np.asarray(["a"], dtype=object)  # of a fit before
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            try:
                found = check(model)
            except Exception as error:
                return type(error), str(error), len(caught)
        arrays = [(type(a), a.dtype, str(a.tolist())) for a in found]
        remembered = {k: v for k, v in vars(model).items() if k.endswith("_in_")}
        return arrays, remembered, len(caught)

    def slowly(model):
        options = {"multi_output": True, "y_numeric": model._numeric_targets, "dtype": dtypes}
        return validate_data(model, X, y, accept_sparse="csr", reset=True, **options)

    assert outcome(lambda model: validated(model, X, y, dtype, reset=True)) == outcome(slowly)
