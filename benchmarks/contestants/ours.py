"""anyprop, eager and compiled, on any backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from anyprop._typing import Array, Namespace
from anyprop.backend import (
    BackendUnavailableError,
    devices,
    from_host,
    get_device,
    get_namespace,
    name_of,
    read,
    to_host,
)
from anyprop.compiled.compile import compile, compiled_loop
from anyprop.compiled.numba_dialect import SMALLEST
from anyprop.compiled.on_numpy import PATIENCE
from anyprop.layout import Layout, Spec
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.network import MLP
from anyprop.optimizers.adam import Adam
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.rmsprop import RMSProp
from anyprop.parameters import Parameters
from anyprop.schedules.registry import schedule_by_name
from anyprop.step import Step, make_step
from anyprop.training.evaluate import evaluate
from anyprop.training.fit import fit
from benchmarks.runner import NotRunError, Runner, sampled, summed_up
from benchmarks.workloads import EPS, RHO, SEED, WANTED, Problem


def step(
    problem: Problem,
    device: str,
    *,
    backend: str,
    compiled: bool | str = False,
    optimizer: Optimizer | None = None,
) -> Runner:
    """Run training steps, by default with RMSProp; `compiled` may name a backend of torch.compile."""
    place = _placer(backend, device)
    net = MLP(problem.workload.sizes)
    opt = optimizer or _rmsprop(problem)
    one: Any = make_step(net, SoftmaxCrossEntropy(), opt)
    if compiled:
        one = compile(one, torch_backend=_torch_backend(compiled))

    def start() -> Any:
        params = _parameters(problem, place)
        return params, opt.init(params)

    def step(carry: Any, x: Array, t: Array) -> Any:
        params, state, value = one(*carry, x, t)
        return (params, state), value

    return Runner(
        start,
        step,
        [(place(x), place(t)) for x, t in problem.batches],
        read=lambda carry, value: [float(to_host(value))],
        wait=_wait(backend, device),
        settling=_settling(problem, backend) if compiled else 0,
    )


def steps(problem: Problem, device: str, *, backend: str) -> Runner:
    """Run a chunk of training steps in a call, as `fit` does, each with a batch from the data."""
    place, workload = _placer(backend, device), problem.workload
    net, opt = MLP(workload.sizes), _rmsprop(problem)
    loop: Any = compiled_loop(
        make_step(net, SoftmaxCrossEntropy(), opt), get_namespace(backend), workload.chunk
    )
    x, t = problem.arrays["x"], problem.arrays["t"]
    data = {
        "x": place(x.reshape(-1, x.shape[-1])),
        "t": place(t.reshape(-1)),
        "sample_weight": None,
    }
    rows = np.arange(t.size).reshape(-1, workload.chunk, workload.batch_size)

    def start() -> Any:
        params = _parameters(problem, place)
        return params, opt.init(params)

    def step(carry: Any, batches: Any) -> Any:
        params, state, values = loop(*carry, data, batches)
        return (params, state), values

    return Runner(
        start,
        step,
        [([*batches],) for batches in rows],
        read=lambda carry, values: read(values),
        wait=_wait(backend, device),
        chunk=workload.chunk,
        settling=_settling(problem, backend),
    )


def update(problem: Problem, device: str, *, backend: str, compiled: bool | str = False) -> Runner:
    """Run updates of one vector, whose buffers the optimizer may write into."""
    place = _placer(backend, device)
    opt = _rmsprop(problem)
    g = place(problem.arrays["g"])
    layout = Layout.of({"p": Spec(g.shape)})
    nothing = place(np.zeros((), problem.arrays["g"].dtype))
    compiled_step = compile(Step(_given_gradient, opt), torch_backend=_torch_backend(compiled))

    def start() -> Any:
        params = Parameters(layout, place(problem.arrays["p"].copy()))
        return params, opt.init(params)

    def step(carry: Any, grads: Parameters) -> Any:
        params, state = carry
        return opt.update(params, grads, state, donate=True), None

    def step_compiled(carry: Any, g: Array) -> Any:
        params, state, _ = compiled_step(*carry, g, nothing)
        return (params, state), None

    return Runner(
        start,
        step_compiled if compiled else step,
        [(g if compiled else Parameters(layout, g),)],
        read=lambda carry, out: sampled(to_host(carry[0].flat)),
        wait=_wait(backend, device),
        settling=_settling(problem, backend) if compiled else 0,
    )


def _given_gradient(params: Parameters, x: Array, t: Array, **none: object) -> Any:
    """Treat the batch as the gradient, so that a compiled step is an update and nothing else."""
    return t, Parameters(params.layout, x), None


def epoch(
    problem: Problem,
    device: str,
    *,
    backend: str,
    compiled: bool | str = False,
    optimizer: Optimizer | None = None,
) -> Runner:
    """Run epochs with `fit`, the same one again and again."""
    place = _placer(backend, device)
    net = MLP(problem.workload.sizes)
    opt = optimizer or _rmsprop(problem)
    data = place(problem.arrays["x"]), place(problem.arrays["t"])
    order, size = problem.order, problem.workload.batch_size

    def step(params: Parameters) -> Any:
        result = fit(
            net,
            params,
            data,
            loss=SoftmaxCrossEntropy(),
            optimizer=opt,
            batch_size=size,
            batches=lambda n, batch_size, epoch: order,
            epochs=1,
            compile=bool(compiled),
            torch_backend=_torch_backend(compiled),
        )
        return result.params, result.history.losses

    return Runner(
        lambda: _parameters(problem, place),
        step,
        [()],
        read=lambda carry, losses: summed_up(losses),
        wait=_wait(backend, device),
    )


def training(
    problem: Problem, device: str, *, backend: str, compiled: bool | str = False
) -> Runner:
    """Train to the end, always from the same start, and then measure how far it is from the accuracy."""
    place, workload = _placer(backend, device), problem.workload
    net, loss, size = MLP(workload.sizes), SoftmaxCrossEntropy(), workload.batch_size
    data, test = (
        (place(problem.arrays[f"{of}x"]), place(problem.arrays[f"{of}t"])) for of in ("", "test_")
    )
    length = workload.epochs * -(-len(problem.arrays["t"]) // size)
    opt = Adam(schedule_by_name("linear", workload.lr, length))

    def step(params: Parameters) -> Any:
        result = fit(
            net,
            params,
            data,
            loss=loss,
            optimizer=opt,
            batch_size=size,
            epochs=workload.epochs,
            seed=SEED,
            compile=bool(compiled),
            torch_backend=_torch_backend(compiled),
        )
        return params, result.params

    def missing(_: Parameters, trained: Parameters) -> list[float]:
        accuracy = evaluate(net, trained, test, loss=loss).accuracy
        assert accuracy is not None
        return [max(WANTED - accuracy, 0.0)]

    return Runner(
        lambda: _parameters(problem, place),
        step,
        [()],
        read=missing,
        wait=_wait(backend, device),
    )


def _settling(problem: Problem, backend: str) -> int:
    """Return after how many compiled steps a small network has got its loops on NumPy."""
    sizes, rows = problem.workload.sizes, problem.workload.batch_size
    vector = problem.arrays["flat" if rows else "p"]
    largest = max(vector.size, rows * max(sizes))
    return PATIENCE + 1 if backend == "numpy" and largest < SMALLEST else 0


def _torch_backend(compiled: bool | str) -> str | None:
    return compiled if isinstance(compiled, str) else None


def _rmsprop(problem: Problem) -> RMSProp:
    return RMSProp(problem.workload.lr, rho=RHO, eps=EPS)


def _parameters(problem: Problem, place: Callable[[Any], Array]) -> Parameters:
    params = MLP(problem.workload.sizes).init(weights="zeros")
    return params.replace(flat=place(problem.arrays["flat"].copy()))


def _placer(backend: str, device: str) -> Callable[[Any], Array]:
    """Return the function that moves a NumPy array to where the contestant computes."""
    try:
        xp: Namespace = get_namespace(backend)
    except BackendUnavailableError as error:
        raise NotRunError(str(error).partition(": ")[2]) from None
    # As the other contestants of these libraries: on the CPU it would be another measurement.
    if device == "cuda" and not {"cuda:0", "gpu:0"} & set(devices(xp)):
        raise NotRunError(f"{backend} finds no GPU")
    where = get_device(xp, "cuda:0") if name_of(xp) == "torch" and device == "cuda" else None
    return lambda array: from_host(array, xp, device=where)


def _wait(backend: str, device: str) -> Callable[[Any], object]:
    """Return a function that waits until a backend has done everything it was asked for."""
    if backend == "jax":
        return importlib.import_module("jax").block_until_ready  # type: ignore[no-any-return]
    if backend == "torch" and device == "cuda":
        torch = importlib.import_module("torch")
        return lambda carry: torch.cuda.synchronize()
    if backend == "cupy":
        cupy = importlib.import_module("cupy")
        return lambda carry: cupy.cuda.Device().synchronize()
    return lambda carry: None
