"""`compile`: the same step, prepared once for the arrays that it is given.

NumPy     the first call is recorded; later ones repeat it into the same buffers (`on_numpy.py`), with
          elementwise calls and sums that follow each other in one loop if numba is installed
          (`kernels.py`); in `fit`, with numba, many steps in a call (`numpy_loop.py`)
JAX       `jax.jit`, with the buffers of parameters and state donated (`on_jax.py`)
CuPy      a CUDA graph if cuBLASLt is installed, in `fit` one that takes its batches by itself; else each
          operation as it comes, with the optimizer's update in one kernel (`on_cupy.py`)
PyTorch   the step as it is, without recording gradients of its own; on request, a graph of it that
          `torch.compile` compiles (`on_torch.py`)
others    the step as it is

A step is compiled as a function of trees, `step.compute(params, slots, mask, numbers, batch)`: the batch
is a dict of arrays, or a list of dicts on several ranks, and the numbers are all that depends on the
count of steps. What is repeated is recorded or traced twice, and has to be the same both times
(`repeatable/`).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

from anyprop._typing import Array, Namespace
from anyprop._usage import usage
from anyprop.backend import name_of, namespace, on_device_of
from anyprop.compiled import cuda_products
from anyprop.compiled.numba_dialect import is_installed
from anyprop.compiled.numpy_loop import PlannedLoop
from anyprop.compiled.on_cupy import FusedUpdateStep, GraphLoop, graph_step
from anyprop.compiled.on_jax import (
    JittedLoop,
    JittedParallelStep,
    JittedStep,
    jitted_gradient,
)
from anyprop.compiled.on_numpy import PlannedGradient, PlannedStep
from anyprop.compiled.on_torch import TorchCompiledStep, check_torch_backend
from anyprop.compiled.program import Loop
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, check_kind
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step

Run = Callable[..., tuple[Parameters, OptimizerState, Array]]
Gradient = Callable[[Parameters, Any], Any]


@usage("compile(make_step(net, loss, optimizer))")
def compile(step: Step | DataParallelStep, *, torch_backend: str | None = None) -> Run:
    """Return the compiled form of a training step.

    It takes and returns what the step does, with two differences. Parameters and state are donated:
    their arrays may be written over, so copy (`params.copy()`) what you want to keep. And what it
    returns is valid until its next call in the same thread, except for the value, which stays.

    Parameters
    ----------
    step : Step or DataParallelStep
        From `make_step`, or from `anyprop.distributed.make_data_parallel_step`. How it is compiled
        follows from the arrays of each call; a new shape or dtype is planned again. With the extra
        ``anyprop[fast]`` (numba), elementwise operations that follow each other become one loop on
        NumPy. On PyTorch the step runs as it is, under `torch.no_grad`.
    torch_backend : str, optional
        On PyTorch, what `torch.compile` should compile the step with, such as ``"inductor"``, which
        needs a C++ compiler and, for the first step of a new shape, seconds.

    Returns
    -------
    callable
        Takes and returns what the step does. On NumPy its numbers are those of the step, bit for
        bit; elsewhere they are so to rounding.

    Warns
    -----
    RuntimeWarning
        Once, when a step runs as it is because it cannot be compiled, or on CuPy without a CUDA graph;
        the message says why. A step of an optimizer that overrides `update` alone is never compiled.

    Raises
    ------
    TypeError
        `step` does not come from `make_step`, or is one of several ranks and has a `torch_backend`.
    ValueError
        When called: `torch_backend` is given for arrays that are not PyTorch's, or PyTorch knows no
        such backend.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net, opt = ap.MLP([2, 4, 2]), ap.RMSProp(lr=0.01)
    >>> step = ap.compile(ap.make_step(net, ap.SoftmaxCrossEntropy(), opt))
    >>> x, t = np.asarray([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32), np.asarray([0, 1])
    >>> params = net.init(seed=0)
    >>> state = opt.init(params)
    >>> for _ in range(100):
    ...     params, state, value = step(params, state, x, t)
    >>> bool(value < 0.1)
    True
    """
    if not isinstance(step, (Step, DataParallelStep)):
        raise TypeError(f"compile takes a step from make_step, not {step!r}.")
    if torch_backend is not None and not isinstance(torch_backend, str):
        raise TypeError(f"torch_backend must be a name such as 'inductor', not {torch_backend!r}.")
    if torch_backend is not None and isinstance(step, DataParallelStep):
        raise TypeError(
            f"torch_backend={torch_backend!r} is for a step of one process; leave it out."
        )
    # One step may be called with arrays of several libraries, each of which compiles it in its own way.
    runs: dict[type, Run] = {}

    def compiled(
        params: Parameters, state: OptimizerState, *given: Any, **options: Any
    ) -> tuple[Parameters, OptimizerState, Array]:
        batch: Any = step.batch(*given, **options)
        try:
            of_type = type(params._any)
        except AttributeError:
            check_kind(params)
            raise
        try:
            run = runs.get(of_type)
            if run is None:
                xp = namespace(params._any)
                run = runs[of_type] = _compiled_for(xp, step, torch_backend)
            return run(params, state, batch)
        except TraceError as error:
            warnings.warn(f"the step runs uncompiled: {error}.", RuntimeWarning, stacklevel=2)
            # For good, so that the warning comes once, and no later step tries again.
            runs[of_type] = _of_tree(step)
            return step(params, state, *given, **options)

    return compiled


def compiled_loop(step: Step | DataParallelStep, xp: Namespace, most: int) -> Loop | None:
    """Return the compiled form of many steps in a row, where a backend has a loop of its own.

    Parameters
    ----------
    step : Step or DataParallelStep
        As `compile` takes it.
    xp : namespace
        The namespace of the parameters.
    most : int >= 1
        Largest number of steps in a call.

    Returns
    -------
    Loop or None
        On NumPy with numba, on JAX, and on CuPy with cuBLASLt, for a step of one process that
        `compile` does not run as it is from the first.
    """
    # On several ranks each step waits for a message, which is sent between two of them.
    if not isinstance(step, Step) or _has_its_own_update(step.optimizer):
        return None
    backend = name_of(xp)
    if backend == "cupy" and cuda_products.is_available():
        return GraphLoop(step, most)
    if backend == "numpy" and is_installed():
        return PlannedLoop(step, most)
    return JittedLoop(step, most) if backend == "jax" else None


def donates(xp: Namespace, torch_backend: str | None = None) -> bool:
    """Return whether a compiled step of a backend overwrites the parameters and the state it is
    given.

    Parameters
    ----------
    xp : namespace
        The namespace of the parameters.
    torch_backend : str, optional
        As `compile` takes it.

    Returns
    -------
    bool
    """
    return torch_backend is not None or name_of(xp) in _KINDS


def compile_gradient(function: Gradient, xp: Namespace) -> Gradient:
    """Return the compiled form of a function of parameters and a batch.

    Parameters
    ----------
    function : callable
        ``(params, batch) -> tree of arrays``; batch is a dict of arrays.
    xp : namespace
        The namespace of the parameters.

    Returns
    -------
    callable
        Takes and returns what the function does. On CuPy, and where `compile` runs a step as it is,
        the function itself.
    """
    kinds: dict[str, Callable[[Gradient], Gradient]] = {
        "numpy": PlannedGradient,
        "jax": jitted_gradient,
    }
    make = kinds.get(name_of(xp))
    if make is None:
        return function
    compiled = make(function)

    def run(params: Parameters, batch: Any) -> Any:
        nonlocal compiled
        try:
            return compiled(params, batch)
        except TraceError as error:
            text = f"the gradient is computed uncompiled: {error}."
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            compiled = function
            return function(params, batch)

    return run


def _of_tree(step: Callable[..., Any]) -> Run:
    """Return the form of a step that takes its batch as a tree, as `Step.batch` makes it."""

    def run(params: Parameters, state: OptimizerState, batch: Any) -> Any:
        if isinstance(batch, dict):
            return step(params, state, **batch)
        return step(params, state, batch)

    return run


# For a step of one process, and for one of several ranks.
_KINDS: dict[str, tuple[Callable[[Step], Run], Callable[[DataParallelStep], Run]]] = {
    "numpy": (PlannedStep, PlannedStep),
    "jax": (JittedStep, JittedParallelStep),
    "cupy": (graph_step, FusedUpdateStep),
}


def _compiled_for(xp: Namespace, step: Step | DataParallelStep, torch_backend: str | None) -> Run:
    backend = name_of(xp)
    if torch_backend is not None:
        check_torch_backend(torch_backend, xp)
        _check_update(step)
        assert isinstance(step, Step)
        return TorchCompiledStep(step, torch_backend)
    # Before the table, as what PyTorch compiles takes seconds, which only who asks for it should wait.
    if backend == "torch":
        without_gradients: Run = importlib.import_module("torch").no_grad()(_of_tree(step))
        return without_gradients
    # A library without an entry here is used by the standard alone, and that has no way to compile.
    kinds = _KINDS.get(backend)
    if kinds is None:
        return _of_tree(step)
    _check_update(step)
    of_one, of_several = kinds
    run = of_several(step) if isinstance(step, DataParallelStep) else of_one(step)
    return _on_its_device(run) if backend == "cupy" else run


def _check_update(step: Step | DataParallelStep) -> None:
    """Raise TraceError if the step would train otherwise than its optimizer's `update` does."""
    if _has_its_own_update(step.optimizer):
        name = type(step.optimizer).__name__
        raise TraceError(
            f"{name} has an update of its own, which a compiled step does not call; override numbers "
            "or apply instead"
        )


def _has_its_own_update(optimizer: Optimizer) -> bool:
    """Return whether `update` may do other things than `numbers` and `apply` do together."""

    def origin(name: str) -> type | None:
        return next((cls for cls in type(optimizer).__mro__ if name in vars(cls)), None)

    # A class that writes both means the same by both; where two classes do, nothing says so.
    return origin("update") not in (Optimizer, origin("apply"))


def _on_its_device(run: Run) -> Run:
    def on_device(params: Parameters, state: OptimizerState, batch: Any) -> Any:
        with on_device_of(params.flat):
            return run(params, state, batch)

    return on_device
