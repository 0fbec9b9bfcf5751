"""Predictions take a quick way, which is that of scikit-learn in all but time."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas
import pytest
import scipy.sparse
import scipy.special
from sklearn.utils.validation import validate_data

import anyprop.sklearn
from anyprop.sklearn._given import validated_rows

ROWS = np.arange(12.0).reshape(4, 3)
AS_THEY_COME = {
    "float64": ROWS,
    "float32": ROWS.astype("float32"),
    "float16": ROWS.astype("float16"),
    "long double": ROWS.astype("longdouble"),
    "whole": ROWS.astype("int8"),
    "boolean": ROWS > 2.0,
    "columns first": np.asfortranarray(ROWS),
    "backwards": ROWS[::-1],
    "sum overflows": np.full((2, 3), 1e308),
    "too large for float32": np.full((2, 3), 1e300),
    "a NaN": np.full((1, 3), np.nan),
    "both infinities": np.asarray([[np.inf, -np.inf, 0.0]]),
    "no rows": ROWS[:0],
    "too narrow": ROWS[:, :2],
    "a vector": ROWS[0],
    "three dimensions": ROWS[None],
    "complex": ROWS * 1j,
    "strings": ROWS.astype(str),
    "words": np.asarray([["a", "b", "c"]]),
    "objects": ROWS.astype(object),
    "list": ROWS.tolist(),
    "list of whole numbers": [[1, 2, 3]],
    "list of arrays": list(ROWS),
    "ragged list": [[1.0, 2.0, 3.0], [1.0]],
    "flat list": [1.0, 2.0, 3.0],
    "empty list": [],
    "list of words": [["a", "b", "c"]],
    "list of numbers as words": [["1", "2", "3"]],
    "list of nothing": [[None, 1.0, 2.0]],
    "CSR": scipy.sparse.csr_array(ROWS),
    "CSR matrix, float32": scipy.sparse.csr_matrix(ROWS.astype("float32")),
    "CSR of whole numbers": scipy.sparse.csr_array(ROWS.astype("int64")),
    "CSR with a NaN": scipy.sparse.csr_array(np.full((1, 3), np.nan)),
    "CSC": scipy.sparse.csc_array(ROWS),
    "frame": pandas.DataFrame(ROWS, columns=["a", "b", "c"]),
    "frame of float32": pandas.DataFrame(ROWS, columns=["a", "b", "c"], dtype="float32"),
    "frame of whole numbers": pandas.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]}),
    "frame of booleans": pandas.DataFrame({"a": [True], "b": [False], "c": [True]}),
    "frame of several dtypes": pandas.DataFrame({"a": [1, 2], "b": [0.5, 4], "c": [True, False]}),
    "frame of words": pandas.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}),
    "frame with a NaN": pandas.DataFrame({"a": [1.0], "b": [np.nan], "c": [2.0]}),
    "frame with a missing number": pandas.DataFrame(
        {name: pandas.array([1, None], dtype="Int64") for name in "abc"}
    ),
    "frame of pandas' own numbers": pandas.DataFrame(
        ROWS, columns=["a", "b", "c"], dtype="Float64"
    ),
    "frame of sparse columns": pandas.DataFrame(ROWS, columns=["a", "b", "c"]).astype(
        pandas.SparseDtype("float64", 0.0)
    ),
    "frame with other names": pandas.DataFrame(ROWS, columns=["a", "b", "d"]),
    "frame in another order": pandas.DataFrame(ROWS, columns=["a", "c", "b"]),
    "frame without names": pandas.DataFrame(ROWS),
    "frame with names of several kinds": pandas.DataFrame(ROWS, columns=["a", "b", 3]),
    "too narrow a frame": pandas.DataFrame(ROWS[:, :2], columns=["a", "b"]),
    "frame without rows": pandas.DataFrame(ROWS[:0], columns=["a", "b", "c"]),
}


@pytest.mark.parametrize("names", [False, True], ids=["", "with names"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", AS_THEY_COME)
def test_rows_to_predict_are_checked_as_scikit_learn_does(name, dtype, names):
    """The quick way for arrays, lists, frames and sparse matrices takes and refuses what the long
    one does.
    """
    model = anyprop.sklearn.MLPRegressor()
    model.n_features_in_ = 3
    if names:
        model.feature_names_in_ = np.asarray(["a", "b", "c"], dtype=object)

    def outcome(check):
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            try:
                found = check()
            except Exception as error:
                return type(error), str(error), len(caught)
        dense = found.toarray() if scipy.sparse.issparse(found) else found
        layout = found.format if scipy.sparse.issparse(found) else found.strides
        return type(found), found.dtype, dense.tolist(), layout, len(caught)

    X = AS_THEY_COME[name]
    wanted = outcome(
        lambda: validate_data(model, X, accept_sparse="csr", dtype=[np.dtype(dtype)], reset=False)
    )
    assert outcome(lambda: validated_rows(model, X, dtype)) == wanted


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (40, 10), (40, 32), (40, 33), (2, 3)])
def test_probabilities_are_those_of_the_largest_number_of_each_row(shape):
    y = np.random.default_rng(0).standard_normal(shape) * 300.0
    model = anyprop.sklearn.MLPClassifier()
    model.out_activation_ = "softmax"
    wanted = scipy.special.softmax(y, axis=1)
    found = model._probabilities(y)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("of", ["the first", "all"])
def test_weights_replaced_by_whole_numbers_are_the_same_weights(of):
    X = np.random.default_rng(8).standard_normal((20, 3))
    model = anyprop.sklearn.MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=8)
    model.set_params(warm_start=True).fit(X, X[:, 0])
    for array in (*model.coefs_, *model.intercepts_):
        array[...] = np.round(3.0 * array)
    rounded = copy.deepcopy(model)
    rounded.coefs_[0] = rounded.coefs_[0].astype("int64")
    if of == "all":
        rounded.coefs_ = [W.astype("int64") for W in rounded.coefs_]
        rounded.intercepts_ = [b.astype("int64") for b in rounded.intercepts_]
    np.testing.assert_array_equal(rounded.predict(X), model.predict(X))
    again = rounded.fit(X, X[:, 0])
    assert again.coefs_[0].dtype == "float64"
    np.testing.assert_array_equal(again.predict(X), model.fit(X, X[:, 0]).predict(X))
