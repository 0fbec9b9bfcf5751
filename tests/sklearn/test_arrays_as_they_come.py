"""Unsigned, big-endian, reversed and read-only arrays beside X of any backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from sklearn import config_context

from anyprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3)).astype("float32")
Y = np.digitize(X[:, 0], [-0.5, 0.5])
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "big-endian, reversed, read-only": lambda a: read_only(
        a[::-1].astype(a.dtype.newbyteorder(">"))
    )[::-1],
}
LABELS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
LABELS += ["float16", "float32", "float64", "longdouble", "U7"]


@pytest.mark.parametrize("dtype", LABELS)
def test_labels_of_every_dtype(backend, dtype):
    labels = (Y > 1 if dtype == "bool" else Y).astype(dtype)
    x = backend.asarray(X)
    model = MLPClassifier(**SMALL).fit(x, labels, X_val=X, y_val=labels)
    model.partial_fit(x, labels)
    predicted = model.predict(x)
    host = predicted if isinstance(predicted, np.ndarray) else backend.to_numpy(predicted)
    plain = MLPClassifier(**SMALL).fit(x, Y > 1 if dtype == "bool" else Y)
    plain.partial_fit(x, Y > 1 if dtype == "bool" else Y)
    expected = backend.to_numpy(plain.predict(x))
    np.testing.assert_array_equal(host.astype(float), expected.astype(float))
    assert isinstance(model.score(x, labels), float)


def test_labels_near_the_largest(backend):
    labels = np.asarray([3, 2**63 - 1, 2**62], dtype="uint64")[Y]
    x = backend.asarray(X)
    model = MLPClassifier(**SMALL).fit(x, labels)
    assert set(backend.to_numpy(model.predict(x)).tolist()) <= {3, 2**63 - 1, 2**62}
    labels[Y == 1] = 2**64 - 1
    model = MLPClassifier(**SMALL)
    if backend.name == "torch":
        with pytest.raises(
            ValueError, match="labels of uint64 that torch cannot hold.*18446744073"
        ):
            model.fit(x, labels)
        assert not hasattr(model, "classes_")
        words = labels.astype(str)  # the advice
        assert set(model.fit(x, words).predict(x)) <= set(words)
    else:
        predicted = backend.to_numpy(model.fit(x, labels).predict(x))
        assert set(predicted.tolist()) <= {3, 2**64 - 1, 2**62}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_how_arrays_lie_does_not_matter(backend, kind, form, dtype):
    y = Y if kind is MLPClassifier else (10.0 * X).astype(dtype)
    weight = (3.0 * RNG.random(60) + 1.0).astype(dtype)
    x = backend.asarray(X)
    plain = kind(**SMALL).fit(x, y, sample_weight=weight, X_val=X, y_val=y)
    model = kind(**SMALL).fit(
        *(x, form(y)), sample_weight=form(weight), X_val=form(X), y_val=form(y)
    )
    assert model.loss_curve_ == plain.loss_curve_
    assert model.validation_loss_curve_ == plain.validation_loss_curve_
    scores = [m.score(x, form(y), sample_weight=form(weight)) for m in (plain, model)]
    assert scores[0] == scores[1] == plain.score(x, y, sample_weight=weight)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_x_in_numpy_keeps_its_precision(form):
    for dispatches in (True, False):
        with config_context(array_api_dispatch=dispatches):
            model = MLPClassifier(**SMALL).fit(form(X), Y)
            assert model.coefs_[0].dtype == "float32"
            assert model.loss_curve_ == MLPClassifier(**SMALL).fit(X, Y).loss_curve_
            np.testing.assert_array_equal(model.predict(form(X)), model.predict(X))


def test_labels_that_are_unsigned_there_already(backend):
    if backend.name == "torch":
        import torch

        y = torch.asarray(Y.astype("uint16"))
    else:
        y = backend.asarray(Y, "uint16")
    x = backend.asarray(X)
    model = MLPClassifier(**SMALL).fit(x, y)
    assert set(backend.to_numpy(model.predict(x)).tolist()) <= {0, 1, 2}
    targets = MLPRegressor(**SMALL).fit(x, y)
    assert targets.loss_curve_ == MLPRegressor(**SMALL).fit(x, Y).loss_curve_


def test_sparse_validation_data_follow_x(backend):
    dense = MLPClassifier(**SMALL).fit(backend.asarray(X), Y, X_val=X, y_val=Y)
    model = MLPClassifier(**SMALL).fit(
        backend.asarray(X), Y, X_val=scipy.sparse.csr_array(X), y_val=Y
    )
    assert model.validation_loss_curve_ == dense.validation_loss_curve_


def test_labels_in_bfloat16(backend):
    if backend.name == "torch":  # no other has it
        import torch

        x, y = backend.asarray(X), torch.asarray(Y).to(torch.bfloat16)
        model = MLPClassifier(**SMALL).fit(x, y)
        assert model.loss_curve_ == MLPClassifier(**SMALL).fit(x, Y).loss_curve_
        assert set(model.predict(x).tolist()) <= {0.0, 1.0, 2.0}


def test_bfloat16_without_dispatch():
    torch = pytest.importorskip("torch")
    x = torch.asarray(X).to(torch.bfloat16)
    with config_context(array_api_dispatch=False):
        model = MLPClassifier(**SMALL).fit(x, Y)
        wide = MLPClassifier(**SMALL).fit(x.to(torch.float64), Y)
        assert model.loss_curve_ == wide.loss_curve_
        np.testing.assert_array_equal(model.predict(x), wide.predict(x.to(torch.float64)))
