"""Turns: in each round every contestant does some steps, in another order each time.

A machine gets slower and faster while one measures: it grows warm, or other programs run on it.
Taking turns spreads such changes evenly over the contestants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

Turn: TypeAlias = Callable[[int], float]
"""``turn(steps)`` does that many steps and returns the seconds they took."""

MOST_ROUNDS, FEWEST_ROUNDS = 25, 5


class Timing(NamedTuple):
    """Seconds for one step, over all turns.

    Parameters
    ----------
    median, q1, q3 : float
        The median, and the quartiles, between which half of the turns are.
    steps : int
        Steps in a turn.
    turns : list of float
        Seconds for a step in each turn, in the order of the rounds.
    """

    median: float
    q1: float
    q3: float
    steps: int
    turns: list[float]


def measure(
    turns: Mapping[str, Turn], chunks: Mapping[str, int], seconds: float, *, seed: int = 0
) -> dict[str, Timing]:
    """Measure contestants in turns.

    Parameters
    ----------
    turns : mapping of str to callable
        Each contestant's turn.
    chunks : mapping of str to int
        What a contestant's number of steps must be a multiple of.
    seconds : float > 0
        About how long each contestant works. Those that are slow do fewer rounds, but 5 at least;
        none does more than 25.
    seed : int >= 0
        Seed of the orders of the rounds.

    Returns
    -------
    dict of str to Timing
        The timing of each contestant.
    """
    target = seconds / MOST_ROUNDS
    steps = {name: _steps(turn, chunks[name], target) for name, turn in turns.items()}
    taken: dict[str, list[float]] = {name: [] for name in turns}
    rng, names, total = np.random.default_rng(seed), list(turns), 0.0
    for k in range(MOST_ROUNDS):
        if k >= FEWEST_ROUNDS and total >= seconds * len(turns):
            break
        for i in rng.permutation(len(names)):
            name = names[i]
            took = turns[name](steps[name])
            total += took
            taken[name].append(took / steps[name])
    return {name: summarize(taken[name], steps[name]) for name in names}


def summarize(turns: list[float], steps: int) -> Timing:
    """Return the median and the quartiles of the turns."""
    q1, median, q3 = np.quantile(turns, [0.25, 0.5, 0.75]).tolist()
    return Timing(median, q1, q3, steps, turns)


def _steps(turn: Turn, chunk: int, seconds: float) -> int:
    """Return how many steps take about so many seconds."""
    steps = chunk
    took = turn(steps)
    while took < seconds / 4:
        steps *= 2
        took = turn(steps)
    return max(round(seconds / took * steps / chunk), 1) * chunk
