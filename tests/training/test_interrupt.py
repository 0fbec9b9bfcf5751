"""Ctrl-C, whenever it comes, leaves whole parameters and the history that belongs to them."""

import gc
import itertools
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
import anyprop.training
from anyprop._signals import HeldSignals
from anyprop.compiled.numba_dialect import is_installed
from anyprop.training import reader
from backend_cases import CASES

from .conftest import make_problem

SOURCE = str(Path(anyprop.training.__file__).parent)


def assert_like_a_shorter_run(problem, result, **options):
    steps = len(result.history.losses)
    assert result.interrupted
    assert result.state.step == steps
    if steps == 0:
        np.testing.assert_array_equal(
            problem.numpy(result.params.flat), problem.numpy(problem.params().flat)
        )
        return
    wanted = problem.fit(steps=steps, **options)
    assert result.history.losses == wanted.history.losses
    for ours, theirs in [
        (result.params.flat, wanted.params.flat),
        (result.params.running, wanted.params.running),
        (result.state.slots["h"].flat, wanted.state.slots["h"].flat),
    ]:
        if theirs is not None:
            np.testing.assert_array_equal(problem.numpy(ours), problem.numpy(theirs))


class Interrupt(ap.Callback):
    """Raises in one hook, at one step."""

    def __init__(self, hook, step):
        self.step = step
        setattr(self, hook, self._interrupt)

    def _interrupt(self, run):
        if run.step >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("hook", "step", "finished"),
    [("on_start", 0, 0), ("on_report", 1, 3), ("on_report", 4, 5), ("on_epoch", 6, 10)],
)
def test_in_a_callback(problem, hook, step, finished):
    result = problem.fit(epochs=4, report_every=3, callbacks=[Interrupt(hook, step)])
    assert len(result.history.losses) == finished
    assert len(result.history.epochs) == (2 if hook == "on_epoch" else 0)
    assert_like_a_shorter_run(problem, result)


def test_in_the_batches(problem):
    def draw(n, batch_size, epoch):
        yield from itertools.islice(ap.batch_indices(n, batch_size, seed=3, epoch=0), 4)
        raise KeyboardInterrupt

    result = problem.fit(epochs=4, batches=draw, report_every=3)
    # Where many steps are one call, some batches are drawn first; the last one had to wait.
    loop = {"jax": True, "numpy": is_installed()}.get(problem.backend.name, False)
    assert len(result.history.losses) == (3 if loop else 4)
    assert result.history.epochs == []
    assert_like_a_shorter_run(problem, result)


def test_callbacks_are_told_of_the_end_with_the_history_complete(problem):
    seen = []

    class Last(ap.Callback):
        def on_end(self, run):
            seen.append((run.step, len(run.history.losses)))

    problem.fit(epochs=4, callbacks=[Last(), Interrupt("on_report", 7)])
    assert seen == [(10, 10)]


def test_a_real_signal(problem):
    class Begun(ap.Callback):
        def on_report(self, run):
            if run.step == 20:
                threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()

    result = problem.fit(steps=1_000_000, report_every=20, callbacks=[Begun()])
    assert 20 <= len(result.history.losses) < 1_000_000
    assert_like_a_shorter_run(problem, result)


def interrupting(problem, times):
    """Send Ctrl-C a number of times while a step runs, from the optimizer."""

    def lr(step):
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            return problem.optimizer.lr  # asked for some of its values before the training
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return problem.optimizer.lr

    return problem.with_(optimizer=replace(problem.optimizer, lr=lr))


@pytest.mark.parametrize("compile", [True, False])
def test_a_step_is_finished_first(problem, compile):
    result = interrupting(problem, 1).fit(compile=compile)
    assert len(result.history.losses) == 1
    assert_like_a_shorter_run(problem, result, compile=compile)


def test_a_second_time_ends_it_at_once(problem):
    with pytest.raises(KeyboardInterrupt):
        interrupting(problem, 2).fit()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("compile", [True, False])
