"""Threads that train from one description of a network do not affect each other."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import anyprop as ap

THREADS = 3


@pytest.fixture
def quickly_switching():
    """Make threads take turns within a step, not after many."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _in_threads(call) -> list:
    """Call with 0, 1, ... in as many threads, which start together."""
    results, start = [None] * THREADS, threading.Barrier(THREADS)

    def run(i: int) -> None:
        start.wait()
        results[i] = call(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
def test_threads_get_what_each_gets_alone(problem, compile, quickly_switching):
    """Of one network, loss, optimizer and data set; only the seeds differ."""
    problem = problem.with_(
        net=ap.MLP([4, 8, 8, 3], "gelu", norm="batch", dropout=0.2), optimizer=ap.Adam(lr=0.01)
    )

    def train(i: int) -> ap.FitResult:
        return problem.fit(problem.params(seed=i), steps=6, seed=i, compile=compile)

    alone = [train(i) for i in range(THREADS)]
    for ours, theirs in zip(_in_threads(train), alone, strict=True):
        assert ours.history.losses == theirs.history.losses
        for vector in ("flat", "running"):
            np.testing.assert_array_equal(
                *(problem.numpy(getattr(r.params, vector)) for r in (ours, theirs))
            )


def test_threads_share_one_optimizer_and_one_loss(problem, quickly_switching):
    """The plain functions, without `fit`: nothing is kept between the calls of one thread."""
    compute = ap.value_and_grad(problem.net, problem.loss, running=True)

    def train(i: int):
        params = problem.params(seed=i)
        state = problem.optimizer.init(params)
        for _ in range(6):
            _, grads, _ = compute(params, *problem.data)
            params, state = problem.optimizer.update(params, grads, state)
        return problem.numpy(params.flat)

    alone = [train(i) for i in range(THREADS)]
    for ours, theirs in zip(_in_threads(train), alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
