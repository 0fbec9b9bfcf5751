"""The compiled step on PyTorch: gradient and update in one graph, which `torch.compile` compiles.

The first call with tensors of new shapes traces the step into a graph of PyTorch's own operations. The
learning rate and the other numbers of a step are computed on the host and passed in a tensor, so
none of them becomes a constant of the graph, and any function can be a schedule. Parameters and state
are donated: the graph ends by storing them where they were, which needs no memory of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from anyprop._autograd import detached
from anyprop._checks import unknown
from anyprop._typing import Array, Namespace, Tree
from anyprop.backend import name_of
from anyprop.compiled.program import leaves_of, mapped, rebuilt, structure_of
from anyprop.optimizers.base import Numbers
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.same import same, shown
from anyprop.repeatable.stand_in import TraceError
from anyprop.repeatable.twice import twice
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
    """A step on PyTorch arrays, compiled again for each set of shapes and dtypes.

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
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        numbers = self._tensors(params.flat, self._step.optimizer.numbers(state))
        trees = (params, state.slots, state.decay_mask, numbers, batch)
        given = leaves_of(trees)
        # The structure besides the kinds: an argument that is None leaves no leaf that could tell.
        key = (params.layout, structure_of(trees), *map(_kind, given))
        graph = self._graphs.get(key)
        with self._torch.no_grad():
            if graph is None:
                graph = self._graphs[key] = self._compiled(trees, given)
            value = graph(*given)
        # In the same memory, without gradients of PyTorch's own.
        params, slots = rebuilt((params, state.slots), map(detached, given))
        return params, state._replace(step=state.step + 1, slots=slots), value

    def _tensors(self, flat: Array, numbers: Numbers) -> Numbers:
        """Return numbers as tensors of shape () beside `flat`, those of the host in one transfer."""
        # As tensors: a traced graph would keep the Python floats of its first step as constants.
        floats = [n for n in leaves_of(numbers) if not hasattr(n, "dtype")]
        made = iter(self._torch.tensor(floats, dtype=flat.dtype, device=flat.device).unbind())
        of_step: Numbers = mapped(lambda n: n if hasattr(n, "dtype") else next(made), numbers)
        return of_step

    def _compiled(self, trees: Tree, given: list[Array]) -> Callable[..., Any]:
        make_fx = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx

        count = len(leaves_of(trees[:2]))

        def of_tensors(*tensors: Array) -> Array:
            *results, value = leaves_of(self._step.compute(*rebuilt(trees, iter(tensors))))
            # Copies, which the compiler leaves out where it can: one result may be what was in the
            # place of another.
            value, *results = [result.clone() for result in (value, *results)]
            for tensor, result in zip(tensors[:count], results, strict=True):
                tensor.copy_(result)
            return value

        def record(time: int) -> Any:
            # Tracing computes, so it draws what the graph draws for itself in each step.
            with self._torch.random.fork_rng(devices=[]):
                donated = [tensor.clone() for tensor in given[:count]]
                return make_fx(of_tensors)(*donated, *given[count:])

        try:
            traced = twice(record, self._step, difference)
        except RuntimeError as error:
            what = str(error).partition("\n")[0].rstrip(".")
            raise TraceError(f"PyTorch cannot trace it ({what})") from error
        # Every shape has a graph of its own, by the key, so none has to allow for others.
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
    # The last call of each, and no other, is its output, so the graphs are of one length.
    return None


def _kind(tensor: Any) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device)
