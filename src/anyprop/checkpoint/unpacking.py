"""How the arrays and texts of a file become what was saved; all of it is verified on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import few, non_negative
from anyprop.checkpoint.header import Declared, strict_json
from anyprop.checkpoint.packing import COLUMNS, DTYPES, KIND, MAY_BE_NONE, views_of, whole_step
from anyprop.checkpoint.tensors import Reader
from anyprop.description import rebuild
from anyprop.history import EpochRecord, History
from anyprop.layout import Layout, Spec
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters

_WHOLE = ("epoch", "step")  # columns of whole numbers


def unpack(file: Reader) -> dict[str, Any]:
    """Make of an undamaged file what a `Checkpoint` has, on the host.

    Raises
    ------
    KeyError, TypeError, ValueError, RecursionError
        The file contradicts itself.
    """
    said = {key: strict_json(file.metadata[key]) for key in _KEYS}
    layout = _layout(said["layout"], file.arrays)
    net = None if said["network"] is None else rebuild(said["network"])
    if net is not None:
        _check_same(layout, Layout.of(net.specs()))
    kind = _dtype(said["dtype"])
    sizes = {trainable: layout.size(trainable=trainable) for trainable in (True, False)}
    flat, running = (np.empty(sizes[trainable], kind) for trainable in (True, False))
    params = Parameters(layout, flat, running if sizes[False] else None)
    views = views_of(params)
    for name in views:
        _check_dtype(name, file.arrays[name], kind)
    contents = _Contents(layout, kind, file.read(views))
    found = {
        "net": net,
        "params": params,
        "state": None if said["state"] is None else contents.state(said["state"], "state"),
        "step": None if said["step"] is None else whole_step(said["step"]),
        "history": None if said["history"] is None else contents.history(said["history"]),
        "optimizer": None if said["optimizer"] is None else _dict("optimizer", said["optimizer"]),
        "config": _dict("config", said["config"]),
        "run": None if said["run"] is None else _dict("run", contents.unpack(said["run"], "run")),
    }
    contents.check_all_used(views)
    return found


_KEYS = ("dtype", "layout", "network", "optimizer", "state", "step", "history", "run", "config")


class _Contents:
    """The arrays of a file, taken out by name."""

    def __init__(self, layout: Layout, kind: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._layout, self._kind, self._arrays = layout, kind, arrays
        self._used: set[str] = set()

    def unpack(self, value: Any, path: str) -> Any:
        """Undo `_Packed.pack`."""
        if isinstance(value, list):
            return [self.unpack(entry, f"{path}/{i}") for i, entry in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if value.get(KIND) == "state":
            return self.state(value, path)
        if value.get(KIND) == "parameters":
            running = self._vector(f"{path}/running", trainable=False) if value["running"] else None
            return Parameters(self._layout, self._vector(f"{path}/flat"), running)
        return {key: self.unpack(entry, f"{path}/{key}") for key, entry in value.items()}

    def state(self, value: Any, path: str) -> OptimizerState:
        """Make an optimizer's state."""
        if not isinstance(value, dict) or not isinstance(value.get("slots"), list):
            raise ValueError(f"{few([value])} does not describe the state of an optimizer.")
        slots = {
            str(name): Parameters(self._layout, self._vector(f"{path}/slots/{name}"))
            for name in value["slots"]
        }
        mask = None
        if value["decay_mask"]:
            mask = Parameters(self._layout, self._vector(f"{path}/decay_mask"))
        scale = non_negative("its state", "lr_scale", value["lr_scale"])
        return OptimizerState(whole_step(value["step"]), scale, slots, mask)

    def history(self, columns: Any) -> History:
        """Make a history of its two arrays."""
        needed = [name for name in COLUMNS if name not in MAY_BE_NONE]
        losses, epochs = (self._take(f"history/{name}") for name in ("losses", "epochs"))
        if (
            not isinstance(columns, list)
            or not set(needed) <= set(columns) <= set(COLUMNS)
            or len(set(columns)) < len(columns)
            or losses.ndim != 1
            or epochs.shape[1:] != (len(columns),)
            or not losses.dtype == epochs.dtype == np.float64
        ):
            raise ValueError(f"its history has columns {few([columns])} and unfit arrays.")
        records = []
        for row in epochs.tolist():
            values: dict[str, Any] = dict.fromkeys(MAY_BE_NONE) | dict(
                zip(columns, row, strict=True)
            )
            whole = {name: _whole_float(values[name]) for name in _WHOLE}
            records.append(EpochRecord(**(values | whole)))
        return History(losses.tolist(), records)

    def _vector(self, name: str, *, trainable: bool = True) -> NDArray[Any]:
        vector = self._take(name)
        size = self._layout.size(trainable=trainable)
        if vector.shape != (size,):
            raise ValueError(f"{few([name])} has shape {vector.shape}, expected {(size,)}.")
        _check_dtype(name, vector, self._kind)
        return vector

    def _take(self, name: str) -> NDArray[Any]:
        self._used.add(name)
        return self._arrays[name]

    def check_all_used(self, others: Iterable[str]) -> None:
        """Raise ValueError if there are arrays that nothing speaks of."""
        surplus = self._arrays.keys() - self._used - set(others)
        if surplus:
            raise ValueError(f"it holds arrays that nothing in it speaks of: {few(surplus)}.")


def _layout(listed: Any, arrays: Mapping[str, Declared]) -> Layout:
    """Make the layout that the file tells of, with the shapes of its arrays."""
    names = [name for name, trainable in listed]
    specs = {name: Spec(arrays[name].shape, None, bool(t)) for name, t in listed if name in arrays}
    if len(specs) < len(names):
        raise ValueError(f"it lists arrays twice or without holding them: {few(names)}.")
    return Layout.of(specs)


def _check_same(held: Layout, wanted: Layout) -> None:
    ours, theirs = ({e.name: e.shape for e in layout.entries} for layout in (held, wanted))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"its network has {few([name])} of shape {theirs.get(name)}, "
                f"but its arrays have {ours.get(name)}."
            )
    if held != wanted:
        raise ValueError("its arrays are listed in another order than its network has them.")


def _dtype(name: Any) -> np.dtype[Any]:
    if name not in DTYPES:
        raise ValueError(f"{few([name])} is no dtype of parameters.")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _check_dtype(name: str, array: Any, kind: np.dtype[Any]) -> None:
    if array.dtype != kind:
        raise ValueError(f"{few([name])} has dtype {array.dtype}, but the parameters {kind}.")


def _dict(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is {few([value])}, expected names and values.")
    return value


def _whole_float(value: float) -> int:
    if not value.is_integer() or value < 0:
        raise ValueError(f"its history counts {value} epochs or steps.")
    return int(value)
