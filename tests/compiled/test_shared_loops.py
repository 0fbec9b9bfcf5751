"""Loops that several cores share compute what one computes, whether, when and where helpers come."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref

import numpy as np
import pytest

import anyprop as ap
from anyprop import _helpers
from anyprop.compiled import numba_dialect
from anyprop.compiled.numpy_plan import make_plan
from anyprop.compiled.operation import SharedOperation
from anyprop.compiled.program import Program, values_of
from anyprop.compiled.trace import Recording
from anyprop.layout import Layout, Spec
from anyprop.parameters import Parameters
from anyprop.step import Step
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

SIZE = 5 * numba_dialect.PIECE + 7  # the last piece is a short one


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch):
    monkeypatch.setattr(numba_dialect, "SHARE", 2 * numba_dialect.PIECE)
    monkeypatch.setattr(numba_dialect, "cores", lambda: 3)


def given_gradient(params, x, t, **none):
    """Take the batch as the gradient: an update by itself."""
    return params.xp.sum(x[:1]), Parameters(params.layout, x), None


def start(opt, rng, dtype="float32", size=SIZE):
    params = Parameters(Layout.of({"p": Spec((size,))}), rng.standard_normal(size).astype(dtype))
    return params, opt.init(params), [rng.standard_normal(size).astype(dtype) for _ in range(3)]


def assert_equal(opt, params, state, grads):
    """Compare some compiled updates with eager ones."""
    step, t = ap.compile(Step(given_gradient, opt)), np.zeros(1, int)
    ours, theirs = (params.copy(), state.copy()), (params, state)
    for g in grads * 3:
        *ours, _ = step(*ours, g, t)
        theirs = opt.update(theirs[0], Parameters(params.layout, g), theirs[1])
    np.testing.assert_array_equal(ours[0].flat, theirs[0].flat)
    for name, slot in theirs[1].slots.items():
        np.testing.assert_array_equal(ours[1].slots[name].flat, slot.flat)


@pytest.fixture
def shared(monkeypatch):
    """The shared loops that are made."""
    made, init = [], SharedOperation.__init__

    def noting(self, *args):
        init(self, *args)
        made.append(self)

    monkeypatch.setattr(SharedOperation, "__init__", noting)
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rmsprop", "adamw", "lion"])
def test_updates_are_those_of_numpy_to_the_bit(name, dtype, rng, shared):
    opt = OPTIMIZER_CASES[name]
    assert_equal(opt, *start(opt, rng, dtype))
    assert len(shared) == 1
    assert sum(thread.name == "anyprop-helper" for thread in threading.enumerate()) >= 2


@pytest.mark.parametrize("times", [0, 1, 2], ids=["none", "one", "two"])
def test_whoever_comes_the_numbers_are_the_same(times, rng, monkeypatch):
    """Also if a helper comes before the loop has begun, or after it has ended."""

    def at_once(functions):
        for function in functions * times:
            function()

    monkeypatch.setattr("anyprop.compiled.operation.ask", at_once)
    assert_equal(ap.RMSProp(), *start(ap.RMSProp(), rng))


def test_a_helper_that_is_alone_does_nothing(rng):
    with Recording() as recording:
        given = Recording.given(rng.standard_normal(SIZE))
        outputs = [given * 2.0 + 1.0]
    plan = make_plan(Program(recording.calls, values_of(outputs)))
    (loop,) = [call.function for call in plan.calls]
    plan.outputs[0][...] = 5.0
    for helps in loop._helps:
        helps()
    assert (plan.outputs[0] == 5.0).all()
    plan.run()
    expected = given.value.data * 2.0 + 1.0
    np.testing.assert_array_equal(plan.outputs[0], expected)
    given.value.data[...] = 0.0
    for helps in loop._helps:
        helps()
    np.testing.assert_array_equal(plan.outputs[0], expected)


def test_a_helper_in_the_middle_of_its_piece_is_waited_for(rng, monkeypatch):
    with Recording() as recording:
        outputs = [Recording.given(rng.standard_normal(SIZE)) * 2.0 + 1.0]
    plan = make_plan(Program(recording.calls, values_of(outputs)))
    (loop,) = [call.function for call in plan.calls]
    run, slept = loop._run, []

    class OnePieceLess:
        arguments = ()

        @staticmethod
        def function():
            run.function(*run.arguments)
            loop._done[0] -= 1

    def sleep(seconds):
        slept.append(seconds)
        loop._done[0] += len(slept) == 3

    monkeypatch.setattr(loop, "_run", OnePieceLess)
    monkeypatch.setattr("anyprop.compiled.operation.time.sleep", sleep)
    plan.run()
    assert len(slept) == 3


def test_threads_share_helpers(rng):
    opt, errors = ap.RMSProp(), []
    starts = [start(opt, np.random.default_rng(k)) for k in range(4)]

    def work(arguments):
        try:
            assert_equal(opt, *arguments)
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(arguments,)) for arguments in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12: there are threads
def test_a_process_that_forks_and_its_child_go_on(rng):
    opt = ap.RMSProp()
    arguments = start(opt, rng)
    assert_equal(opt, *arguments)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert len(_helpers._threads) == 0
            assert_equal(opt, *arguments)
            code = 0 if len(_helpers._threads) >= 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_equal(opt, *arguments)


def test_a_dropped_step_gives_its_memory_back(rng):
    opt = ap.RMSProp()
    params, state, grads = start(opt, rng)
    step = ap.compile(Step(given_gradient, opt))
    params, state, _ = step(params, state, grads[0], np.zeros(1, int))
    flat = weakref.ref(params.flat)
    del params, state, step
    for _ in range(100):  # a helper may still look for work
        if flat() is None:
            return
        time.sleep(0.05)
    raise AssertionError("its parameters are still there")


def test_what_is_short_or_beside_products_is_not_shared(rng, shared, monkeypatch):
    opt = ap.RMSProp()
    net = ap.MLP([300, 300])
    step = ap.compile(ap.make_step(net, ap.SoftmaxCrossEntropy(), opt))
    params = net.init(seed=0)
    x = rng.standard_normal((4, 300)).astype("float32")
    step(params, opt.init(params), x, np.arange(4))
    assert_equal(opt, *start(opt, rng, size=2 * numba_dialect.PIECE - 1))
    monkeypatch.setattr(numba_dialect, "cores", lambda: 1)
    assert_equal(opt, *start(opt, rng))
    assert not shared


@pytest.mark.parametrize(
    ("asked", "count"),
    [(None, 6), ("", 6), ("4", 4), ("4,2", 4), (" 3 ", 3), ("9", 6), ("0", 6), ("many", 6)],
)
def test_cores_are_those_of_the_process_or_those_asked_for(asked, count, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _helpers.cores() == count


def test_jobs_do_not_pile_up():
    hold, done = threading.Event(), []
    for _ in range(100):
        _helpers.ask([hold.wait] * 2)
    waiting = _helpers._jobs.qsize()
    hold.set()
    assert waiting <= 2
    for _ in range(100):
        _helpers.ask([lambda: done.append(1)] * 2)
        time.sleep(0.01)
        if done:
            break
    assert done


def test_where_no_thread_can_be_started_there_is_no_help(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_helpers, "_threads", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    _helpers.ask([time.time])
    assert _helpers._threads == []
    # Helpers that other tests have started may take the job, too.
    with contextlib.suppress(queue.Empty):
        while True:
            _helpers._jobs.get_nowait()
