"""JAX: a jitted step, and a scan over many steps."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from benchmarks.runner import NotRunError, Runner, sampled, summed_up
from benchmarks.workloads import EPS, RHO, Problem


def step(problem: Problem, device: str, *, scan: bool = False) -> Runner:
    """Run training steps: one in each call, or a chunk of them."""
    jax = _jax(device)
    one = _trainer(jax, problem)
    batches = problem.chunks if scan else problem.batches

    def scanned(carry: Any, xs: Any, ts: Any) -> Any:
        return jax.lax.scan(lambda carry, batch: one(carry, *batch), carry, (xs, ts))

    return Runner(
        lambda: _start(jax, problem),
        jax.jit(scanned if scan else one, donate_argnums=0),
        [(jax.numpy.asarray(x), jax.numpy.asarray(t, dtype="int32")) for x, t in batches],
        read=lambda carry, losses: np.atleast_1d(np.asarray(losses)).tolist(),
        wait=jax.block_until_ready,
        chunk=problem.workload.chunk if scan else 1,
    )


def update(problem: Problem, device: str) -> Runner:
    """Run updates of one array, with its buffers donated."""
    jax = _jax(device)
    g = jax.numpy.asarray(problem.arrays["g"])
    lr = problem.workload.lr

    def one(carry: Any, g: Any) -> Any:
        return _rmsprop(jax, carry[0], carry[1], g, lr), None

    def start() -> Any:
        p = jax.numpy.array(problem.arrays["p"])
        return p, jax.numpy.zeros_like(p)

    return Runner(
        start,
        jax.jit(one, donate_argnums=0),
        [(g,)],
        read=lambda carry, out: sampled(np.asarray(carry[0])),
        wait=jax.block_until_ready,
    )


def epoch(problem: Problem, device: str, *, scan: bool = False) -> Runner:
    """Run epochs; each batch is taken by its row indices inside the jitted function."""
    jax = _jax(device)
    one = _trainer(jax, problem)
    x = jax.numpy.asarray(problem.arrays["x"])
    t = jax.numpy.asarray(problem.arrays["t"], dtype="int32")
    order = [jax.numpy.asarray(rows, dtype="int32") for rows in problem.order]

    def gathered(carry: Any, rows: Any, x: Any, t: Any) -> Any:
        return one(carry, x[rows], t[rows])

    def scanned(carry: Any, order: Any, x: Any, t: Any) -> Any:
        return jax.lax.scan(lambda carry, rows: gathered(carry, rows, x, t), carry, order)

    jitted = jax.jit(scanned if scan else gathered, donate_argnums=0)
    stacked = jax.numpy.stack(order)

    def epoch(carry: Any) -> Any:
        if scan:
            carry, losses = jitted(carry, stacked, x, t)
            return carry, np.asarray(losses).tolist()
        losses = []
        for rows in order:
            carry, loss = jitted(carry, rows, x, t)
            losses.append(loss)
        return carry, [float(loss) for loss in losses]

    return Runner(
        lambda: _start(jax, problem),
        epoch,
        [()],
        read=lambda carry, losses: summed_up(losses),
        wait=jax.block_until_ready,
    )


def _jax(device: str) -> Any:
    jax = importlib.import_module("jax")
    if device == "cuda" and jax.default_backend() != "gpu":
        raise NotRunError("JAX finds no GPU; install its CUDA plugin")
    return jax


def _start(jax: Any, problem: Problem) -> Any:
    params = [tuple(map(jax.numpy.array, pair)) for pair in problem.weights]
    return params, jax.tree.map(jax.numpy.zeros_like, params)


def _rmsprop(jax: Any, p: Any, h: Any, g: Any, lr: float) -> Any:
    h = RHO * h + (1.0 - RHO) * g * g
    return p - lr * g / (jax.numpy.sqrt(h) + EPS), h


def _trainer(jax: Any, problem: Problem) -> Any:
    """Return the function ``(carry, x, t) -> (carry, loss)``."""
    jnp, lr = jax.numpy, problem.workload.lr

    def loss_of(params: Any, x: Any, t: Any) -> Any:
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = params[-1]
        log_p = jax.nn.log_softmax(x @ W + b)
        return -jnp.take_along_axis(log_p, t[:, None], axis=1).mean()

    def one(carry: Any, x: Any, t: Any) -> Any:
        params, h = carry
        loss, grads = jax.value_and_grad(loss_of)(params, x, t)
        done = jax.tree.map(lambda p, h, g: _rmsprop(jax, p, h, g, lr), params, h, grads)
        return jax.tree.transpose(jax.tree.structure(params), None, done), loss

    return one
