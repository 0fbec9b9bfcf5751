"""The arguments of an estimator, moved to where X is: everything follows X.

Without scikit-learn's array API dispatch every input becomes a NumPy array. With it X stays where it is,
and targets and weights move to it. Labels are looked at on the host, in NumPy.
"""

from __future__ import annotations

import contextlib
from numbers import Real
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils.validation import (
    _check_feature_names,
    _check_sample_weight,
    column_or_1d,
    validate_data,
)

from anyprop._numerics import all_finite, cast
from anyprop._typing import Array, Namespace
from anyprop.backend import (
    device_of,
    dtype_name,
    from_host,
    get_namespace,
    name_of,
    namespace,
    to_host,
)
from anyprop.sklearn._rows import without_names


class Place(NamedTuple):
    """Where arrays are, and the floating dtype that an estimator computes in there."""

    xp: Namespace
    device: Any
    dtype: str

    @classmethod
    def of(cls, array: Array) -> Place:
        """Return the place of an array; sparse matrices are NumPy's."""
        if scipy.sparse.issparse(array):
            return cls(get_namespace("numpy"), None, array.dtype.name)
        xp, dtype = namespace(array), dtype_name(array)
        if "float" not in dtype:  # weights that a user has replaced by whole numbers
            dtype = "float64" if hasattr(xp, "float64") else "float32"
        return cls(xp, device_of(array), dtype)

    def put(self, array: Any, *, dtype: str | None = None) -> Array:
        """Move an array here, and cast it to the floating dtype unless another is given."""
        dtype = dtype or self.dtype
        with np.errstate(over="ignore"):  # callers that must know check the result
            if namespace(array) is self.xp and device_of(array) == self.device:
                return cast(self.xp, array, getattr(self.xp, dtype))
            return from_host(to_host(array), self.xp, dtype=dtype, device=self.device)


def dispatches() -> bool:
    """Return whether scikit-learn's array API dispatch is on."""
    return bool(get_config()["array_api_dispatch"])


def is_foreign(X: Any) -> bool:
    """Return whether X is an array that stays where it is because dispatch is on."""
    return dispatches() and array_api_compat.is_array_api_obj(X) and not scipy.sparse.issparse(X)


def float_dtypes(X: Any, dtype: str | None) -> list[Any]:
    """List the dtypes that X may keep, the one it gets otherwise first."""
    names = ("float64", "float32") if dtype is None else (dtype,)
    if not is_foreign(X):
        return [np.dtype(name) for name in names]
    xp, device = namespace(X), device_of(X)
    known = xp.__array_namespace_info__().dtypes(kind="real floating", device=device)
    if dtype is not None and dtype not in known:
        raise ValueError(f"{name_of(xp)} has no {dtype} on {device}; leave out dtype={dtype!r}.")
    return [known[name] for name in names if name in known] or [known["float32"]]


def validated(estimator: Any, X: Any, y: Any, dtype: str | None, *, reset: bool) -> tuple[Any, Any]:
    """Check X and y as scikit-learn does, X for a floating dtype, and `reset` what it remembers of X."""
    if reset and _are_plain(X, y):
        cast = _as_float(X, dtype or ("float32" if X.dtype == "float32" else "float64"))
        # A vector is a column of numbers or labels, and scikit-learn looks no further either.
        if cast is not None and (y.dtype.kind != "f" or all_finite(y)):
            estimator.__dict__.pop("feature_names_in_", None)
            estimator.n_features_in_ = X.shape[1]
            return cast, y
    found: tuple[Any, Any] = validate_data(
        estimator,
        X,
        y,
        accept_sparse="csr",
        multi_output=True,
        y_numeric=estimator._numeric_targets,
        dtype=float_dtypes(X, dtype),
        reset=reset,
    )
    return found


