"""Plain NumPy, as the book "Deep Learning from Scratch" writes it: layers that remember, a dict, a loop.

Its labels are in one-hot form, and `Relu.backward` writes into its argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.runner import Runner, sampled, summed_up
from benchmarks.workloads import EPS, RHO, Problem


def step(problem: Problem, device: str) -> Runner:
    """Run training steps."""
    lr, classes = problem.workload.lr, problem.workload.sizes[-1]
    inputs = [(x, np.eye(classes, dtype=x.dtype)[t]) for x, t in problem.batches]

    def one(carry: tuple[_Network, _RMSProp], x: Any, t: Any) -> tuple[Any, Any]:
        network, optimizer = carry
        value = network.loss(x, t)
        optimizer.update(network.params, network.gradient())
        return carry, value

    return Runner(
        lambda: (_Network(problem.weights), _RMSProp(lr)),
        one,
        inputs,
        read=lambda carry, value: [value],
    )


def update(problem: Problem, device: str) -> Runner:
    """Run updates."""
    grads = {"p": problem.arrays["g"]}

    def one(carry: Any) -> tuple[Any, Any]:
        params, optimizer = carry
        optimizer.update(params, grads)
        return carry, None

    return Runner(
        lambda: ({"p": problem.arrays["p"].copy()}, _RMSProp(problem.workload.lr)),
        one,
        [()],
        read=lambda carry, out: sampled(carry[0]["p"]),
    )


def epoch(problem: Problem, device: str) -> Runner:
    """Run epochs; each batch is taken from the data by its row indices."""
    lr, x = problem.workload.lr, problem.arrays["x"]
    t = np.eye(problem.workload.sizes[-1], dtype=x.dtype)[problem.arrays["t"]]
    order = problem.order

    def one(carry: tuple[_Network, _RMSProp]) -> tuple[Any, Any]:
        network, optimizer = carry
        losses = []
        for rows in order:
            losses.append(network.loss(x[rows], t[rows]))
            optimizer.update(network.params, network.gradient())
        return carry, losses

    return Runner(
        lambda: (_Network(problem.weights), _RMSProp(lr)),
        one,
        [()],
        read=lambda carry, losses: summed_up(losses),
    )


class _Affine:
    def __init__(self, W: Any, b: Any) -> None:
        self.W, self.b = W, b

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout: Any) -> Any:
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx


class _Relu:
    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Any) -> Any:
        dout[self.mask] = 0
        return dout


class _SoftmaxWithLoss:
    def forward(self, x: Any, t: Any) -> Any:
        self.t = t
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        return -np.sum(t * np.log(self.y + 1e-7)) / len(x)

    def backward(self) -> Any:
        return (self.y - self.t) / len(self.t)


class _Network:
    def __init__(self, weights: list[tuple[Any, Any]]) -> None:
        self.params: dict[str, Any] = {}
        self.layers: list[Any] = []
        for i, (W, b) in enumerate(weights, start=1):
            self.params |= {f"W{i}": W.copy(), f"b{i}": b.copy()}
            self.layers += [_Affine(self.params[f"W{i}"], self.params[f"b{i}"]), _Relu()]
        self.layers.pop()
        self.last = _SoftmaxWithLoss()

    def loss(self, x: Any, t: Any) -> Any:
        for layer in self.layers:
            x = layer.forward(x)
        return self.last.forward(x, t)

    def gradient(self) -> dict[str, Any]:
        dout = self.last.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        grads: dict[str, Any] = {}
        for i, layer in enumerate(self.layers[::2], start=1):
            grads |= {f"W{i}": layer.dW, f"b{i}": layer.db}
        return grads


class _RMSProp:
    def __init__(self, lr: float, decay_rate: float = RHO) -> None:
        self.lr, self.decay_rate = lr, decay_rate
        self.h: dict[str, Any] = {}

    def update(self, params: dict[str, Any], grads: dict[str, Any]) -> None:
        if not self.h:
            self.h = {key: np.zeros_like(value) for key, value in params.items()}
        for key in params:
            self.h[key] *= self.decay_rate
            self.h[key] += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + EPS)
