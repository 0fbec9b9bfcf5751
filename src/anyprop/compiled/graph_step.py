"""The step on CuPy by CUDA graphs.

The first call with arrays of new shapes makes a graph (`graph.py`). From then on a call copies the batch
into the graph's buffers, writes the numbers of the step into theirs, and launches it. Parameters and
state are donated: they are updated where they lie.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import namespace
from anyprop.compiled import cublaslt
from anyprop.compiled.fused_update import FusedUpdateStep
from anyprop.compiled.graph import Graph, check_together, kind_of, reason_of, refusals
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step

Run = Callable[..., tuple[Parameters, OptimizerState, Array]]


def graph_step(step: Step) -> Run:
    """Make the compiled form of a step on CuPy arrays, with the means that are installed.

    Parameters
    ----------
    step : Step
        What to compile.

    Returns
    -------
    callable
        A `GraphStep`; a `FusedUpdateStep` where cuBLASLt is missing.

    Warns
    -----
    RuntimeWarning
        It is missing.
    """
    if not cublaslt.is_available():
        _warn('it needs cuBLASLt, which pip installs with CuPy\'s extra "ctk"', stacklevel=5)
        return FusedUpdateStep(step)
    return GraphStep(step)


class GraphStep:
    """A step on CuPy arrays, captured anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to capture.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._uncaptured = FusedUpdateStep(step)
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Parameters, OptimizerState, Array]:
        graphs: dict[Any, Graph | None] = self._of_thread.__dict__
        batch = [x, t, sample_weight, *_tree.leaves(noise)]
        key = (params.layout, params.flat.dtype, *map(kind_of, batch))
        reason, before = "", None
        if key not in graphs:
            try:
                check_together(params, batch)
            except (TypeError, ValueError):  # the eager step says it in its own words
                return self._uncaptured(
                    params, state, x, t, noise=noise, sample_weight=sample_weight
                )
            try:
                empty = namespace(params.flat).empty
                places = [
                    leaf if leaf is None else empty(leaf.shape, dtype=leaf.dtype) for leaf in batch
                ]
                before = params.copy(), state.copy()
                graphs[key] = Graph(self._step, params, state, places, noise)
            except refusals() as error:
                reason = reason_of(error)
        graph = graphs.get(key)
        if graph is not None:
            graph.fill(params, state)
            for place, leaf in zip(graph.batch, batch, strict=True):
                if place is not None:
                    place[...] = leaf
            done = graph.params, graph.launch(state), graph.value.copy()
            reason = "" if before is None else graph.difference(self._step, *before, batch, noise)
            if before is None or not reason:
                return done
            params, state = before
        # This raises what is wrong with a batch, if that was the reason.
        done = self._uncaptured(params, state, x, t, noise=noise, sample_weight=sample_weight)
        if reason:
            graphs[key] = None
            _warn(reason.rstrip("."), stacklevel=5)
        return done


def _warn(reason: str, stacklevel: int) -> None:
    text = f"the step runs without a CUDA graph: {reason}."
    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)
