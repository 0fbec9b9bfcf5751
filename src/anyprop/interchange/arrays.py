"""Parameters from arrays named by another library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from anyprop._checks import check_shape
from anyprop._typing import Namespace
from anyprop.backend import from_host
from anyprop.layers.base import Layer, layout_of
from anyprop.layout import Entry
from anyprop.parameters import Parameters, filled, map_vectors


def parameters_of(
    net: Layer,
    arrays: Mapping[str, Any],
    xp: Namespace | str | None,
    device: Any,
    dtype: str | None,
) -> Parameters:
    """Lay out host arrays as the parameters of a network."""
    dtypes = sorted({str(array.dtype) for array in arrays.values()})
    if len(dtypes) > 1:
        raise ValueError(f"the arrays differ in dtype: {', '.join(dtypes)}.")

    def checked(entry: Entry) -> Any:
        array = arrays[entry.name]
        check_shape(f"what belongs to {entry.name}", array, entry.shape)
        return array

    host = filled(layout_of(net), checked, dtypes[0] if dtypes else "float32")
    return map_vectors(host, partial(from_host, xp=xp, dtype=dtype, device=device))
