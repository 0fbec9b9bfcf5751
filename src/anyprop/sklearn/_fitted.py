"""A fitted network as scikit-learn shows it, and what it predicts."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from anyprop import _numerics
from anyprop._typing import Array
from anyprop.layers.base import layout_of
from anyprop.layers.sequential import Sequential
from anyprop.parameters import Parameters
from anyprop.sklearn._given import (
    Place,
    check_dense,
    check_same_place,
    check_some_weight,
    host,
    readable,
    validated_rows,
)
from anyprop.sklearn._network import all_finite, packed, unpacked
from anyprop.sklearn._rows import outputs


class FittedMLP(BaseEstimator):
    """Base of the estimators once they are fitted."""

    def _publish(self, params: Parameters) -> None:
        """Show the parameters as scikit-learn does."""
        self._parameters = params
        self.coefs_, self.intercepts_, norms = unpacked(params)
        self.n_layers_ = len(self.coefs_) + 1
        if norms:
            self.norms_ = norms
        self._shown = self._arrays()

    def _arrays(self) -> list[Array]:
        norms = getattr(self, "norms_", [])
        return [*self.coefs_, *self.intercepts_, *(a for norm in norms for a in norm.values())]

    def _current_parameters(self, net: Sequential) -> Parameters:
        """Return the parameters as one vector: the trained one, unless arrays shown were replaced."""
        layout = layout_of(net)
        shown = getattr(self, "_shown", None)
        if shown is not None and self._parameters.layout == layout:
            arrays = self._arrays()
            if len(arrays) == len(shown) and all(map(operator.is_, arrays, shown)):
                return self._parameters
        return packed(layout, self.coefs_, self.intercepts_, getattr(self, "norms_", []))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # A pickle holds each number once, and no compiled step.
        again = ("_parameters", "_shown", "_trainer", "_copies")
        return {k: v for k, v in state.items() if k not in again}

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        # Kept, as every fit asks twice, and each time the signature is taken apart.
        names: list[str] = super()._get_param_names()
        return names

    # Predicting.

    def _raw_outputs(self, X: Any, method: str) -> Array:
        """Compute the network's outputs, before what `out_activation_` names."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self, "coefs_")
        if self.activation != self._activation:
            raise ValueError(
                f"activation={self.activation!r} was set after fit, but the weights were trained with "
                f"{self._activation!r}; set that again, or call fit."
            )
        X = readable(X, "X")
        like = self.coefs_[0]
        check_same_place(X, like, type(self).__name__, method)
        place = Place.of(like)
        X = validated_rows(self, X, place.dtype)
        params = self._current_parameters(self.network_)
        if not all_finite(params):
            raise ValueError(
                f"the weights of this {type(self).__name__} are not finite; set others in coefs_ and "
                "intercepts_, or call fit."
            )
        with np.errstate(all="ignore"):
            y = outputs(self.network_, params, X)
        if not _numerics.all_finite(y):
            raise ValueError(
                f"the outputs of this {type(self).__name__} overflow {place.dtype}; X holds numbers far "
                "from those that it was trained on, so scale it alike."
            )
        return y

    def _measured(self, metric: Callable[..., float], X: Any, y: Any, sample_weight: Any) -> float:
        """Compute a metric of predictions on the host, where all dtypes have all operations."""
        y, weight = readable(y, "y"), readable(sample_weight, "sample_weight")
        check_dense(weight, "sample_weight")
        if self._numeric_targets:  # several labels for each row may be sparse
            check_dense(y, "y")
        weight = None if weight is None else np.asarray(host(weight))
        check_some_weight(weight, "no row has a weight above 0")
        if weight is not None and (weight < 0.0).any():
            raise ValueError("sample_weight must not be negative.")
        predicted = self.predict(X)
        return float(metric(host(y), host(predicted), sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
