"""Floors: what no implementation of a workload can leave out, and nothing else."""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.runner import NotRunError, Runner
from benchmarks.workloads import Problem


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

    wait: Any = _synchronize if device == "cuda" else lambda carry: None
    return Runner(lambda: None, one, [()], read=lambda carry, out: [], wait=wait)


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


def _synchronize(carry: None) -> None:
    importlib.import_module("torch").cuda.synchronize()


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
