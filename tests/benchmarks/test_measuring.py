"""Turns and their statistics, under a clock that moves only when work is done."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measuring import FEWEST_ROUNDS, MOST_ROUNDS, measure, summarize
from benchmarks.runner import Runner
from benchmarks.worker import timed_turn


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Player:
    """Takes `seconds` for a step, and writes down who had a turn."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, seconds, log

    def __call__(self, steps):
        self.log.append((self.name, steps))
        return steps * self.seconds


def play(seconds, times, chunks=None):
    log = []
    players = {name: Player(name, time, log) for name, time in times.items()}
    timings = measure(players, chunks or dict.fromkeys(times, 1), seconds)
    rounds = len(timings[next(iter(times))].turns)
    return timings, log[len(log) - rounds * len(times) :]


def test_it_finds_what_a_step_takes():
    times = {"fast": 2e-5, "slow": 3e-2, "slower": 4.0}
    timings, _ = play(2.5, times)
    for name, time in times.items():
        assert timings[name].median == pytest.approx(time)
        assert timings[name].q1 == pytest.approx(timings[name].q3)


def test_every_contestant_has_one_turn_in_each_round_and_the_order_changes():
    _, log = play(1.0, {"a": 1e-3, "b": 1e-3, "c": 1e-3})
    names = [name for name, _ in log]
    rounds = [tuple(names[i : i + 3]) for i in range(0, len(names), 3)]
    assert len(rounds) == MOST_ROUNDS
    assert {tuple(sorted(r)) for r in rounds} == {("a", "b", "c")}
    assert len(set(rounds)) > 3


def test_a_turn_has_about_the_seconds_it_should_have():
    timings, log = play(2.5, {"fast": 1e-4, "chunky": 3e-3}, {"fast": 1, "chunky": 20})
    assert timings["fast"].steps == 1000
    assert timings["chunky"].steps == 40
    assert set(log) == {("fast", 1000), ("chunky", 40)}


def test_who_is_slow_has_fewer_turns_but_not_too_few():
    assert len(play(1.0, {"a": 100.0, "b": 1e-3})[0]["a"].turns) == FEWEST_ROUNDS
    assert len(play(10.0, {"a": 1.0, "b": 1.0})[0]["a"].turns) == 10


def test_the_median_and_the_middle_half():
    timing = summarize([5.0, 1.0, 2.0, 4.0, 3.0], steps=7)
    assert timing[:4] == (3.0, 2.0, 4.0, 7)


def test_a_slow_spell_does_not_touch_the_median():
    log = []
    even, uneven = Player("even", 1e-3, log), Player("uneven", 1e-3, log)

    def sometimes(steps):
        return uneven(steps) * (50 if len(log) % 4 == 0 else 1)

    timings = measure({"even": even, "uneven": sometimes}, {"even": 1, "uneven": 1}, 1.0)
    assert timings["uneven"].median == pytest.approx(timings["even"].median, rel=1e-6)
    assert max(timings["uneven"].turns) > 10 * timings["even"].median


def make_runner(clock, *, chunk=1, waits=0.0):
    """Return a runner whose step takes a second, and whose waiting takes `waits`."""
    done = []

    def step(carry, number):
        clock.now += chunk
        done.append((carry, number))
        return carry + 1, number

    def wait(carry):
        clock.now += waits

    numbers = [(10,), (20,), (30,)]
    runner = Runner(lambda: 0, step, numbers, read=lambda c, out: [out], wait=wait, chunk=chunk)
    return runner, done


def test_a_turn_starts_from_the_beginning_every_time():
    clock = Clock()
    runner, done = make_runner(clock)
    for _ in range(2):
        done.clear()
        assert timed_turn(runner, 5, clock) == 5.0
        steps = [(0, 10), (1, 20), (2, 30), (3, 10), (4, 20)]
        # untimed, then timed, in one run
        assert done == [*steps, (5, 30), (6, 10), (7, 20), (8, 30), (9, 10)]


def test_a_turn_is_warmed_up_outside_its_time():
    clock = Clock()
    runner, done = make_runner(clock)
    assert timed_turn(runner, 20, clock) == 20.0
    assert len(done) == 40
    assert timed_turn(runner, 20, clock, warm_up=False) == 20.0
    assert len(done) == 60


def test_a_turn_ends_when_all_is_computed():
    clock = Clock()
    runner, _ = make_runner(clock, waits=0.25)
    assert timed_turn(runner, 4, clock) == 4.25


def test_a_chunk_is_that_many_steps():
    clock = Clock()
    runner, done = make_runner(clock, chunk=5)
    assert timed_turn(runner, 10, clock) == 10.0
    assert len(done) == 2 + 2


def test_checking_gives_what_the_first_steps_gave():
    runner, _ = make_runner(Clock())
    runner.run(2)
    assert runner.check(4) == [10.0, 20.0, 30.0, 10.0]
    assert np.isclose(runner.check(1), 10.0)
