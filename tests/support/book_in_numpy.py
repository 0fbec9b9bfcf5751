"""The book's networks and rules in plain NumPy and float64, to compare with: nothing of anyprop."""

from __future__ import annotations

import numpy as np


class Net:
    """Affine layers, an activation between them, softmax and the mean cross entropy.

    `decay` is the factor of half the sum of squared weights, `norm` adds batch normalization before
    each activation and `ratio` dropout after it. Gradients of the sum over the batch where
    `summed`.
    """

    def __init__(self, sizes, std, *, relu=True, decay=0.0, norm=False, ratio=None, summed=False):
        self.relu, self.decay, self.norm, self.ratio = relu, decay, norm, ratio
        self.summed, self.depth, self.params = summed, len(sizes) - 1, {}
        for i in range(1, self.depth + 1):
            scale = std(sizes[i - 1]) if callable(std) else std
            self.params[f"W{i}"] = scale * np.random.randn(sizes[i - 1], sizes[i])
            self.params[f"b{i}"] = np.zeros(sizes[i])
            if norm and i < self.depth:
                self.params[f"gamma{i}"] = np.ones(sizes[i])
                self.params[f"beta{i}"] = np.zeros(sizes[i])
        widths = range(1, self.depth)
        self.running = {i: [np.zeros(sizes[i]), np.zeros(sizes[i])] for i in widths}

    def logits(self, x, train=False):
        p, self.seen, x = self.params, {}, np.asarray(x, dtype=np.float64)
        for i in range(1, self.depth + 1):
            self.seen[i] = {"x": x}
            x = x @ p[f"W{i}"] + p[f"b{i}"]
            if i == self.depth:
                return x
            if self.norm:
                x = p[f"gamma{i}"] * self._standardized(i, x, train) + p[f"beta{i}"]
            self.seen[i]["a"] = x = np.where(x > 0, x, 0.0) if self.relu else 1 / (1 + np.exp(-x))
            if self.ratio is not None and train:
                self.seen[i]["mask"] = np.random.rand(*x.shape) > self.ratio
                x = x * self.seen[i]["mask"]
            elif self.ratio is not None:
                x = x * (1 - self.ratio)
        return None

    def _standardized(self, i, x, train):
        mean, var = self.running[i]
        if train:
            mu, v = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
            self.running[i] = [0.9 * mean + 0.1 * mu, 0.9 * var + 0.1 * v]
            mean, var = mu, v
        self.seen[i]["std"] = np.sqrt(var + 1e-6)
        self.seen[i]["z"] = (x - mean) / self.seen[i]["std"]
        return self.seen[i]["z"]

    def loss(self, x, t, train=False):
        y = self.logits(x, train)
        log_p = y - y.max(axis=1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        self.p, n = np.exp(log_p), len(y)
        weights = sum((W**2).sum() for name, W in self.params.items() if name[0] == "W")
        return -log_p[np.arange(n), labels(t)].mean() + 0.5 * self.decay * weights

    def gradient(self, x, t):
        self.loss(x, t, train=True)
        grads, d = {}, self.p.copy()
        d[np.arange(len(d)), labels(t)] -= 1.0
        d = d if self.summed else d / len(d)
        for i in range(self.depth, 0, -1):
            seen, W = self.seen[i], self.params[f"W{i}"]
            if i < self.depth:
                d = d * seen.get("mask", 1.0)
                d = d * (seen["a"] > 0) if self.relu else d * seen["a"] * (1 - seen["a"])
            if i < self.depth and self.norm:
                z, n = seen["z"], len(d)
                grads[f"gamma{i}"], grads[f"beta{i}"] = (d * z).sum(axis=0), d.sum(axis=0)
                d = d * self.params[f"gamma{i}"]
                d = (n * d - d.sum(axis=0) - z * (d * z).sum(axis=0)) / (n * seen["std"])
            grads[f"W{i}"] = seen["x"].T @ d + self.decay * W
            grads[f"b{i}"] = d.sum(axis=0)
            d = d @ W.T
        return grads

    def accuracy(self, x, t):
        return (self.logits(x).argmax(axis=1) == labels(t)).mean()


def labels(t):
    t = np.asarray(t)
    return t if t.ndim == 1 else t.argmax(axis=1)


class Rule:
    """One of the book's update rules for a dict of NumPy arrays."""

    def __init__(self, kind, lr):
        self.kind, self.lr, self.t, self.a, self.c = kind, lr, 0, {}, {}

    def update(self, params, grads):
        self.t, lr = self.t + 1, self.lr
        for name in params:
            g = grads[name]
            a, c = self.a.get(name, 0.0 * g), self.c.get(name, 0.0 * g)
            if self.kind == "SGD":
                step = lr * g
            elif self.kind == "Momentum":
                a = 0.9 * a - lr * g
                step = -a
            elif self.kind == "Nesterov":
                a = 0.9 * a - lr * g
                step = lr * g - 0.9 * a
            elif self.kind == "AdaGrad":
                a = a + g * g
                step = lr * g / (np.sqrt(a) + 1e-7)
            elif self.kind == "RMSprop":
                a = 0.99 * a + (1 - 0.99) * g * g
                step = lr * g / (np.sqrt(a) + 1e-7)
            else:
                a, c = 0.9 * a + (1 - 0.9) * g, 0.999 * c + (1 - 0.999) * g * g
                rate = lr * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
                step = rate * a / (np.sqrt(c) + 1e-7)
            self.a[name], self.c[name] = a, c
            params[name] = params[name] - step
