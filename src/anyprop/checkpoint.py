"""Networks in files: arrays by name in the safetensors format, and what else is known as its metadata.

    format    "anyprop"
    version   "1"
    layout    JSON: the arrays' names in the order of the flat vector, and which are trainable
    network   JSON: the network as `anyprop.description` describes it, or null
    config    JSON: whatever the user wants to remember

Nothing in a file is executed when it is read. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Namespace
from anyprop.backend import from_host, to_host
from anyprop.description import describe, rebuild
from anyprop.layers.base import Layer
from anyprop.parameters import Layout, Parameters, Spec

_FORMAT, _VERSION = "anyprop", "1"


class Checkpoint(NamedTuple):
    """What a file holds.

    Parameters
    ----------
    net : Layer or None
        The network; None if the file was written without one.
    params : Parameters
        Its parameters, running statistics included.
    config : dict
        What was given as `config` when the file was written.
    """

    net: Layer | None
    params: Parameters
    config: dict[str, Any]


def save(
    path: str | PathLike[str],
    params: Parameters,
    *,
    net: Layer | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write parameters to a safetensors file.

    Parameters
    ----------
    path : str or path
        The file, by custom ``*.safetensors``. An older one is replaced at once when the new one is
        complete, so that no crash leaves half a file.
    params : Parameters
        What to write, from any backend and device.
    net : Layer, optional
        The network they belong to, so that `load` can make it again. It must consist of the
        library's own layers.
    config : dict, optional
        What else to remember, of the kinds that JSON knows.

    Raises
    ------
    ImportError
        safetensors is not installed.
    TypeError
        `params` is something else, the network has layers of your own, or `config` holds what
        JSON does not know.
    ValueError
        The parameters are not those of the network.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import anyprop as ap, tempfile
    >>> net = ap.MLP([4, 3, 2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/net.safetensors", net.init(seed=8), net=net, config={"lr": 0.1})
    ...     print(load(f"{folder}/net.safetensors"))
    Checkpoint(net=Sequential(Affine(d=4, m=3, bias=True), ReLU(), Affine(d=3, m=2, bias=True)),
               params=Parameters(23 numbers: 0.W (4, 3), 0.b (3,), 2.W (3, 2), 2.b (2,)),
               config={'lr': 0.1})
    """
    safetensors = _safetensors()
    if not isinstance(params, Parameters):
        raise TypeError(f"params must be what net.init() returns, not {type(params).__name__}.")
    if params.running is None and params.layout.size(trainable=False):
        raise ValueError("params lack their running statistics; gradients cannot be saved.")
    if net is not None and Layout.of(net.specs()) != params.layout:
        raise ValueError(f"params are not those of net: they are {params}.")
    try:
        metadata = {
            "format": _FORMAT,
            "version": _VERSION,
            "layout": json.dumps([[e.name, e.trainable] for e in params.layout.entries]),
            "network": json.dumps(None if net is None else describe(net)),
            "config": json.dumps(dict(config or {}), allow_nan=False),
        }
    except ValueError as error:
        raise TypeError(f"config holds what JSON does not know: {error}.") from None
    _write(Path(path), safetensors.save(_host_arrays(params), metadata=metadata))


def load(
    path: str | PathLike[str],
    *,
    xp: Namespace | str | None = None,
    device: Any = None,
    dtype: str | None = None,
) -> Checkpoint:
    """Read a file that `save` wrote.

    Parameters
    ----------
    path : str or path
        The file.
    xp : namespace or str, optional
        Backend of the parameters; NumPy by default.
    device : str or device, optional
        Device of the parameters; the backend's default by default.
    dtype : str, optional
        Dtype of the parameters; as written by default.

    Returns
    -------
    Checkpoint
        ``(net, params, config)``.

    Raises
    ------
    ImportError
        safetensors is not installed.
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, of another format, or contradicts itself.
    """
    safetensors = _safetensors()
    path = Path(path)
    content = path.read_bytes()
    try:
        arrays = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except Exception as error:
        raise ValueError(f"{path} is no safetensors file, or is truncated: {error}.") from None
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} was not written by anyprop.save.")
    if metadata.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {metadata.get('version')!r} of the format, but this anyprop reads "
            f"version {_VERSION}; install a newer anyprop."
        )
    try:
        described = json.loads(metadata["network"])
        config = json.loads(metadata["config"])
        layout = _layout(json.loads(metadata["layout"]), arrays)
        net = None if described is None else rebuild(described)
        if net is not None:
            _check_same(layout, Layout.of(net.specs()))
        flat, running = (_vector(layout, arrays, trainable) for trainable in (True, False))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None

    def move(host: Any) -> Any:
        return from_host(host, xp, dtype=dtype, device=device)

    return Checkpoint(
        net, Parameters(layout, move(flat), move(running) if running.size else None), config
    )


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError:
        raise ImportError(
            'save and load need safetensors; run pip install "anyprop[cli]".'
        ) from None


def _host_arrays(params: Parameters) -> dict[str, Any]:
    """Give each array as safetensors needs it: it writes wrong numbers for any other memory order."""
    vectors = {True: np.asarray(to_host(params.flat), order="C")}
    if params.running is not None:
        vectors[False] = np.asarray(to_host(params.running), order="C")
    return {
        e.name: vectors[e.trainable][e.start : e.stop].reshape(e.shape)
        for e in params.layout.entries
    }


def _layout(names: Any, arrays: Mapping[str, Any]) -> Layout:
    """Make the layout that the file tells of, with the shapes of its arrays."""
    listed = {name: bool(trainable) for name, trainable in names}
    if listed.keys() != arrays.keys():
        odd = sorted(listed.keys() ^ arrays.keys())
        raise ValueError(f"it lists other arrays than it holds ({', '.join(odd)}).")
    return Layout.of({name: Spec(arrays[name].shape, None, t) for name, t in listed.items()})


def _check_same(held: Layout, wanted: Layout) -> None:
    ours, theirs = ({e.name: e.shape for e in layout.entries} for layout in (held, wanted))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"its network has {name} of shape {theirs.get(name)}, "
                f"but its arrays have {ours.get(name)}."
            )
    if held != wanted:
        raise ValueError("its arrays are listed in another order than its network has them.")


def _vector(layout: Layout, arrays: Mapping[str, Any], trainable: bool) -> Any:
    """Join the trainable (or the running) arrays into one vector."""
    dtypes = {str(array.dtype) for array in arrays.values()}
    if len(dtypes) > 1:
        raise ValueError(f"its arrays differ in dtype: {', '.join(sorted(dtypes))}.")
    pieces = [np.ravel(arrays[e.name]) for e in layout.entries if e.trainable == trainable]
    return np.concatenate(pieces or [np.zeros(0, dtype=dtypes.pop() if dtypes else "float32")])


def _write(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for a part of it."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    with contextlib.suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
