"""Checks of the arguments of `fit` before any work: what makes no sense is refused by name."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from anyprop._checks import count, flag, kind, takes
from anyprop._numerics import is_autocast
from anyprop.compiled.on_torch import check_torch_backend
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.continuing import check_continues
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.callbacks.base import Callback


def check_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """Return the callbacks as a tuple; raise TypeError if there is anything else among them."""
    if isinstance(callbacks, (Callback, type)) or not isinstance(callbacks, Iterable):
        raise TypeError(
            "fit: callbacks must be a sequence, such as [anyprop.EarlyStopping()], not "
            f"{kind(callbacks)}; write brackets around a single one."
        )
    several: tuple[Any, ...] = tuple(callbacks)
    for callback in several:
        if not isinstance(callback, Callback):
            raise TypeError(
                "fit: each of callbacks must be an object of a class of anyprop.Callback, such as "
                f"anyprop.EarlyStopping(), not {kind(callback)}."
            )
        _check_methods(type(callback))
    for one, other in combinations(several, 2):
        if one is other:
            raise ValueError(
                f"fit: callbacks hold one {type(one).__name__} twice, which would be called twice for "
                "each event; leave one out, or make two of them."
            )
        places = [os.path.realpath(c._place) for c in (one, other) if c._place is not None]
        if len(places) == 2 and places[0] == places[1]:
            both = " and ".join(type(c).__name__ for c in (one, other))
            raise ValueError(
                f"fit: {both} of callbacks would both write {one._place}; name another for one of them."
            )
    return several


def _check_methods(of: type[Callback]) -> None:
    """Raise TypeError if a class of callbacks has methods of which the run would take no notice."""
    known = [name for name in dir(Callback) if name.startswith("on_")]
    for name in dir(of):
        if name.startswith("on_") and name not in known and callable(getattr(of, name)):
            raise TypeError(
                f"fit: {of.__name__}.{name} would never be called; a callback has {', '.join(known)}: "
                "write one of these, or begin its name otherwise."
            )
    keeps, restores = (
        getattr(of, name) is not getattr(Callback, name) for name in ("get_state", "set_state")
    )
    if keeps and not restores:
        raise TypeError(
            f"fit: {of.__name__} has get_state but no set_state, so a resumed run would lose what it "
            "returns; define both."
        )


def check_uncast(params: Parameters) -> None:
    """Raise ValueError if PyTorch casts what is computed with the parameters to another dtype."""
    if is_autocast(params.flat):
        raise ValueError(
            "fit: torch.autocast makes gradients of another dtype than the parameters; leave it, and "
            "make parameters of 16 bits by net.init(dtype='bfloat16') if these are wanted."
        )


def check_length(epochs: Any, steps: Any) -> tuple[int | None, int | None]:
    """Return the number of epochs or steps to train for; one of them is None."""
    if epochs is not None and steps is not None:
        raise ValueError("fit takes epochs or steps, not both.")
    if steps is None:
        return count("fit", "epochs", 1 if epochs is None else epochs), None
    return None, count("fit", "steps", steps)


def check_batches(batches: Any) -> None:
    """Raise TypeError unless `batches` is None, or can be called with three arguments."""
    if batches is not None and not takes(batches, 3):
        raise TypeError(
            "fit: batches must be a function (n, batch_size, epoch) that returns the row indices of "
            f"each batch, not {kind(batches)}."
        )


def check_start(state: Any, resume: Any, allow_changes: Any) -> None:
    """Raise unless the arguments that say where to begin are consistent."""
    if resume is not None and state is not None:
        raise ValueError("fit takes state or resume, not both.")
    if flag("fit", "allow_changes", allow_changes) and resume is None:
        raise ValueError("fit: allow_changes says how to resume; pass resume, or leave it out.")


def check_progress(progress: Any) -> None:
    """Raise ImportError if a bar is wanted and tqdm is missing."""
    if flag("fit", "progress", progress) and importlib.util.find_spec("tqdm") is None:
        raise ImportError('progress=True needs tqdm; run pip install "anyprop[cli]".')


def check_compile(compile: Any, torch_backend: Any, params: Parameters, *, several: bool) -> None:
    """Raise unless `compile` is True or False and `torch_backend` can compile this step."""
    compiled = flag("fit", "compile", compile)
    if torch_backend is None:
        return
    if not isinstance(torch_backend, str):
        raise TypeError(
            f"fit: torch_backend must be a name such as 'inductor', not {kind(torch_backend)}."
        )
    if not compiled:
        raise ValueError("fit takes a torch_backend or compile=False, not both.")
    check_torch_backend(torch_backend, params.xp)
    if several:
        raise ValueError(f"torch_backend={torch_backend!r} is for one process; leave it out.")


def check_state(
    optimizer: Optimizer, params: Parameters, state: OptimizerState | None
) -> OptimizerState:
    """Return the optimizer's state, or the given one after a check."""
    fresh = optimizer.init(params)
    if state is None:
        return fresh
    if not isinstance(state, OptimizerState):
        raise TypeError(
            f"state must be what optimizer.init() or fit returns, not {kind(state)}; leave it out "
            "to start afresh."
        )
    check_continues(state, params, fresh)
    return state
