"""scikit-learn's own suite of checks, all of it: none is expected to fail."""

from __future__ import annotations

import pytest
from sklearn import config_context
from sklearn.utils.estimator_checks import parametrize_with_checks

from anyprop.sklearn import MLPClassifier, MLPRegressor

# A check skips itself where a library or a device that it is about is missing; scikit-learn warns of it.
pytestmark = pytest.mark.filterwarnings("default")

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPRegressor(max_iter=100),
    MLPClassifier(max_iter=30, solver="rmsprop"),
    MLPRegressor(solver="lbfgs"),
]


@parametrize_with_checks(ESTIMATORS)
def test_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(ESTIMATORS[:2])
def test_checks_with_array_api_dispatch(estimator, check):
    with config_context(array_api_dispatch=True):
        check(estimator)
