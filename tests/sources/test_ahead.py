"""Things made ahead come in order, with their errors, and no thread is left behind."""

import contextlib
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

from anyprop.sources import Ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "anyprop-ahead"]


def until(condition):
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def none_left():
    yield
    gc.collect()
    until(lambda: not threads())


@pytest.mark.parametrize("n", [0, 1, 3])
def test_all_come_in_order_and_the_thread_ends(n):
    ahead = Ahead(iter(range(20)), n)
    assert list(ahead) == list(range(20))
    ahead.close()
    assert not threads()
    with pytest.raises(StopIteration):
        next(ahead)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_more_are_made_than_asked_for(n):
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    with contextlib.closing(Ahead(items(), n)) as ahead:
        for taken in range(10):
            most = min(10, taken + n)
            until(lambda most=most: len(made) == most)
            time.sleep(0.005)
            assert len(made) == most
            assert next(ahead) == taken


def test_without_a_thread_each_is_made_when_it_is_asked_for():
    made = []
    ahead = Ahead((made.append(threading.current_thread()) for _ in range(3)), 0)
    assert made == []
    next(ahead)
    assert made == [threading.current_thread()]
    ahead.close()
    assert list(ahead) == []


class BadRowError(OSError):
    """The error of a reader."""


@pytest.mark.parametrize("n", [0, 1, 3])
def test_an_error_comes_once_where_the_item_would_have_come(n):
    def items():
        yield "first"
        yield "second"
        raise BadRowError("row 7")

    ahead = Ahead(items(), n)
    assert [next(ahead), next(ahead)] == ["first", "second"]
    with pytest.raises(BadRowError, match="row 7") as caught:
        next(ahead)
    assert caught.traceback[-1].name == "items"
    assert list(ahead) == []
    ahead.close()


@pytest.mark.parametrize("n", [0, 1])
def test_waiting_is_measured(n):
    def items():
        for _ in range(3):
            time.sleep(0.05)
            yield None

    ahead = Ahead(items(), n)
    for _ in ahead:
        pass
    assert 0.14 < ahead.waited < 2.0
    ahead.close()


@pytest.mark.parametrize("n", [0, 1])
def test_what_is_being_read_is_closed_in_the_end(n):
    closed = []

    def items():
        try:
            yield from range(10)
        finally:
            closed.append(threading.current_thread().name)

    with contextlib.closing(Ahead(items(), n)) as ahead:
        next(ahead)
    assert closed == ["anyprop-ahead" if n else threading.current_thread().name]


def test_settings_of_the_caller_hold():
    setting = contextvars.ContextVar("setting", default=0)
    setting.set(3)
    with (
        np.errstate(over="raise"),
        contextlib.closing(
            Ahead(((setting.get(), np.geterr()["over"]) for _ in range(1)), 1)
        ) as ahead,
    ):
        assert next(ahead) == (3, "raise")


def test_closing_waits_for_the_present_item():
    began, done = threading.Event(), threading.Event()

    def items():
        began.set()
        time.sleep(0.2)
        done.set()
        yield None

    ahead = Ahead(items(), 1)
    began.wait()
    ahead.close()
    assert done.is_set()
    assert not threads()
    ahead.close()


def test_a_half_used_one_can_be_forgotten():
    ahead = Ahead(iter(range(100)), 2)
    next(ahead)
    seen = weakref.ref(ahead)
    del ahead
    gc.collect()
    assert seen() is None
    until(lambda: not threads())


class Reader:
    """Takes long for its first item, unless it is let go."""

    def __init__(self):
        self.began, self.go_on = threading.Event(), threading.Event()
        self.done = False

    def __iter__(self):
        self.began.set()
        self.go_on.wait(30)
        self.done = True
        yield None

    def interrupt(self):
        """Send Ctrl-C as soon as the main thread waits."""
        self.began.wait()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)


def started(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_ctrl_c_ends_the_wait_for_an_item_and_waits_for_the_present_read():
    reader = Reader()

    def disturb():
        reader.interrupt()
        time.sleep(0.2)
        reader.go_on.set()

    ahead = Ahead(reader, 1)
    other = started(disturb)
    with pytest.raises(KeyboardInterrupt):
        try:
            next(ahead)
        finally:
            ahead.close()
    assert reader.done
    assert not threads()
    other.join()


def leave_by_itself(ahead):
    try:
        next(ahead)
    finally:
        ahead.close()


def leave_by_a_generator(ahead):
    def batches():
        try:
            yield 0
            yield next(ahead)
        finally:
            ahead.close()

    drawn = batches()
    next(drawn)
    try:
        raise KeyboardInterrupt
    finally:
        drawn.close()


@pytest.mark.parametrize("leave", [leave_by_itself, leave_by_a_generator])
def test_a_second_ctrl_c_does_not_wait(leave):
    reader = Reader()
    interrupts = 1 if leave is leave_by_a_generator else 2

    def disturb():
        for _ in range(interrupts):
            reader.interrupt()

    ahead = Ahead(reader, 1)
    other = started(disturb)
    with pytest.raises(KeyboardInterrupt):
        leave(ahead)
    assert not reader.done
    other.join()
    reader.go_on.set()


def test_ctrl_c_that_comes_while_closing_waits_once():
    reader = Reader()

    def disturb():
        reader.interrupt()
        time.sleep(0.2)
        reader.go_on.set()

    ahead = Ahead(reader, 1)
    other = started(disturb)
    with pytest.raises(KeyboardInterrupt):
        ahead.close()
    assert reader.done
    other.join()


def test_a_reader_that_never_returns_does_not_keep_the_process_alive():
    code = """
    import threading
    from anyprop.sources import Ahead

    def items():
        yield 1
        threading.Event().wait()

    ahead = Ahead(items(), 1)
    print(next(ahead))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "1\n"
    assert done.stderr == ""