def validated_rows(estimator: Any, X: Any, dtype: str) -> Any:
    """Check X of a fitted estimator as scikit-learn does, for a floating dtype."""
    named = (rows := without_names(X)) is not X or hasattr(estimator, "feature_names_in_")
    if type(X) is list:
        with contextlib.suppress(Exception):  # of which scikit-learn's function tells the reason
            rows = np.asarray(X)
    sparse = scipy.sparse.issparse(rows) and rows.format == "csr"
    plain = (
        (sparse or type(rows) is np.ndarray)
        and rows.ndim == 2
        and rows.dtype.kind in "biuf"
        and rows.shape[0] > 0
        and rows.shape[1] == getattr(estimator, "n_features_in_", None)
    )
    # All that is left to check; scikit-learn's function takes longer than many predictions.
    if plain and (cast := _as_float(rows, dtype)) is not None:
        if named:
            _check_feature_names(estimator, X, reset=False)
        return cast
    return validate_data(
        estimator, X, accept_sparse="csr", dtype=float_dtypes(X, dtype), reset=False
    )


def _are_plain(X: Any, y: Any) -> bool:
    """Return whether only the numbers of X and y can be wrong, and they may stay as they are."""
    return (
        type(X) is type(y) is np.ndarray
        and X.ndim == 2
        and y.ndim == 1
        and X.shape[0] == y.shape[0] > 0
        and X.shape[1] > 0
        and X.dtype.kind in "biuf"
        and y.dtype.kind in "biufU"
    )


def _as_float(rows: Any, dtype: str) -> Any:
    """Return rows in a floating dtype; None if not all of their numbers are finite there."""
    with np.errstate(all="ignore"):
        rows = rows.astype(dtype, copy=False)
    return rows if all_finite(rows.data if scipy.sparse.issparse(rows) else rows) else None


def number_of_outputs(y: Any) -> int:
    """Return the columns of real targets; raise TypeError if they are sparse, ValueError if dates."""
    check_dense(y, "y")
    if getattr(y.dtype, "kind", "f") in "Mm":
        raise ValueError(
            "y holds dates or times; divide differences by a unit, such as "
            "numpy.timedelta64(1, 'D')."
        )
    return 1 if y.ndim == 1 else int(y.shape[1])


def real_targets(y: Any, width: int, place: Place) -> Array:
    """Return real targets as (N, `width`), beside X."""
    if y.ndim == 2 and y.shape[1] == 1 and isinstance(y, np.ndarray):
        y = column_or_1d(y, warn=True)
    t, xp = place.put(y), place.xp
    if t.ndim == 1:
        t = xp.expand_dims(t, axis=1)
    if t.shape[1] != width:
        raise ValueError(f"y has {t.shape[1]} outputs, but {width} are expected.")
    if not all_finite(t):
        largest = np.max(np.abs(np.asarray(host(y), dtype="float64")))
        raise ValueError(
            f"y holds numbers up to {largest:.3g}, too large for {place.dtype}; train on "
            f"y / {largest:.3g}, and multiply what is predicted, as float64."
        )
    return t


def readable(array: Any, name: str) -> Any:
    """Return an input in a form that every backend can take.

    NumPy arrays of the other byte order become those of the machine's. With dispatch, what is not
    an array but can become one is a NumPy array, and one that runs backwards is copied.
    """
    if isinstance(array, np.ma.MaskedArray):  # every library would read what the mask hides
        raise TypeError(f"{name} is a masked array; fill or drop what is masked.")
    if not isinstance(array, np.ndarray):
        strange = hasattr(array, "__array__") and not hasattr(array, "columns")
        if not (strange and dispatches()) or array_api_compat.is_array_api_obj(array):
            # NumPy lacks bfloat16; as all but float32 it is computed in float64.
            narrow = hasattr(array, "dtype") and dtype_name(array) == "bfloat16"
            return to_host(array).astype("float64") if narrow and not dispatches() else array
        array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if min(array.strides, default=0) < 0 and dispatches():
        array = array.copy()
    return array


