"""The compiled step on PyTorch: gradient and update in one graph, which `torch.compile` compiles.

The first call with tensors of new shapes traces the step into a graph of PyTorch's own operations. The
learning rate and the other numbers of a step are computed on the host and handed over in a tensor, so
none of them becomes a constant of the graph, and any function can be a schedule.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from anyprop import _tree
from anyprop._checks import unknown
from anyprop._typing import Array, Namespace, Number
from anyprop.backend import name_of
from anyprop.compiled.recorded_step import in_recording
from anyprop.compiled.recording import TraceError
from anyprop.compiled.same import same, shown
from anyprop.compiled.twice import twice
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Layout, Parameters
from anyprop.step import Step


def check_torch_backend(backend: str, xp: Namespace) -> None:
    """Raise ValueError unless `torch.compile` can compile a step on arrays of xp with a backend."""
    if name_of(xp) != "torch":
        raise ValueError(
            f"torch.compile ({backend!r}) is for PyTorch arrays, but the parameters are "
            f"{name_of(xp)}'s; leave the backend out."
        )
    known = importlib.import_module("torch").compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise unknown("backend of torch.compile", backend, known)


class TorchCompiledStep:
    """A step on PyTorch arrays, compiled anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    backend : str
        What `torch.compile` compiles with, such as ``"inductor"``.
    """

    def __init__(self, step: Step, backend: str) -> None:
        self._torch = importlib.import_module("torch")
        self._step, self._backend = step, backend
        self._graphs: dict[Any, Callable[..., Any]] = {}

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
        opt, layout = self._step.opt, params.layout
        lr = opt.learning_rate(state)
        scalars = opt.scalars(state.step + 1, lr)
        slots = [slot.flat for slot in state.slots.values()]
        mask = None if state.decay_mask is None else state.decay_mask.flat
        given = [params.flat, params.running, mask, x, t, sample_weight, *slots]
        given += [*_tree.leaves(noise), *self._tensors(params.flat, [lr, *scalars.values()])]
        key = (layout, *map(_kind, given))
        graph = self._graphs.get(key)
        with self._torch.no_grad():
            if graph is None:
                function = _flat(self._step, layout, list(state.slots), noise, list(scalars))
                graph = self._graphs[key] = self._compiled(function, given)
            flat, running, value, *slots = graph(*(g for g in given if g is not None))
        kept = {
            name: Parameters(layout, slot) for name, slot in zip(state.slots, slots, strict=True)
        }
        state = state._replace(step=state.step + 1, slots=kept)
        return Parameters(layout, flat, running), state, value

    def _tensors(self, flat: Array, numbers: list[Number]) -> list[Array]:
        """Give numbers as tensors of shape () beside `flat`, those of the host in one transfer."""
        floats = [n for n in numbers if not hasattr(n, "dtype")]
        made = iter(self._torch.tensor(floats, dtype=flat.dtype, device=flat.device).unbind())
        return [n if hasattr(n, "dtype") else next(made) for n in numbers]

    def _compiled(self, function: Callable[..., Any], given: list[Any]) -> Callable[..., Any]:
        make_fx = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx

        def record(time: int) -> Any:
            def of_tensors(*tensors: Array) -> Any:
                rest = iter(tensors)
                return function(time, *(None if g is None else next(rest) for g in given))

            # Tracing computes, so it draws what the graph draws for itself in each step.
            with self._torch.random.fork_rng(devices=[]):
                return make_fx(of_tensors)(*(g for g in given if g is not None))

        try:
            traced = twice(record, self._step, difference)
        except RuntimeError as error:
            what = str(error).partition("\n")[0].rstrip(".")
            raise TraceError(f"PyTorch cannot trace it ({what})") from error
        graph: Callable[..., Any] = self._torch.compile(
            traced, backend=self._backend, fullgraph=True, dynamic=False
        )
        return graph


def difference(first: Any, second: Any) -> str | None:
    """Return in words how two graphs of PyTorch differ; None if they do not."""
    nodes, others = list(first.graph.nodes), list(second.graph.nodes)
    pairs = dict(zip(nodes, others, strict=False))

    def paired(a: Any, b: Any) -> bool | None:
        return pairs[a] is b if type(a) is type(b) is type(nodes[0]) else None

    for k, (node, other) in enumerate(zip(nodes, others, strict=False)):
        where = f"call {k + 1} of {len(nodes)}"
        if (node.op, node.target) != (other.op, other.target):
            return f"{where} is {node.target} the first time and {other.target} the second"
        if node.op == "get_attr":
            a, b = getattr(first, node.target), getattr(second, other.target)
        else:
            a, b = (node.args, node.kwargs), (other.args, other.kwargs)
        if not same(a, b, paired):
            a, b = (a, b) if node.op == "get_attr" else (node.args, other.args)
            return (
                f"{where}, {node.target}, has {shown(a)} the first time and {shown(b)} the second"
            )
    if len(nodes) != len(others):
        return f"it makes {len(nodes)} calls the first time and {len(others)} the second"
    return None


def _kind(tensor: Any) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device)


def _flat(
    step: Step, layout: Layout, slots: list[str], noise: Any, scalars: list[str]
) -> Callable[..., tuple[Any, ...]]:
    """Make the function of arrays that does the step, for a network that is laid out like this."""

    def compute(
        time: int,
        flat: Array,
        running: Array | None,
        mask: Array | None,
        x: Array,
        t: Array,
        sample_weight: Array | None,
        *rest: Array,
    ) -> tuple[Any, ...]:
        params = Parameters(layout, flat, running)
        k, m = len(slots), len(rest) - len(scalars)
        value, grads = step.gradient(
            params,
            x,
            t,
            noise=_tree.rebuild(noise, list(rest[k : m - 1])),
            sample_weight=sample_weight,
        )
        before = OptimizerState(
            0,
            1.0,
            {name: Parameters(layout, slot) for name, slot in zip(slots, rest[:k], strict=True)},
            None if mask is None else Parameters(layout, mask),
        )
        named = dict(zip(scalars, rest[m:], strict=True))
        before = in_recording(before, time)
        params, after = step.opt.update_with(params, grads, before, rest[m - 1], named)
        return params.flat, params.running, value, *(after.slots[name].flat for name in slots)

    return compute
