"""Many steps on CuPy in one call: a graph that takes its batch out of the training set by itself.

The rows of all batches, and before them the count of steps that are done, are copied to the device once
in a call. A graph reads its own batch's rows there, gathers the batch, does the step, stores the loss at
the place of the step, and counts. So a step costs the host two launches: of the kernel that writes the
numbers which depend on the step, and of the graph.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import namespace
from anyprop.compiled.graph import Graph, check_together, kind_of
from anyprop.compiled.recording import TraceError
from anyprop.optimizers.base import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.step import Step


class GraphLoop:
    """Many steps on CuPy arrays in one call.

    Parameters
    ----------
    step : Step
        What to compile.
    most : int >= 1
        How many steps a call does at most.
    """

    def __init__(self, step: Step, most: int) -> None:
        self._step, self._most = step, most
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, list[Array]]:
        """Do a step with each batch.

        Parameters
        ----------
        params, state
            As a step takes them; donated.
        data : mapping
            x, t and sample_weight, with the rows of all batches; a graph is made for these arrays.
        batches : sequence of numpy.ndarray, shape (N,), int64
            The rows of each batch, all of one size and within the data.

        Returns
        -------
        params, state
            As a step returns them.
        values : list of array, shape ()
            The loss of each batch.

        Raises
        ------
        TraceError
            The step cannot be captured.
        """
        graphs: dict[Any, _GatheringGraph] = self._of_thread.__dict__
        arrays = [data[name] for name in ("x", "t", "sample_weight")]
        places = [None if a is None else (kind_of(a), a.data.ptr, a.strides) for a in arrays]
        key = (params.layout, params.flat.dtype, len(batches[0]), *places)
        if key not in graphs:
            try:
                graphs[key] = _GatheringGraph(
                    self._step, params, state, arrays, batches[0], self._most
                )
            except Exception as error:  # CuPy, CUDA and nvmath-python each raise their own
                raise TraceError(str(error)) from error
        return graphs[key].run(params, state, batches)


class _GatheringGraph:
    """The graph of one size of batches, and where it finds their rows."""

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        rows: Any,
        most: int,
    ) -> None:
        check_together(params, data)
        xp, n = namespace(params.flat), len(rows)
        self._rows = xp.empty(1 + most * n, dtype="int64")
        self._values = xp.empty(most, dtype=params.flat.dtype)
        places = [
            array if array is None else xp.empty((n, *array.shape[1:]), dtype=array.dtype)
            for array in data
        ]
        self._gather = [
            partial(_gather(array, n), array, self._rows, place)
            for array, place in zip(data, places, strict=True)
            if array is not None
        ]
        self._set_rows([rows])  # the capture does a step, too
        noise = None
        self._graph = Graph(step, params, state, [*places, noise], noise, self._around)

    def _around(self, launches: Callable[[], None], value: Array) -> Callable[[], None]:
        """Put what takes the batch before a step, and what keeps its loss after it."""
        kernel = _elementwise(
            f"{value.dtype} value",
            f"raw {value.dtype} values, raw int64 rows",
            "values[rows[0]] = value; rows[0] += 1;",
            "anyprop_store",
        )
        store = partial(kernel, value, self._values, self._rows)
        in_order: list[Callable[[], Any]] = [*self._gather, launches, store]

        def work() -> None:
            for launch in in_order:
                launch()

        return work

    def _set_rows(self, batches: Sequence[Any]) -> None:
        """Copy the rows of batches to where the graph finds them, and begin with the first."""
        host = np.concatenate([[0], *batches])
        # CuPy copies from pinned memory, which it keeps until it has.
        self._rows[: len(host)] = importlib.import_module("cupy").asarray(host)

    def run(
        self, params: Parameters, state: OptimizerState, batches: Sequence[Any]
    ) -> tuple[Parameters, OptimizerState, list[Array]]:
        """Do the steps."""
        self._set_rows(batches)
        self._graph.fill(params, state)
        for _ in batches:
            state = self._graph.launch(state)
        values = self._values.copy()
        return self._graph.params, state, [values[k, ...] for k in range(len(batches))]


def _gather(data: Array, n: int) -> Any:
    """Make the kernel that takes the n rows of the present batch."""
    width = math.prod(data.shape[1:])
    return _elementwise(
        f"raw {data.dtype} data, raw int64 rows",
        f"{data.dtype} place",
        f"place = data[rows[1 + rows[0] * {n} + i / {width}] * {width} + i % {width}];",
        "anyprop_gather",
    )


def _elementwise(*args: str) -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*args)