def check_dense(array: Any, name: str) -> None:
    """Raise TypeError if an input is sparse."""
    if scipy.sparse.issparse(array):
        raise TypeError(f"{name} is sparse; pass {name}.toarray().")


def host(y: Any) -> Any:
    """Return targets as scikit-learn's functions of labels take them: in NumPy, or sparse."""
    if not is_foreign(y):
        return y
    if dtype_name(y) == "bfloat16":  # which NumPy lacks, and float32 includes
        y = namespace(y).astype(y, namespace(y).float32)
    return to_host(y)


def check_labels(labels: Any, name: str) -> None:
    """Raise TypeError if labels are of kinds that no order puts together, such as None and strings."""
    if getattr(getattr(labels, "dtype", None), "kind", "") != "O":
        return
    kinds = sorted({type(label).__name__ for label in np.ravel(np.asarray(labels))})
    if ("str" in kinds and len(kinds) > 1) or "NoneType" in kinds:
        raise TypeError(
            f"{name} holds labels of several types, {', '.join(kinds)}; make them strings by "
            f"{name}.astype(str)."
        )


def check_same_place(X: Any, params: Array, owner: str, method: str) -> None:
    """Raise ValueError if dispatch is on and X is not where the fitted parameters are."""
    if not dispatches():
        return
    xp, device = namespace(params), device_of(params)
    foreign = is_foreign(X)
    theirs = namespace(X) if foreign else get_namespace("numpy")
    if theirs is xp and (name_of(xp) == "numpy" or device_of(X) == device):
        return
    where = f"{name_of(theirs)} on {device_of(X)}" if foreign else "NumPy"
    raise ValueError(
        f"Inputs passed to {owner}.{method}() must use the same namespace and the same device as those "
        f"passed to fit(). It was fitted with {name_of(xp)} on {device}, but X belongs to {where}; "
        "move X with anyprop.to_namespace(X, xp, device=...)."
    )


def checked_weights(sample_weight: Any, X: Any, place: Place) -> Array | None:
    """Return the weights of the rows of X, or one for all, beside X; ValueError if one is not valid."""
    if sample_weight is None:
        return None
    sample_weight = readable(sample_weight, "sample_weight")
    if is_foreign(X) and not isinstance(sample_weight, Real):
        is_array = array_api_compat.is_array_api_obj(sample_weight)
        sample_weight = place.put(sample_weight if is_array else np.asarray(sample_weight))
    weight = place.put(_check_sample_weight(sample_weight, X, ensure_non_negative=True))
    if not all_finite(weight):
        raise ValueError(f"sample_weight holds numbers too large for {place.dtype}; divide them.")
    return weight


def check_some_weight(weight: Array | None, otherwise: str) -> None:
    """Raise ValueError, saying what is `otherwise`, if there are weights and none is above 0."""
    if weight is not None and not bool(namespace(weight).any(weight > 0.0)):
        raise ValueError(
            f"{otherwise}; check the weights that were given, and multiply them if they round to 0."
        )


def beside(classes: Any, place: Place) -> Any:
    """Move classes that are numbers to where X is; ValueError if no dtype there holds them."""
    if classes.dtype.kind not in "biuf" or name_of(place.xp) == "numpy":
        return classes
    known = place.xp.__array_namespace_info__().dtypes(device=place.device)
    dtype = classes.dtype.name
    if dtype not in known:
        dtype = "float64" if classes.dtype.kind == "f" else "int64"
        with np.errstate(all="ignore"):
            same = classes.astype(dtype) == classes
        if not same.all() or (classes.dtype.kind == "u" and classes.max() > np.iinfo("int64").max):
            raise ValueError(
                f"y holds labels of {classes.dtype} that {name_of(place.xp)} cannot hold, such as "
                f"{classes[-1]}; renumber the classes, or turn them into strings."
            )
    return from_host(classes, place.xp, dtype=dtype, device=place.device)
