"""Floors: what no implementation of a workload can leave out, and nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.runner import NotRunError, Runner
from benchmarks.workloads import Problem

LARGE = 2048  # rows and columns of a product at which a processor reaches its rate


def products(problem: Problem, device: str) -> Runner:
    """Compute the matrix products of training steps, into existing buffers.

    For a network of L layers these are L forward, L for the gradients of the weights, and L - 1 for
    those of the activations: the gradient of the data is not needed.
    """
    calls = _products(problem, *_empty(device))

    def one(carry: None) -> tuple[None, None]:
        for call, a, b, out in calls:
            call(a, b, out=out)
        return None, None

    return Runner(lambda: None, one, [()], read=lambda carry, out: [], wait=_wait(device))


def rate(problem: Problem, device: str) -> Runner:
    """Compute large products with as many floating-point operations as training steps have.

    They are computed by the library that is fastest at them, of those that are installed.
    """
    steps, times, inner = _large(problem)
    product = min(_large_products(inner, device), key=_seconds)

    def one(carry: None) -> tuple[None, None]:
        for _ in range(times):
            product()
        return None, None

    return Runner(lambda: None, one, [()], read=lambda carry, out: [], chunk=steps)


def _large(problem: Problem) -> tuple[int, int, int]:
    """Return of how many steps how many products have the operations, and their inner dimension."""
    of_step, of_product = problem.workload.operations, 2 * LARGE**3
    steps = max(round(of_product / of_step), 1)
    times = max(round(steps * of_step / of_product), 1)
    return steps, times, round(steps * of_step / (2 * LARGE**2 * times))


def _large_products(inner: int, device: str) -> Iterator[Callable[[], object]]:
    """Yield functions that compute a large product and wait for it, one for each library."""
    matmul, make = _empty(device)
    a, b, out = make(LARGE, inner), make(inner, LARGE), make(LARGE, LARGE)
    wait = _wait(device)
    yield lambda: (matmul(a, b, out=out), wait(None))
    if device == "cpu" and importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        tensors = [torch.from_numpy(array) for array in (a, b, out)]
        yield lambda: torch.matmul(tensors[0], tensors[1], out=tensors[2])
    if device == "cpu" and importlib.util.find_spec("jax"):
        jax = importlib.import_module("jax")
        jitted, arrays = jax.jit(jax.numpy.matmul), [jax.numpy.asarray(array) for array in (a, b)]
        yield lambda: jitted(*arrays).block_until_ready()


def _seconds(product: Callable[[], object]) -> float:
    """Measure the second call and the third."""
    product()
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        product()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _products(problem: Problem, matmul: Any, make: Any) -> list[tuple[Any, Any, Any, Any]]:
    sizes, n = problem.workload.sizes, problem.workload.batch_size
    h = [make(n, size) for size in sizes]
    dh = [make(n, size) for size in sizes]
    W = [make(d, m) for d, m in pairwise(sizes)]
    dW = [make(*matrix.shape) for matrix in W]
    layers = range(len(W))
    calls = [(matmul, h[i], W[i], h[i + 1]) for i in layers]
    for i in reversed(layers):
        calls.append((matmul, h[i].T, dh[i + 1], dW[i]))
        if i:
            calls.append((matmul, dh[i + 1], W[i].T, dh[i]))
    return calls


def _empty(device: str) -> tuple[Any, Any]:
    """Return a product that takes `out`, and a function that creates a matrix of small numbers."""
    if device == "cuda":
        torch = importlib.import_module("torch")
        if not torch.cuda.is_available():
            raise NotRunError("PyTorch finds no CUDA device")
        return torch.matmul, lambda n, m: torch.full((n, m), 1e-3, device="cuda")
    return np.matmul, lambda n, m: np.full((n, m), 1e-3, dtype=np.float32)


def _wait(device: str) -> Any:
    if device == "cuda":
        torch = importlib.import_module("torch")
        return lambda carry: torch.cuda.synchronize()
    return lambda carry: None


def streams(problem: Problem, device: str) -> Runner:
    """Read p, g and h once and write p and h once, on all cores, with an addition for each."""
    numba: Any = importlib.import_module("numba")

    @numba.njit(parallel=True)  # type: ignore[untyped-decorator]
    def one_pass(p: Any, g: Any, h: Any) -> None:
        for i in numba.prange(p.size):
            h[i] = h[i] + g[i]
            p[i] = p[i] + g[i]

    g = problem.arrays["g"]

    def one(carry: Any) -> tuple[Any, None]:
        one_pass(carry[0], g, carry[1])
        return carry, None

    def start() -> Any:
        return problem.arrays["p"].copy(), np.zeros_like(g)

    return Runner(start, one, [()], read=lambda carry, out: [])
