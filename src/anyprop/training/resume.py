"""The state of a run in a file, and how to resume it.

The order of the examples and the noise of dropout are functions of (seed, epoch, batch), so the place is
two numbers: the epoch, and how many of its batches are done. With the parameters, the optimizer's state,
the history and what the callbacks remember, the run goes on as if it had never ended.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from anyprop._checks import few
from anyprop._files import as_path
from anyprop.backend import device_of, dtype_name
from anyprop.checkpoint import Checkpoint, load, save_checkpoint
from anyprop.description import describe, settings_of
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.parameters import Parameters
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run

PATTERN = "step-*.safetensors"


class ResumeError(ValueError):
    """A run cannot be resumed as it was asked to; the message says what prevents it."""


def settings_of_run(
    net: Layer,
    loss: Loss,
    optimizer: Optimizer,
    params: Parameters,
    callbacks: Sequence[Callback],
    **others: Any,
) -> dict[str, Any]:
    """Describe everything that a run's numbers depend on, except for the numbers of its data."""
    changing = {key: callback.settings() for key, callback in _keyed(callbacks)}
    return {
        "net": _described(net) or repr(net),
        "loss": settings_of(loss),
        "optimizer": settings_of(optimizer),
        "dtype": dtype_name(params.flat),
        **others,
        "callbacks": {key: settings for key, settings in changing.items() if settings},
    }


def checkpoint_name(step: int) -> str:
    """Name the checkpoint of a step."""
    return f"step-{step:08d}.safetensors"


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """List the checkpoints in a folder by their steps, the newest first."""
    files = (path for path in folder.glob(PATTERN) if path.is_file())
    numbered = ((path.stem.removeprefix("step-"), path) for path in files)
    return sorted(((int(n), path) for n, path in numbered if n.isdecimal()), reverse=True)


def save_run(path: str | PathLike[str], run: Run) -> None:
    """Write the state of a run, which must be at a point from which it can be resumed."""
    run.read_losses()
    place = {
        "settings": run.settings,
        "epoch": run.epoch,
        "batch": run.batch,
        "seconds": time.perf_counter() - run.began,
        "waited": run.waited,
        "lr": run.lr,
        "stopped": run.stopped,
        "callbacks": {key: callback.get_state() for key, callback in _keyed(run.callbacks)},
    }
    save_checkpoint(path, _contents(run)._replace(state=run.state, run=place))


def save_model(path: str | PathLike[str], run: Run) -> None:
    """Write a run's network without what only a resumed run needs."""
    run.read_losses()
    save_checkpoint(path, _contents(run))


def _described(net: Layer) -> dict[str, Any] | None:
    """Describe a network; None for layers of your own, which a file cannot describe."""
    try:
        return describe(net)
    except (TypeError, ValueError):
        return None


def _contents(run: Run) -> Checkpoint:
    net = run.net if _described(run.net) else None
    optimizer = run.settings.get("optimizer") or settings_of(run.optimizer)
    return Checkpoint(net, run.params, None, run.step, run.history, optimizer, {}, None)


def load_run(
    path: str | PathLike[str],
    params: Parameters,
    settings: Mapping[str, Any],
    callbacks: Sequence[Callback],
    *,
    allow_changes: bool,
) -> Checkpoint:
    """Read the state of a run from a checkpoint, or from the newest whole one of a folder of them.

    Its arrays get the backend, device and dtype of `params`. The settings, which are those of the run
    that is resumed, may differ from those in the file if changes are allowed.
    """
    found = _newest(as_path(path, "resume"), params)
    if found.run is None or found.state is None or found.history is None:
        raise ResumeError(
            f"{path} holds no training run, only a network; resume from a checkpoint."
        )
    if found.params.layout != params.layout:
        raise ResumeError(f"{path} is of another network: its parameters are {found.params}.")
    _check_place(path, found)
    _check_states(path, found, callbacks)
    differences = list(_differences(found.run["settings"], settings))
    if differences and not allow_changes:
        raise ResumeError(
            f"the run in {path} had other settings, and would no longer be the same run: "
            f"{'; '.join(differences)}."
        )
    return found


def _newest(path: Path, params: Parameters) -> Checkpoint:
    options = {"device": device_of(params.flat), "dtype": dtype_name(params.flat)}
    if not path.is_dir():
        return load(path, xp=params.xp, **options)
    files = [file for _, file in checkpoints_in(path)]
    for file in files:
        try:
            return load(file, xp=params.xp, **options)
        except ValueError as error:
            if file is files[-1]:
                raise ResumeError(f"{error} There is no checkpoint before it in {path}.") from None
            warnings.warn(f"{error} The one before it is used.", RuntimeWarning, stacklevel=5)
    raise ResumeError(f"there is no checkpoint in {path}.")


def _check_place(path: object, found: Checkpoint) -> None:
    run, history = found.run, found.history
    assert run is not None
    assert history is not None
    number = (int, float)
    kinds: dict[str, tuple[type, ...]] = {
        "settings": (dict,),
        "callbacks": (dict,),
        "epoch": (int,),
        "batch": (int,),
        "seconds": number,
        "waited": (*number, type(None)),
        "lr": number,
        "stopped": (bool,),
    }
    done = history.epochs[-1].step if history.epochs else 0
    steps = len(history.losses)
    place = {**run, "step": found.step}
    wanted = {"epoch": len(history.epochs), "batch": steps - done, "step": steps}
    wrong = [name for name, kind in kinds.items() if type(run.get(name)) not in kind]
    wrong = wrong or [name for name, value in wanted.items() if place[name] != value]
    if wrong:
        raise ResumeError(f"{path} contradicts itself about the state of its run: {few(wrong)}.")


def _check_states(path: object, found: Checkpoint, callbacks: Sequence[Callback]) -> None:
    """Check what callbacks will be given after `on_start`, in which some change files."""
    states = (found.run or {})["callbacks"]
    for key, callback in _keyed(callbacks):
        state = states.get(key) or {}
        # The check goes with `set_state`: a class derived from the library's may have its own of both.
        owner = next((c for c in type(callback).__mro__ if "set_state" in vars(c)), object)
        check = vars(owner).get("_check_state")
        try:
            if not isinstance(state, dict):
                raise TypeError(f"it is {few([state])}.")
            if state and check is not None:
                check(state, found)
        except (TypeError, ValueError) as error:
            raise ResumeError(f"{path} has no state of {few([key])}: {error}") from None


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Describe in which entries two nested dicts differ."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        before, now = (dict(enumerate(values)) for values in (before, now))
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now and not (before is None and now is False):  # an option younger than the file
        yield f"{name} was {few([before])} and is {few([now])}"


def _keyed(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Return each callback under a name that is the same in the resumed run."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield (kind if seen[kind] == 1 else f"{kind} {seen[kind]}"), callback


def set_states(callbacks: Sequence[Callback], states: Mapping[str, Any]) -> None:
    """Restore the states of callbacks."""
    for key, callback in _keyed(callbacks):
        if states.get(key):
            callback.set_state(states[key])
