"""Checks of what training is given, before any work is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from anyprop._checks import is_scalar_array, kind, worded
from anyprop._numerics import all_finite, cast, is_floating, wide_dtype
from anyprop._typing import Array
from anyprop.backend import (
    check_same_place,
    dtype_name,
    holds_exactly,
    name_of,
    namespace,
    to_host,
)
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, check_loss
from anyprop.network import wrong_dtype
from anyprop.parameters import Parameters, check_kind

HARDLY_SUPPORTED = ("uint16", "uint32", "uint64")
"""Dtypes by which PyTorch cannot compare or index, and of which only some devices take rows."""


def check_data(
    name: str,
    data: Any,
    net: Layer,
    params: Parameters,
    loss: Loss,
    sample_weight: Array | None = None,
) -> tuple[Array, Array, Array | None]:
    """Raise unless `data` is a pair (x, t) that the network and the loss can work on.

    Return both and the weights, in dtypes that the backend can take rows of and compute with.
    """
    several = isinstance(data, (tuple, list))
    if not several or len(data) != 2:
        given = f"a {type(data).__name__} of {len(data)}" if several else kind(data)
        raise TypeError(
            f"{name} must be a pair (x, t) of arrays or an anyprop.Source, not {given}"
            f"{_about_batches(data) if name == 'data' else ''}."
        )
    check_loss(loss)
    x, t = data
    try:
        check_beside(params, x=x, t=t)
    except TypeError as error:
        elsewhere = isinstance(x, np.ndarray) and not isinstance(params.flat, np.ndarray)
        if not (elsewhere or hasattr(x, "chunks")):  # which data sets of h5py and zarr have
            raise
        said = str(error).rstrip(".")
        raise TypeError(
            f"{said}; or wrap them: Source((x, t)) stays on the host, and is moved a part at a time."
        ) from None
    if name_of(params.xp) == "torch":
        if dtype_name(t) in HARDLY_SUPPORTED:
            t = t.long()  # a label too large becomes a negative one
        if dtype_name(x) in HARDLY_SUPPORTED:
            x = params.xp.astype(x, params.flat.dtype)
    d = net.width_in
    if d is not None and (x.ndim != 2 or x.shape[1] != d):
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)}, but the network takes (N, {d}): "
            "one row per example."
        )
    if x.ndim < 1 or t.ndim < 1 or x.shape[0] != t.shape[0]:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)} and t {tuple(t.shape)}; "
            "they must have the same number of rows."
        )
    if x.shape[0] == 0:
        raise ValueError(f"{name} has no examples: x has shape {tuple(x.shape)}.")
    try:
        loss.check_targets(t, net.output_shape(tuple(x.shape))[-1])
    except (TypeError, ValueError) as error:
        raise worded(error, f"{name}: {error}") from None
    for entry, array in (("x", x), ("t", t)):  # not every loss checks t
        if is_floating(namespace(array), array.dtype):
            check_finite(name, entry, array)
    if sample_weight is not None:
        sample_weight = checked_weights(sample_weight, params, x.shape[0])
    with np.errstate(all="ignore"):
        total = loss.total_weight(t, sample_weight, dtype=wide_dtype(params.xp, params.flat.dtype))
    check_total(name, float(to_host(total) if is_scalar_array(total) else total))
    return x, t, sample_weight


def check_total(name: str, total: float) -> None:
    """Raise ValueError unless the sum of the weights of all examples is one to divide by."""
    if not total > 0.0:
        raise ValueError(
            f"{name}: no example has a weight above 0, so there is nothing to learn or to measure; "
            "check the weights of the classes and of the examples, and multiply them if they round to 0."
        )
    check_finite_total(name, total)


def check_finite_total(name: str, total: float) -> None:
    """Raise ValueError if a sum of weights, none of them negative, is too large for its dtype."""
    if total == math.inf:
        raise ValueError(
            f"{name}: the sum of the weights is infinite; divide them by a large number."
        )


def _about_batches(data: Any) -> str:
    """Say what to do with what may be batches."""
    if isinstance(data, Iterator):
        return (
            ": it can be run through only once; give Stream(batches) with a function that makes "
            "another for each epoch"
        )
    if isinstance(data, (tuple, list)) and all(hasattr(part, "shape") for part in data):
        return "; with weights, give Source((x, t, weights))" if len(data) == 3 else ""
    return (
        "; if it has batches, give Stream(lambda epoch: data)" if hasattr(data, "__iter__") else ""
    )


def check_beside(params: Parameters, **arrays: Array) -> None:
    """Raise unless arrays, x and others, are beside the parameters, which can hold x exactly."""
    check_kind(params)
    check_same_place([("params", params.flat), *arrays.items()])
    x, flat = arrays["x"], params.flat
    if x.dtype != flat.dtype and not holds_exactly(dtype_name(flat), dtype_name(x)):
        raise wrong_dtype(params, arrays["x"])


def check_finite(name: str, entry: str, x: Array) -> None:
    """Raise ValueError if x, called `entry`, holds a NaN or an infinity, naming the first."""
    if all_finite(x):
        return
    host = to_host(x)
    bad = np.argwhere(~np.isfinite(host))
    where = ", ".join(map(str, bad[0].tolist()))
    what = f"the {len(bad)} numbers of {entry} that are not finite" if len(bad) > 1 else "it"
    raise ValueError(
        f"{name}: {entry}[{where}] is {host[tuple(bad[0])]}; remove or replace {what}."
    )


def checked_weights(sample_weight: Array, params: Parameters, n: int) -> Array:
    """Raise unless the weights of the examples are beside the parameters and fit.

    Return them in the dtype in which losses compute with them.
    """
    check_same_place([("params", params.flat), ("sample_weight", sample_weight)])
    if tuple(sample_weight.shape) != (n,):
        raise ValueError(
            f"sample_weight has shape {tuple(sample_weight.shape)}, expected ({n},): "
            "one weight per example."
        )
    host = to_host(sample_weight)
    if host.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must hold real numbers, not {host.dtype}.")
    if not (np.isfinite(host) & (host >= 0)).all():
        raise ValueError("sample_weight must hold finite numbers of at least 0.")
    if not (host > 0).any():
        raise ValueError(
            "sample_weight holds no weight above 0, so there is nothing to learn from."
        )
    with np.errstate(over="ignore"):  # of their sum it will be said
        return cast(params.xp, sample_weight, wide_dtype(params.xp, params.flat.dtype))


def check_rows_finite(name: str, array: Any, rows: Any) -> None:
    """Raise ValueError if a number on the host is not finite; `rows` are its rows' names."""
    if all_finite(array):
        return
    first = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
    where = ", ".join(map(str, [rows[first[0]], *first[1:]]))
    raise ValueError(f"{name}[{where}] is {array[first]}; remove or replace it.")
