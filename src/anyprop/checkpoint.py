"""Networks and training runs in files: arrays by name in the safetensors format, the rest as metadata.

    format      "anyprop"
    version     "1"
    checksum    over the whole file, see `anyprop._safetensors`
    dtype       JSON: the dtype of the parameters and of the state's vectors
    layout      JSON: the parameters' names in the order of the flat vector, and which are trainable
    network     JSON: the network as `anyprop.description` describes it, or null
    optimizer   JSON: the optimizer's settings, or null
    state       JSON: the optimizer's state, its vectors as arrays state/slots/NAME; or null
    step        JSON: updates done, or null
    history     JSON: the columns of the array history/epochs, beside history/losses; or null
    run         JSON: where `fit` stood and what its callbacks knew, their arrays under run/; or null
    config      JSON: whatever the user wants to remember

A file is verified before anything is made of it: checksum, version, names, shapes, dtypes. Nothing in
it is executed, and nothing is imported by a name that it holds. Numbers that are not finite are kept:
a file gives back what was saved, and `anyprop inspect` counts them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import few, kind, non_negative, whole
from anyprop._safetensors import Declared, Reader, strict_json, write
from anyprop._typing import Namespace
from anyprop.backend import check_floating, dtype_name, from_host, to_host
from anyprop.description import describe, rebuild, settings_of
from anyprop.history import EpochRecord, History
from anyprop.layers.base import Layer
from anyprop.network import check_params
from anyprop.optimizers.base import Optimizer, check_optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Layout, Parameters, Spec, check_kind, map_vectors

_DTYPES = ("float16", "float32", "float64")  # of parameters, in the machine's byte order
_FORMAT, _VERSION = "anyprop", "1"
_COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]
_WHOLE = ("epoch", "step")  # columns of whole numbers
_MAY_BE_NONE = ("validation_loss", "validation_accuracy")
_KIND = "$"  # marks what stands for arrays among plain values


class Checkpoint(NamedTuple):
    """What a file holds.

    Parameters
    ----------
    net : Layer or None
        The network; None if the file was written without one.
    params : Parameters
        Its parameters, running statistics included.
    state : OptimizerState or None
        The optimizer's state that belongs to them.
    step : int or None
        Updates done.
    history : History or None
        Losses by step and records by epoch.
    optimizer : dict or None
        The optimizer's settings, with its class's name under ``"kind"``.
    config : dict
        What was given as `config` when the file was written.
    run : dict or None
        What `fit` needs to resume the run that wrote the file.
    """

    net: Layer | None
    params: Parameters
    state: OptimizerState | None = None
    step: int | None = None
    history: History | None = None
    optimizer: dict[str, Any] | None = None
    config: dict[str, Any] = {}  # noqa: RUF012 (nothing writes into it)
    run: dict[str, Any] | None = None


def save(
    path: str | PathLike[str],
    params: Parameters,
    *,
    net: Layer | None = None,
    optimizer: Optimizer | None = None,
    state: OptimizerState | None = None,
    step: int | None = None,
    history: History | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write parameters, and what belongs to them, to a safetensors file.

    Parameters
    ----------
    path : str or path
        The file, by custom ``*.safetensors``. An older one is replaced at once when the new one is
        complete, so that neither a crash nor a full disk leaves half a file.
    params : Parameters
        What to write, from any backend and device.
    net : Layer, optional
        The network they belong to, so that `load` can make it again. It must consist of the
        library's own layers.
    optimizer : Optimizer, optional
        What trained them; its settings are kept as a description.
    state : OptimizerState, optional
        Its state, to go on from.
    step : int >= 0, optional
        Updates done; those that `state` counts by default.
    history : History, optional
        Losses by step and records by epoch.
    config : dict, optional
        What else to remember, of the kinds that JSON knows.

    Raises
    ------
    TypeError
        `params` is something else, the network has layers of your own, or `config` holds what
        JSON does not know.
    ValueError
        The parameters are not those of the network, the state is not theirs, step is negative, or what
        is to be kept beside the arrays takes more than 1 MiB.
    OSError
        The file cannot be written; an older one is still there, whole.

    Examples
    --------
    >>> import anyprop as ap, tempfile
    >>> net, opt = ap.MLP([4, 3, 2]), ap.RMSProp(lr=0.1)
    >>> params = net.init(seed=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/net.safetensors", params, net=net, state=opt.init(params), step=0)
    ...     found = load(f"{folder}/net.safetensors")
    >>> found.net == net, found.params, found.step, list(found.state.slots)
    (True, Parameters(23 numbers: 0.W (4, 3), 0.b (3,), 2.W (3, 2), 2.b (2,)), 0, ['h'])
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    for name, value, wanted in (
        ("state", state, OptimizerState),
        ("history", history, History),
        ("config", config, Mapping),
    ):
        if value is not None and not isinstance(value, wanted):
            raise TypeError(f"{name} must be of the type {wanted.__name__}, not {kind(value)}.")
    settings = None if optimizer is None else settings_of(optimizer)
    if step is None and state is not None:
        step = _whole(state.step)
    save_checkpoint(
        path,
        Checkpoint(net, params, state, step, history, settings, dict(config or {})),
    )


def save_checkpoint(path: str | PathLike[str], checkpoint: Checkpoint) -> None:
    """Write what `load` gives back; `save` tells of it."""
    net, params, state, step, history, optimizer, config, run = checkpoint
    check_kind(params)
    if params.running is None and params.layout.size(trainable=False):
        raise ValueError("params lack their running statistics; gradients cannot be saved.")
    if net is not None:
        check_params(net, params)
    check_dtypes(params)
    packed = _Packed(params.layout)
    metadata = {
        "dtype": dtype_name(params.flat),
        "layout": [[e.name, e.trainable] for e in params.layout.entries],
        "network": None if net is None else describe(net),
        "optimizer": optimizer,
        "state": None if state is None else packed.pack(state, "state"),
        "step": None if step is None else _whole(step),
        "history": None if history is None else packed.pack_history(history),
        "run": None if run is None else packed.pack(run, "run"),
        "config": config,
    }
    texts = {name: _json(name, value) for name, value in metadata.items()}
    arrays = _views(params)
    for name in arrays:
        if name in packed.arrays or name.startswith("__"):
            raise ValueError(f"a parameter cannot be called {name!r} in a file; rename it.")
    write(path, arrays | packed.arrays, {"format": _FORMAT, "version": _VERSION, **texts})


def check_dtypes(params: Parameters) -> None:
    """Raise TypeError unless a file can hold parameters: of one dtype, which NumPy has."""
    for array in (params.flat, *([] if params.running is None else [params.running])):
        if dtype_name(array) not in _DTYPES or dtype_name(array) != dtype_name(params.flat):
            raise TypeError(
                f"params are {dtype_name(array)}, but a file keeps parameters of one dtype out of "
                f"{', '.join(_DTYPES)}; cast them to float32."
            )


def load(
    path: str | PathLike[str],
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> Checkpoint:
    """Read a file that `save` or `fit` wrote.

    Parameters
    ----------
    path : str or path
        The file.
    xp : namespace or str, optional
        Backend of the parameters and the state; NumPy by default.
    device : str or device, optional
        Their device; the backend's default by default.
    dtype : str, optional
        Their dtype; as written by default.

    Returns
    -------
    Checkpoint
        What the file holds; what it was written without is None.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, damaged, of another format or version, or contradicts itself; the
        message says what differs. Nothing has been made of it then.

    Notes
    -----
    Memory: no more than the file has bytes, and a few megabytes for its header, until arrays are moved
    to another backend or dtype.
    """
    if dtype is not None:
        check_floating(dtype)
    with Reader(path) as file:
        metadata = file.metadata
        if not is_ours(file):
            raise ValueError(
                f"{file.path} was not written by anyprop.save; arrays of other programs are read by "
                "anyprop.interchange.from_torch."
            )
        file.check()
        if metadata.get("version") != _VERSION:
            raise ValueError(
                f"{file.path} has version {few([metadata.get('version')])} of the format, but this "
                f"anyprop reads version {_VERSION}; install a newer anyprop."
            )
        try:
            found = _unpacked(file)
        except KeyError as error:
            raise ValueError(f"{file.path} is damaged: it lacks {error}.") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{file.path} is damaged: {error}") from None

    def move(vector: Any) -> Any:
        return from_host(vector, xp, dtype=dtype, device=device)

    moved: Checkpoint = _moved(found, move)
    return moved


def is_ours(file: Reader) -> bool:
    """Tell whether a file says that `save` wrote it."""
    return file.metadata.get("format") == _FORMAT


# Writing


def _views(params: Parameters) -> dict[str, NDArray[Any]]:
    """Name every array of parameters on the host, as views of their vectors."""
    vectors = {True: np.asarray(to_host(params.flat))}
    if params.running is not None:
        vectors[False] = np.asarray(to_host(params.running))
    return {
        e.name: vectors[e.trainable][e.start : e.stop].reshape(e.shape)
        for e in params.layout.entries
    }


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} holds what JSON does not know: {error}.") from None


class _Packed:
    """Plain values that stand for others with arrays in them, and those arrays by name."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.arrays: dict[str, NDArray[Any]] = {}

    def pack(self, value: Any, path: str) -> Any:
        """Put plain values in place of arrays, and the arrays under `path`."""
        if isinstance(value, Parameters):
            self._vector(value, f"{path}/flat")
            if value.running is not None:
                self.arrays[f"{path}/running"] = np.asarray(to_host(value.running))
            return {_KIND: "parameters", "running": value.running is not None}
        if isinstance(value, OptimizerState):
            for name, slot in value.slots.items():
                self._vector(slot, f"{path}/slots/{name}")
            if value.decay_mask is not None:
                self._vector(value.decay_mask, f"{path}/decay_mask")
            return {
                _KIND: "state",
                "step": _whole(value.step),
                "lr_scale": float(_host(value.lr_scale)),
                "slots": list(value.slots),
                "decay_mask": value.decay_mask is not None,
            }
        if isinstance(value, dict):
            return {key: self.pack(entry, f"{path}/{key}") for key, entry in value.items()}
        if isinstance(value, list):
            return [self.pack(entry, f"{path}/{i}") for i, entry in enumerate(value)]
        return value

    def _vector(self, value: Any, path: str) -> None:
        if not isinstance(value, Parameters) or value.layout != self.layout:
            raise ValueError(f"the state is not that of params: {path} is {few([value])}.")
        self.arrays[path] = np.asarray(to_host(value.flat))

    def pack_history(self, history: History) -> list[str]:
        """Put the history into two arrays; give the names of its columns."""
        rows = [dataclasses.asdict(record) for record in history.epochs]
        columns = [
            name
            for name in _COLUMNS
            if name not in _MAY_BE_NONE or any(row[name] is not None for row in rows)
        ]
        table = [[row[name] for name in columns] for row in rows]
        self.arrays["history/losses"] = np.asarray(history.losses, dtype="float64")
        # None becomes NaN.
        self.arrays["history/epochs"] = np.asarray(table, "float64").reshape(-1, len(columns))
        return columns


