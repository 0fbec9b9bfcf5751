"""Networks and training runs in files: arrays by name in the safetensors format, the rest as metadata.

    format      "anyprop"
    version     "1"
    checksum    over the whole file, see `anyprop.checkpoint.tensors`
    and         what `anyprop.checkpoint.packing` lists

A file is verified before anything is made of it: checksum, version, names, shapes, dtypes. Nothing in
it is executed, and nothing is imported by a name that it holds. Numbers that are not finite are kept:
a file gives back what was saved, and `anyprop inspect` counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

from anyprop._checks import few, kind
from anyprop._typing import Namespace
from anyprop._usage import usage
from anyprop.backend import check_floating, from_host
from anyprop.checkpoint.packing import pack
from anyprop.checkpoint.tensors import Reader, write
from anyprop.checkpoint.unpacking import unpack
from anyprop.description import settings_of
from anyprop.history import History
from anyprop.layers.base import Layer
from anyprop.optimizers.base import Optimizer, check_optimizer
from anyprop.optimizers.state import OptimizerState, check_kept
from anyprop.parameters import Parameters, map_vectors

_FORMAT, _VERSION = "anyprop", "1"


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


@usage("save(path, params, net=net)")
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
        `params` is something else, the state is of another dtype, the network has layers of your own, or
        `config` holds what JSON does not know.
    ValueError
        The parameters are not those of the network, the state is not theirs or of another optimizer,
        step is negative, or what is to be kept beside the arrays takes more than 1 MiB.
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
    if isinstance(optimizer, Optimizer) and state is not None:
        check_kept(optimizer, state.slots, state.decay_mask)
    settings = None if optimizer is None else settings_of(optimizer)
    if step is None and state is not None:
        step = state.step
    save_checkpoint(
        path,
        Checkpoint(net, params, state, step, history, settings, dict(config or {})),
    )


def save_checkpoint(path: str | PathLike[str], checkpoint: Checkpoint) -> None:
    """Write what `load` gives back, see `save`."""
    arrays, texts = pack(**checkpoint._asdict())
    write(path, arrays, {"format": _FORMAT, "version": _VERSION, **texts})


@usage("load(path)")
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
    TypeError
        An argument is of another kind.
    ValueError
        The file is truncated, damaged, of another format or version, or contradicts itself; the
        message says what differs. Nothing has been made of it then.
    OverflowError
        A number does not fit in `dtype`; the message names the file.

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
            found = Checkpoint(**unpack(file))
        except KeyError as error:
            raise ValueError(f"{file.path} is damaged: it lacks {error}.") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{file.path} is damaged: {error}") from None

    def move(vector: Any) -> Any:
        try:
            return from_host(vector, xp, dtype=dtype, device=device)
        except OverflowError as error:
            raise OverflowError(f"{file.path}: {error}") from None

    moved: Checkpoint = _moved(found, move)
    return moved


def is_ours(file: Reader) -> bool:
    """Return whether a file says that `save` wrote it."""
    return file.metadata.get("format") == _FORMAT


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