def test_a_second_time_carries_what_was_trained(problem, compile):
    came = []

    def lr(step):
        if step == 7 and not came:
            came.append(step)
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        return problem.optimizer.lr

    hasty = problem.with_(optimizer=replace(problem.optimizer, lr=lr))
    with pytest.raises(KeyboardInterrupt) as caught:
        hasty.fit(compile=compile, epochs=9, report_every=1)
    error = caught.value
    steps = error.state.step
    # In place, what the step left may be half of it, and the state before it is returned.
    assert steps in (6, 7)
    wanted = problem.fit(compile=compile, steps=steps, report_every=1)
    assert error.history.losses[:steps] == wanted.history.losses
    flat = problem.numpy(error.params.flat)
    np.testing.assert_array_equal(flat, problem.numpy(wanted.params.flat))


def test_handlers_come_back_and_are_asked():
    calls = []
    before = signal.signal(signal.SIGINT, lambda signum, frame: calls.append(signum))
    try:
        ours = signal.getsignal(signal.SIGINT)
        with HeldSignals(signal.SIGINT) as signals:
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 1
            signals.hold()
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 1
            signals.release()
            assert len(calls) == 2
            signals.hold()
            signals.release()
            assert len(calls) == 2
            signals.hold()
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert len(calls) == 3
        assert signal.getsignal(signal.SIGINT) is ours
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with HeldSignals(signal.SIGINT):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone(problem):
    handlers = []

    class Look(ap.Callback):
        def on_report(self, run):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=problem.fit, kwargs={"callbacks": [Look()]})
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


class _Interrupter:
    """Sends Ctrl-C at the n-th line of our own that runs between on_start and the end."""

    def __init__(self, n):
        self.n, self.armed, self.lines = n, False, 0

    def trace(self, frame, event, arg):
        return self.lines_of if frame.f_code.co_filename.startswith(SOURCE) else None

    def lines_of(self, frame, event, arg):
        if event == "return" and frame.f_code.co_name == "train":
            self.armed = False
        if event == "line" and self.armed:
            self.lines += 1
            if self.lines == self.n:
                signal.raise_signal(signal.SIGINT)
        return self.lines_of

    def fit(self, problem, **options):
        interrupter = self

        class Arm(ap.Callback):
            def on_start(self, run):
                interrupter.armed = True

        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            return problem.fit(**options, callbacks=[Arm()])
        finally:
            sys.settrace(before)


@dataclass(frozen=True)
class FromSource:
    """A problem whose data are read."""

    problem: object
    ahead: int

    def fit(self, **options):
        source = ap.Source(self.problem.data, ahead=self.ahead)
        return self.problem.fit(self.problem.params(), data=source, **options)


@pytest.mark.parametrize("ahead", [0, 1])
def test_at_lines_of_a_run_that_reads(ahead, monkeypatch):
    """At every seventh line, for there are many."""
    monkeypatch.setattr(reader, "SIZE", 400)  # two batches of eleven rows
    problem = make_problem(CASES["numpy"][0])
    reading, options = FromSource(problem, ahead), {"report_every": 2, "batch_size": 11}
    whole = _Interrupter(None)
    whole.fit(reading, epochs=2, **options)
    lengths = set()
    for n in range(1 + ahead, whole.lines + 1, 7):
        result = _Interrupter(n).fit(reading, epochs=2, **options)
        assert_like_a_shorter_run(problem, result, **options)
        lengths.add(len(result.history.losses))
    assert lengths == set(range(7))
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "anyprop-ahead":
            thread.join(20)


def test_at_every_single_line():
    """Once at each line of the training code that a run of two epochs executes."""
    problem = make_problem(CASES["numpy"][0]).with_(
        net=ap.Sequential(ap.Affine(4, 3), ap.BatchNorm(3))
    )
    options = {"report_every": 2, "batch_size": 11}
    whole = _Interrupter(None)
    whole.fit(problem, epochs=2, validation=problem.data, **options)
    assert whole.lines > 100
    lengths = set()
    for n in range(1, whole.lines + 1):
        result = _Interrupter(n).fit(problem, epochs=2, validation=problem.data, **options)
        assert_like_a_shorter_run(problem, result, **options)
        lengths.add(len(result.history.losses))
    assert lengths == set(range(7))
