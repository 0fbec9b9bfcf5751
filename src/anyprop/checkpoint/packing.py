"""How what a checkpoint has becomes arrays by name and plain texts.

    dtype       JSON: the dtype of the parameters and of the state's vectors
    layout      JSON: the parameters' names in the order of the flat vector, and which are trainable
    network     JSON: the network as `anyprop.description` describes it, or null
    optimizer   JSON: the optimizer's settings, or null
    state       JSON: the optimizer's state, its vectors as arrays state/slots/NAME; or null
    step        JSON: updates done, or null
    history     JSON: the columns of the array history/epochs, beside history/losses; or null
    run         JSON: where `fit` stood and what its callbacks knew, their arrays under run/; or null
    config      JSON: whatever the user wants to remember

Values that hold arrays, as an optimizer's state does, leave plain ones behind that say so.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import few, whole
from anyprop.backend import dtype_name, read_number, to_host
from anyprop.description import describe
from anyprop.history import EpochRecord, History
from anyprop.layers.base import Layer
from anyprop.network import check_params
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, check_kind

DTYPES = ("float16", "float32", "float64")  # of parameters, in the machine's byte order
COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]
MAY_BE_NONE = ("validation_loss", "validation_accuracy", "waited")
KIND = "$"  # marks what stands for arrays among plain values


def pack(
    *,
    net: Layer | None,
    params: Parameters,
    state: OptimizerState | None,
    step: Any,
    history: History | None,
    optimizer: dict[str, Any] | None,
    config: dict[str, Any],
    run: dict[str, Any] | None,
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Take apart what a `Checkpoint` has: arrays by name, and texts."""
    check_kind(params)
    if params.running is None and params.layout.size(trainable=False):
        raise ValueError("params lack their running statistics; gradients cannot be saved.")
    if net is not None:
        check_params(net, params)
    check_dtypes(params)
    packed = _Packed(params)
    metadata = {
        "dtype": dtype_name(params.flat),
        "layout": [[e.name, e.trainable] for e in params.layout.entries],
        "network": None if net is None else describe(net),
        "optimizer": optimizer,
        "state": None if state is None else packed.pack(state, "state"),
        "step": None if step is None else whole_step(step),
        "history": None if history is None else packed.pack_history(history),
        "run": None if run is None else packed.pack(run, "run"),
        "config": config,
    }
    texts = {name: _json(name, value) for name, value in metadata.items()}
    arrays = views_of(params)
    for name in arrays:
        if name in packed.arrays or name.startswith("__"):
            raise ValueError(f"a parameter cannot be called {name!r} in a file; rename it.")
    return arrays | packed.arrays, texts


def check_dtypes(params: Parameters) -> None:
    """Raise TypeError unless a file can hold parameters: of one dtype, which NumPy has."""
    for array in (params.flat, *([] if params.running is None else [params.running])):
        if dtype_name(array) not in DTYPES or dtype_name(array) != dtype_name(params.flat):
            raise TypeError(
                f"params are {dtype_name(array)}, but a file keeps parameters of one dtype out of "
                f"{', '.join(DTYPES)}; cast them to float32."
            )


def views_of(params: Parameters) -> dict[str, NDArray[Any]]:
    """Return every array of parameters by its name, on the host, as views of their vectors."""
    vectors = {True: np.asarray(to_host(params.flat))}
    if params.running is not None:
        vectors[False] = np.asarray(to_host(params.running))
    return {
        e.name: vectors[e.trainable][e.start : e.stop].reshape(e.shape)
        for e in params.layout.entries
    }


def _json(name: str, value: Any) -> str:
    if not _has_names(value):  # JSON would write the key 1 as "1", which may be there too
        raise TypeError(f"{name} has a key that is no str, which JSON does not know.")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} holds what JSON does not know: {error}.") from None


def _has_names(value: Any) -> bool:
    """Return whether all keys within a plain value are of the type str."""
    # Level by level: what contains itself, or is nested deeply, is for JSON to refuse.
    level, seen = [value], set()
    while level:
        level = [v for v in level if isinstance(v, (dict, list, tuple)) and id(v) not in seen]
        seen |= set(map(id, level))
        if any(not isinstance(key, str) for v in level if isinstance(v, dict) for key in v):
            return False
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return True


class _Packed:
    """Plain values that stand for others with arrays in them, and those arrays by name."""

    def __init__(self, params: Parameters) -> None:
        self.layout, self.dtype = params.layout, dtype_name(params.flat)
        self.arrays: dict[str, NDArray[Any]] = {}

    def pack(self, value: Any, path: str) -> Any:
        """Put plain values in place of arrays, and the arrays under `path`."""
        if isinstance(value, Parameters):
            self._vector(value, f"{path}/flat")
            if value.running is not None:
                self._put(value.running, f"{path}/running")
            return {KIND: "parameters", "running": value.running is not None}
        if isinstance(value, OptimizerState):
            for name, slot in value.slots.items():
                self._vector(slot, f"{path}/slots/{name}")
            if value.decay_mask is not None:
                self._vector(value.decay_mask, f"{path}/decay_mask")
            return {
                KIND: "state",
                "step": whole_step(value.step),
                "lr_scale": read_number(value.lr_scale),
                "slots": list(value.slots),
                "decay_mask": value.decay_mask is not None,
            }
        if isinstance(value, dict):
            if KIND in value:
                raise ValueError(
                    f"{path} has the key {KIND!r}, which marks arrays in a file; rename it."
                )
            return {key: self.pack(entry, f"{path}/{key}") for key, entry in value.items()}
        if isinstance(value, list):
            return [self.pack(entry, f"{path}/{i}") for i, entry in enumerate(value)]
        return value

    def _vector(self, value: Any, path: str) -> None:
        if not isinstance(value, Parameters) or value.layout != self.layout:
            raise ValueError(f"the state is not that of params: {path} is {few([value])}.")
        self._put(value.flat, path)

    def _put(self, vector: Any, path: str) -> None:
        if path in self.arrays:
            raise ValueError(
                f"two arrays would be called {path} in a file, one of them by a key with a slash in it; "
                "rename it."
            )
        if dtype_name(vector) != self.dtype:
            raise TypeError(
                f"{path} is {dtype_name(vector)}, but the parameters are {self.dtype}; cast it to "
                f"{self.dtype}."
            )
        self.arrays[path] = np.asarray(to_host(vector))

    def pack_history(self, history: History) -> list[str]:
        """Put the history into two arrays and return the names of its columns."""
        rows = [dataclasses.asdict(record) for record in history.epochs]
        columns = [
            name
            for name in COLUMNS
            if name not in MAY_BE_NONE or any(row[name] is not None for row in rows)
        ]
        table = [[row[name] for name in columns] for row in rows]
        self.arrays["history/losses"] = np.asarray(history.losses, dtype="float64")
        # None becomes NaN.
        self.arrays["history/epochs"] = np.asarray(table, "float64").reshape(-1, len(columns))
        return columns


def whole_step(value: Any) -> int:
    """Return a step as an int; raise ValueError if it is no whole number of at least 0."""
    try:
        return whole("step", to_host(value) if hasattr(value, "dtype") else value)
    except ValueError:
        raise ValueError(
            f"step must be a whole number of at least 0, not {few([value])}."
        ) from None
