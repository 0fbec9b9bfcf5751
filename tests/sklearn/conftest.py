"""Data sets, and pairs of estimators: scikit-learn's own beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
import sklearn.neural_network
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

import anyprop.sklearn


class Task(NamedTuple):
    """A task: the name of the class, its options, and data."""

    kind: str
    options: dict[str, Any]
    X: np.ndarray
    y: np.ndarray

    def ours(self, **options: Any) -> Any:
        return getattr(anyprop.sklearn, self.kind)(**(self.options | options))

    def theirs(self, **options: Any) -> Any:
        return getattr(sklearn.neural_network, self.kind)(**(self.options | options))

    def weights(self) -> np.ndarray:
        return np.random.default_rng(5).random(self.X.shape[0]) * 3.0


def _task(name: str) -> Task:
    small = {"hidden_layer_sizes": (12, 7), "random_state": 3, "batch_size": 64, "max_iter": 6}
    if name == "multiclass":
        X, y = datasets.load_digits(return_X_y=True)
        return Task("MLPClassifier", small, X[:400] / 16.0, y[:400])
    if name == "binary":
        X, y = datasets.load_breast_cancer(return_X_y=True)
        return Task("MLPClassifier", small, StandardScaler().fit_transform(X), y)
    if name == "multilabel":
        X, y = datasets.make_multilabel_classification(300, 10, n_classes=4, random_state=0)
        return Task("MLPClassifier", small, StandardScaler().fit_transform(X), y)
    X, y = datasets.load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    if name == "several outputs":
        return Task("MLPRegressor", small, X, np.stack([y, X[:, 0] * X[:, 1], X[:, 2]], axis=1))
    if name == "poisson":
        return Task("MLPRegressor", small | {"loss": "poisson"}, X, np.floor(np.exp(y)))
    return Task("MLPRegressor", small, X, y)


TASKS = ("multiclass", "binary", "multilabel", "one output", "several outputs", "poisson")


@pytest.fixture(autouse=True)
def flags_of_strict() -> Iterator[None]:
    """Allow scikit-learn's own code, which also sets flags, more of the standard than ours needs."""
    with array_api_strict.ArrayAPIStrictFlags(boolean_indexing=True, data_dependent_shapes=True):
        yield


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return _task(request.param)


@pytest.fixture
def make_task() -> Any:
    return _task
