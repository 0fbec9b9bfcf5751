"""How a contestant does its work: from a start, step by step, and waiting until it is done.

    carry = start()
    for arguments in inputs, in a circle:
        carry, out = step(carry, *arguments)
    wait(carry)                            # until all of it is computed

A contestant makes a `Runner` of these four; the worker runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any


class NotRunError(Exception):
    """A contestant cannot take part here; the message says why."""


class FailedError(Exception):
    """A contestant broke down; the message says how."""


class Runner:
    """A contestant at one workload.

    Parameters
    ----------
    start : callable
        Returns the arguments of the first step: the same numbers in every call.
    step : callable
        ``step(carry, *arguments) -> (carry, out)`` does `chunk` steps.
    inputs : sequence of tuples
        Arguments of the steps, in their order.
    read : callable
        ``read(carry, out)`` returns, as Python floats, the numbers that all contestants must agree
        on.
    wait : callable
        ``wait(carry)`` returns when everything that was begun is done.
    chunk : int >= 1
        Steps in one call of `step`.
    settling : int >= 0
        Steps after which it works as it does in a long run.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        step: Callable[..., tuple[Any, Any]],
        inputs: Sequence[tuple[Any, ...]],
        *,
        read: Callable[[Any, Any], Sequence[float]],
        wait: Callable[[Any], object] = lambda carry: None,
        chunk: int = 1,
        settling: int = 0,
    ) -> None:
        self._start, self._step, self._inputs = start, step, inputs
        self._read, self._wait = read, wait
        self.chunk, self.settling = chunk, settling
        self.reset()

    def reset(self) -> None:
        """Go back to the start."""
        self._carry = None  # so that no two are in memory
        self._carry = self._start()
        self._wait(self._carry)
        self._next: Iterator[tuple[Any, ...]] = cycle(self._inputs)

    def run(self, n: int) -> None:
        """Run the next `n` steps, a multiple of `chunk`, and wait until they are done."""
        carry, step, arguments = self._carry, self._step, self._next
        for _ in range(n // self.chunk):
            carry, _ = step(carry, *next(arguments))
        self._wait(carry)
        self._carry = carry

    def check(self, n: int) -> list[float]:
        """Run the first `n` steps and return the numbers to be compared."""
        self.reset()
        values: list[float] = []
        for _ in range(-(-n // self.chunk)):
            self._carry, out = self._step(self._carry, *next(self._next))
            values += map(float, self._read(self._carry, out))
        return values


def sampled(vector: Any) -> list[float]:
    """Return ten numbers of an updated vector, for a comparison."""
    return [float(value) for value in vector[:: max(len(vector) // 10, 1)][:10]]


def summed_up(losses: Sequence[float]) -> list[float]:
    """Return the mean loss of an epoch of equal batches, and then its first losses."""
    return [sum(losses) / len(losses), *losses[:10]]
