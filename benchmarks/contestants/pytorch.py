"""PyTorch: eager, compiled, and on a GPU as a captured graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.runner import NotRunError, Runner, sampled, summed_up
from benchmarks.workloads import EPS, RHO, Problem


def step(problem: Problem, device: str, *, compiled: bool = False) -> Runner:
    """Run training steps."""
    torch = _torch(device)
    start, one = _trainer(torch, problem, device, compiled=compiled)
    return Runner(
        start,
        lambda carry, x, t: (None, one(x, t)),
        [(_tensor(torch, x, device), _tensor(torch, t, device)) for x, t in problem.batches],
        read=lambda carry, loss: [loss.item()],
        wait=_wait(torch, device),
    )


def update(problem: Problem, device: str, *, compiled: bool = False) -> Runner:
    """Run updates of one tensor."""
    torch = _torch(device)
    first = _tensor(torch, problem.arrays["p"], device)
    p = torch.nn.Parameter(first.clone())
    p.grad = _tensor(torch, problem.arrays["g"], device)
    optimizer = _rmsprop(torch, problem, [p])
    update = torch.compile(optimizer.step) if compiled else optimizer.step

    def start() -> None:
        _restore(torch, optimizer, [p], [first])

    def one(carry: None) -> tuple[None, None]:
        update()
        return None, None

    return Runner(
        start,
        one,
        [()],
        read=lambda carry, out: sampled(p.detach().cpu().numpy()),
        wait=_wait(torch, device),
    )


def epoch(problem: Problem, device: str, *, compiled: bool = False, loader: bool = False) -> Runner:
    """Run epochs; batches are taken by row indices, or from a DataLoader."""
    torch = _torch(device)
    start, one = _trainer(torch, problem, device, compiled=compiled)
    x = _tensor(torch, problem.arrays["x"], device)
    t = _tensor(torch, problem.arrays["t"], device)
    order = [_tensor(torch, rows, device) for rows in problem.order]
    data: Any = None
    if loader:
        dataset = torch.utils.data.TensorDataset(x, t)
        rows, size = problem.arrays["order"].tolist(), problem.workload.batch_size
        data = torch.utils.data.DataLoader(dataset, batch_size=size, sampler=rows)

    def epoch(carry: None) -> tuple[None, Any]:
        batches = data if loader else ((x[rows], t[rows]) for rows in order)
        losses = [one(*batch) for batch in batches]
        return None, torch.stack(losses).tolist()

    return Runner(
        start,
        epoch,
        [()],
        read=lambda carry, losses: summed_up(losses),
        wait=_wait(torch, device),
    )


def graphed_step(problem: Problem, device: str) -> Runner:
    """Run training steps that were captured once as a CUDA graph, with inputs copied into place."""
    torch = _torch(device)
    start, one = _trainer(torch, problem, device, capturable=True)
    inputs = [(_tensor(torch, x, device), _tensor(torch, t, device)) for x, t in problem.batches]
    replay = _captured(torch, one, inputs[0])
    return Runner(
        start,
        lambda carry, *batch: (None, replay(*batch)),
        inputs,
        read=lambda carry, loss: [loss.item()],
        wait=_wait(torch, device),
    )


def graphed_epoch(problem: Problem, device: str) -> Runner:
    """Run epochs of such steps; a graph takes its batch by row indices that are copied into place."""
    torch = _torch(device)
    start, one = _trainer(torch, problem, device, capturable=True)
    x = _tensor(torch, problem.arrays["x"], device)
    t = _tensor(torch, problem.arrays["t"], device)
    order = [_tensor(torch, rows, device) for rows in problem.order]
    replay = _captured(torch, lambda rows: one(x[rows], t[rows]), (order[0],))

    def epoch(carry: None) -> tuple[None, Any]:
        losses = [replay(rows).clone() for rows in order]
        return None, torch.stack(losses).tolist()

    return Runner(
        start,
        epoch,
        [()],
        read=lambda carry, losses: summed_up(losses),
        wait=_wait(torch, device),
    )


def _captured(torch: Any, one: Callable[..., Any], batch: tuple[Any, ...]) -> Callable[..., Any]:
    """Capture a training step; return the function that copies a batch into place and repeats it."""
    places = [tensor.clone() for tensor in batch]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            one(*places)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = one(*places)

    def replay(*batch: Any) -> Any:
        for place, tensor in zip(places, batch, strict=True):
            place.copy_(tensor)
        graph.replay()
        return loss

    return replay


def _torch(device: str) -> Any:
    torch = importlib.import_module("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise NotRunError("PyTorch finds no CUDA device")
    return torch


def _tensor(torch: Any, array: Any, device: str) -> Any:
    return torch.from_numpy(array).to(device)


def _wait(torch: Any, device: str) -> Callable[[Any], object]:
    if device == "cuda":
        return lambda carry: torch.cuda.synchronize()
    return lambda carry: None


def _rmsprop(torch: Any, problem: Problem, params: Any, **options: bool) -> Any:
    return torch.optim.RMSprop(params, lr=problem.workload.lr, alpha=RHO, eps=EPS, **options)


def _trainer(
    torch: Any, problem: Problem, device: str, *, compiled: bool = False, capturable: bool = False
) -> tuple[Callable[[], None], Callable[..., Any]]:
    """Return the function that goes back to the start, and the one that does a training step."""
    layers, first = [], []
    for W, b in problem.weights:
        linear = torch.nn.Linear(*W.shape, device=device)
        layers += [linear, torch.nn.ReLU()]
        first += [_tensor(torch, W.T.copy(), device), _tensor(torch, b.copy(), device)]
    network = torch.nn.Sequential(*layers[:-1])
    params = list(network.parameters())
    optimizer = _rmsprop(torch, problem, params, **({"capturable": True} if capturable else {}))

    def loss_of(x: Any, t: Any) -> Any:
        return torch.nn.functional.cross_entropy(network(x), t)

    update = optimizer.step
    if compiled:
        loss_of, update = torch.compile(loss_of), torch.compile(update)

    def one(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, t)
        loss.backward()
        update()
        return loss.detach()

    return lambda: _restore(torch, optimizer, params, first), one


def _restore(torch: Any, optimizer: Any, params: list[Any], first: list[Any]) -> None:
    """Restore parameters and the optimizer's state, in the tensors that hold them."""
    with torch.no_grad():
        for p, value in zip(params, first, strict=True):
            p.copy_(value)
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()
