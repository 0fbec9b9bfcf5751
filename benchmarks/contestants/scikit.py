"""scikit-learn's MLPClassifier, in `partial_fit`; it has no RMSProp, so this is Adam.

Its network has our weights, no L2 penalty, and batches in the given order. A call of `partial_fit` does
many steps, so that checking its input weighs little.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from benchmarks.runner import NotRunError, Runner
from benchmarks.workloads import ADAM_EPS, SEED, Problem


def step(problem: Problem, device: str) -> Runner:
    """Run training steps."""
    batches = [(x.reshape(-1, x.shape[-1]), t.reshape(-1)) for x, t in problem.chunks]
    runner = _OneByOne(
        lambda: _start(problem, shuffle=False),
        _partial_fit,
        batches,
        read=_loss,
        chunk=problem.workload.chunk,
    )
    runner.batches = problem.batches
    return runner


class _OneByOne(Runner):
    """A runner that is checked batch by batch, because a longer call reports only its mean loss."""

    batches: list[tuple[Any, Any]]

    def check(self, n: int) -> list[float]:
        one = Runner(self._start, self._step, self.batches, read=self._read)
        return one.check(n)


def epoch(problem: Problem, device: str) -> Runner:
    """Run epochs, in the order in which scikit-learn shuffles them."""
    x, t = problem.arrays["x"], problem.arrays["t"]
    return Runner(lambda: _start(problem, shuffle=True), _partial_fit, [(x, t)], read=_loss)


def epoch_order(problem: Problem) -> Any:
    """Return the order of the rows in such an epoch."""
    utils: Any = importlib.import_module("sklearn.utils")
    return utils.shuffle(np.arange(len(problem.arrays["t"])), random_state=SEED)


def _start(problem: Problem, *, shuffle: bool) -> Any:
    workload = problem.workload
    *hidden, classes = workload.sizes[1:]
    if classes == 2:
        raise NotRunError("scikit-learn gives two classes one output, which is another network")
    neural: Any = importlib.import_module("sklearn.neural_network")
    model = neural.MLPClassifier(
        hidden,
        alpha=0.0,
        batch_size=workload.batch_size,
        learning_rate_init=workload.lr,
        epsilon=ADAM_EPS,
        shuffle=shuffle,
        random_state=SEED,
    )
    # It makes its own weights in the first call, and takes none from outside before.
    x = problem.arrays["x"].reshape(-1, workload.sizes[0])[: workload.batch_size]
    t = problem.arrays["t"].reshape(-1)[: workload.batch_size]
    model.partial_fit(x, t, classes=np.arange(classes))
    model.coefs_ = [W.copy() for W, _ in problem.weights]
    model.intercepts_ = [b.copy() for _, b in problem.weights]
    del model._optimizer
    return model


def _partial_fit(model: Any, x: Any, t: Any) -> tuple[Any, Any]:
    model.partial_fit(x, t)
    return model, model.loss_


def _loss(model: Any, loss: Any) -> list[float]:
    return [loss]