def _host(number: Any) -> Any:
    return to_host(number) if hasattr(number, "dtype") else number


# Reading


def _unpacked(file: Reader) -> Checkpoint:
    """Make of a verified file what it holds, on the host."""
    said = {key: strict_json(file.metadata[key]) for key in _KEYS}
    layout = _layout(said["layout"], file.arrays)
    net = None if said["network"] is None else rebuild(said["network"])
    if net is not None:
        _check_same(layout, Layout.of(net.specs()))
    kind = _dtype(said["dtype"])
    sizes = {trainable: layout.size(trainable=trainable) for trainable in (True, False)}
    flat, running = (np.empty(sizes[trainable], kind) for trainable in (True, False))
    params = Parameters(layout, flat, running if sizes[False] else None)
    views = _views(params)
    for name in views:
        _check_dtype(name, file.arrays[name], kind)
    contents = _Contents(layout, kind, file.read(views))
    checkpoint = Checkpoint(
        net,
        params,
        None if said["state"] is None else contents.state(said["state"], "state"),
        None if said["step"] is None else _whole(said["step"]),
        None if said["history"] is None else contents.history(said["history"]),
        None if said["optimizer"] is None else _dict("optimizer", said["optimizer"]),
        _dict("config", said["config"]),
        None if said["run"] is None else _dict("run", contents.unpack(said["run"], "run")),
    )
    contents.check_all_used(views)
    return checkpoint


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
        if value.get(_KIND) == "state":
            return self.state(value, path)
        if value.get(_KIND) == "parameters":
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
        return OptimizerState(_whole(value["step"]), scale, slots, mask)

    def history(self, columns: Any) -> History:
        """Make a history of its two arrays."""
        needed = [name for name in _COLUMNS if name not in _MAY_BE_NONE]
        losses, epochs = (self._take(f"history/{name}") for name in ("losses", "epochs"))
        if (
            not isinstance(columns, list)
            or not set(needed) <= set(columns) <= set(_COLUMNS)
            or len(set(columns)) < len(columns)
            or losses.ndim != 1
            or epochs.shape[1:] != (len(columns),)
            or not losses.dtype == epochs.dtype == np.float64
        ):
            raise ValueError(f"its history has columns {few([columns])} and unfit arrays.")
        records = []
        for row in epochs.tolist():
            values: dict[str, Any] = dict.fromkeys(_MAY_BE_NONE) | dict(
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
    if name not in _DTYPES:
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


def _whole(value: Any) -> int:
    try:
        return whole("step", _host(value))
    except ValueError:
        raise ValueError(
            f"step must be a whole number of at least 0, not {few([value])}."
        ) from None


def _whole_float(value: float) -> int:
    if not value.is_integer() or value < 0:
        raise ValueError(f"its history counts {value} epochs or steps.")
    return int(value)


def _moved(value: Any, move: Callable[[Any], Any]) -> Any:
    """Move all vectors in a tree of what checkpoints hold."""
    if isinstance(value, Parameters):
        return map_vectors(value, move)
    if isinstance(value, dict):
        return {key: _moved(entry, move) for key, entry in value.items()}
    if isinstance(value, list):
        return [_moved(entry, move) for entry in value]
    if isinstance(value, (Checkpoint, OptimizerState)):
        return type(value)(*(_moved(entry, move) for entry in value))
    return value
