"""Parameters from arrays named by another library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from anyprop._typing import Namespace
from anyprop.backend import check_floating, from_host
from anyprop.layers.base import Layer, layout_of
from anyprop.parameters import Parameters, filled, map_vectors


def parameters_of(
    net: Layer,
    arrays: Mapping[str, Any],
    xp: Namespace | str | None,
    device: Any,
    dtype: str | None,
) -> Parameters:
    """Lay out host arrays, of the shapes that a network's have, as its parameters."""
    found = {array.dtype for array in arrays.values()} or {np.dtype("float32")}
    given = str(np.result_type(*found))
    if dtype is not None:
        check_floating(dtype)
    elif len(found) > 1:
        names = ", ".join(sorted(map(str, found)))
        raise ValueError(
            f"the arrays differ in dtype: {names}; cast them alike, or pass dtype='float32'."
        )
    elif np.dtype(given).kind != "f":
        raise ValueError(
            f"the arrays are {given}, which parameters cannot be; pass dtype='float32'."
        )
    host = filled(layout_of(net), lambda entry: arrays[entry.name], given)
    return map_vectors(host, partial(from_host, xp=xp, dtype=dtype, device=device))
