"""All contestants, in the order of the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

from benchmarks.contestants import floors, jax_jit, numpy_book, ours, pytorch, scikit
from benchmarks.runner import Runner
from benchmarks.workloads import EPOCH, STEP, TRAINING, UPDATE, Problem

Maker: TypeAlias = Callable[[Problem, str], Runner]
"""``maker(problem, device)`` prepares a contestant."""

OURS, OTHER, FLOOR = "anyprop", "other", "floor"


class Contestant(NamedTuple):
    """A way to do the work of a workload.

    Parameters
    ----------
    name : str
        Its name on the command line.
    label : str
        Its name in tables and charts.
    makers : mapping of str to callable
        The kinds of workload that it does.
    needs : tuple of str
        Packages that must be installed.
    without : tuple of str
        Packages that are hidden from it, as if they were not installed.
    devices : tuple of str
        Where it can compute: ``"cpu"``, ``"cuda"``.
    side : {"anyprop", "other", "floor"}
        Whose it is.
    optimizer : {"rmsprop", "adam"}
        Its update; those of different optimizers are compared with different references.
    """

    name: str
    label: str
    makers: Mapping[str, Maker]
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")
    side: str = OTHER
    optimizer: str = "rmsprop"


def _ours(
    backend: str, devices: tuple[str, ...], *, compiled: bool | str = False, extra: str = ""
) -> Contestant:
    how = "compiled" if compiled else "eager"
    makers: dict[str, Maker] = {
        STEP: partial(ours.step, backend=backend, compiled=compiled),
        UPDATE: partial(ours.update, backend=backend, compiled=compiled),
        EPOCH: partial(ours.epoch, backend=backend, compiled=compiled),
        TRAINING: partial(ours.training, backend=backend, compiled=compiled),
    }
    return Contestant(
        f"anyprop-{backend}" + "-compiled" * bool(compiled) + f"-{extra}" * bool(extra),
        f"anyprop {how}, {_TITLES[backend]}" + f" and {extra}" * bool(extra),
        makers,
        needs=(backend, extra) if extra else (backend,),
        without=tuple(package for package in ("numba",) if package != extra),
        devices=devices,
        side=OURS,
    )


def _our_loop(backend: str, devices: tuple[str, ...], needs: tuple[str, ...]) -> Contestant:
    return Contestant(
        f"anyprop-{backend}-loop",
        f"anyprop compiled, {_TITLES[backend]}, many steps in a call",
        {STEP: partial(ours.steps, backend=backend)},
        needs=needs,
        devices=devices,
        side=OURS,
    )


_TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "cupy": "CuPy"}
_CPU, _CUDA, _BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        _ours("numpy", _CPU),
        _ours("numpy", _CPU, compiled=True),
        _ours("numpy", _CPU, compiled=True, extra="numba"),
        _our_loop("numpy", _CPU, ("numba",)),
        _ours("cupy", _CUDA),
        _ours("cupy", _CUDA, compiled=True),
        _our_loop("cupy", _CUDA, ("cupy",)),
        _ours("jax", _BOTH),
        _ours("jax", _BOTH, compiled=True),
        _our_loop("jax", _BOTH, ("jax",)),
        _ours("torch", _BOTH),
        _ours("torch", _BOTH, compiled="inductor"),
        Contestant(
            "numpy-book",
            "plain NumPy, as the book writes it",
            {STEP: numpy_book.step, UPDATE: numpy_book.update, EPOCH: numpy_book.epoch},
            devices=_CPU,
        ),
        Contestant(
            "sklearn",
            "scikit-learn MLPClassifier (Adam)",
            {STEP: scikit.step, EPOCH: scikit.epoch},
            needs=("sklearn",),
            devices=_CPU,
            optimizer="adam",
        ),
        Contestant(
            "torch",
            "PyTorch eager",
            {STEP: pytorch.step, UPDATE: pytorch.update, EPOCH: pytorch.epoch},
            needs=("torch",),
        ),
        Contestant(
            "torch-loader",
            "PyTorch eager, DataLoader",
            {EPOCH: partial(pytorch.epoch, loader=True)},
            needs=("torch",),
        ),
        Contestant(
            "torch-compile",
            "PyTorch, torch.compile",
            {
                STEP: partial(pytorch.step, compiled=True),
                UPDATE: partial(pytorch.update, compiled=True),
                EPOCH: partial(pytorch.epoch, compiled=True),
            },
            needs=("torch",),
        ),
        Contestant(
            "torch-graph",
            "PyTorch, CUDA graph",
            {STEP: pytorch.graphed_step, EPOCH: pytorch.graphed_epoch},
            needs=("torch",),
            devices=_CUDA,
        ),
        Contestant(
            "jax-jit",
            "JAX, jax.jit",
            {STEP: jax_jit.step, UPDATE: jax_jit.update, EPOCH: jax_jit.epoch},
            needs=("jax",),
        ),
        Contestant(
            "jax-scan",
            "JAX, lax.scan over many steps",
            {STEP: partial(jax_jit.step, scan=True), EPOCH: partial(jax_jit.epoch, scan=True)},
            needs=("jax",),
        ),
        Contestant(
            "floor-products",
            "floor: the matrix products alone",
            {STEP: floors.products},
            side=FLOOR,
        ),
        Contestant(
            "floor-rate",
            "floor: the machine's own rate",
            {STEP: floors.rate},
            side=FLOOR,
        ),
        Contestant(
            "floor-streams",
            "floor: one pass over the five streams",
            {UPDATE: floors.streams},
            needs=("numba",),
            devices=_CPU,
            side=FLOOR,
        ),
    )
}
