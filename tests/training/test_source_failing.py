"""A source that fails ends `fit` soon, and loses no work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import anyprop as ap
from anyprop.training import reader
from anyprop.training._data_checks import check_rows_finite
from backend_cases import CASES

from .test_source import Examples, Rows, draw, noisy, rolled

NUMPY = CASES["numpy"][0]


@pytest.fixture
def examples(backend):
    return Examples(backend)


@pytest.fixture(autouse=True)
def one_batch_at_a_time(monkeypatch):
    monkeypatch.setattr(reader, "SIZE", 1)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [t for t in threading.enumerate() if t.name == "anyprop-ahead"] == []


class Failing(Rows):
    """Does something else than before when it is asked for the rows of a batch, from 0."""

    def __init__(self, arrays, batch, failure):
        super().__init__(*arrays)
        self.batch, self.failure = batch, failure

    def __getitem__(self, rows):
        arrays = super().__getitem__(rows)
        # The first time, the first row was asked for.
        return self.failure(*arrays) if len(self.asked) > self.batch + 1 else arrays


def raising(x, t):
    raise OSError(5, "Input/output error")


def set_to(which, value):
    def failure(x, t):
        arrays = [x.astype("float32"), t.astype("int64")]
        arrays[which][2] = value
        return tuple(arrays)

    return failure


FAILURES = {
    "raises": (raising, r"OSError: \[Errno 5\] Input/output error"),
    "fewer": (lambda x, t: (x[1:], t), "was asked for 7 rows.* and gave x of shape"),
    "shape": (lambda x, t: (x[:, 1:], t), r"x has uint8 rows of shape \(3,\)"),
    "dtype": (lambda x, t: (x.astype("uint16"), t), "x has uint16 rows"),
    "not a pair": (lambda x, t: x, r"must be \(x, t\)"),
}


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("kind", FAILURES)
def test_what_was_trained_is_kept(examples, ahead, kind):
    failure, said = FAILURES[kind]
    data = Failing(examples.host, 6, failure)
    began = time.perf_counter()
    with pytest.raises(ap.DataError, match=f"batch 1 of epoch 1: .*{said}") as caught:
        examples.fit(ap.Source(data, ahead=ahead), epochs=9)
    error = caught.value
    assert time.perf_counter() - began < 10
    assert (error.epoch, error.batch) == (1, 1)
    (rows,) = [r for i, r in enumerate(ap.batch_indices(30, 7, seed=3, epoch=1)) if i == 1]
    assert error.rows.tolist() == rows.tolist()
    if kind == "raises":
        assert isinstance(error.__cause__, OSError)
        assert error.__cause__.__traceback__ is not None
    else:
        assert isinstance(error.__cause__, (TypeError, ValueError))
    wanted = examples.fit(examples.problem.data, steps=6)
    examples.assert_same_state(error, wanted)


BAD = {
    "nan": (0, 1, np.nan, r"x\[{row}, 1\] is nan"),
    "infinite": (0, 3, -np.inf, r"x\[{row}, 3\] is -inf"),
    "label": (1, None, 3, "in row {row}, label 3 is out of range"),
    "negative": (1, None, -1, "in row {row}, label -1 is out of range"),
    "weight": (2, None, -0.5, r"weight\[{row}\] is -0.5"),
    "no weight": (2, None, np.nan, r"weight\[{row}\] is nan"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_the_row_of_the_data_is_named(examples, kind, size, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", size)
    which, column, value, said = BAD[kind]
    x, t = examples.host
    arrays = [x.astype("float32"), t.astype("int64"), np.ones(30, "float32")]
    last = [*ap.batch_indices(30, 7, seed=3, epoch=0)][-1]
    row = int(last[1])
    arrays[which][(row,) if column is None else (row, column)] = value
    with pytest.raises(
        ap.DataError, match="batch 4 of epoch 0: ValueError: " + said.format(row=row)
    ) as c:
        examples.fit(ap.Source(tuple(arrays)))
    assert c.value.state.step == 4


def test_targets_of_any_kind_are_checked(examples):
    t = np.zeros((30, 3), "float32")
    row = int([*ap.batch_indices(30, 7, seed=3, epoch=0)][-1][0])
    t[row, 2] = np.inf
    with pytest.raises(ap.DataError, match=rf"t\[{row}, 2\] is inf"):
        examples.fit(ap.Source((examples.x, t)), loss=ap.MeanSquaredError())


def test_large_finite_rows_whose_sum_overflows_pass():
    largest = np.finfo("float32").max
    check_rows_finite("x", np.full((3, 2), largest), range(3))


def test_a_label_beyond_int64_is_named(examples):
    x, t = examples.host
    t = t.astype("uint64")
    t[-1] = 1 << 63
    with pytest.raises((ap.DataError, ValueError), match="(?<!-)9223372036854775808"):
        examples.fit(ap.Source((x, t)))


@pytest.mark.parametrize("ahead", [0, 1])
def test_before_the_first_step_the_error_is_as_it_was_raised(examples, ahead):
    data = Failing(examples.host, 0, raising)
    with pytest.raises(OSError, match="Input/output error") as caught:
        examples.fit(ap.Source(data, ahead=ahead))
    assert caught.value.state.step == 0
    assert "batch 0 of epoch 0" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("ahead", [0, 1])
def test_errors_of_own_batches_stay_what_they_are(examples, ahead, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", 1 << 20)

    def fit(last):
        def batches(n, batch_size, epoch):
            yield from [[1, 2, 3], [4, 5, 6]]
            yield from last()

        examples.fit(ap.Source(examples.host, ahead=ahead), batches=batches)

    def raises():
        raise LookupError("no more")
        yield

    for last, kind, said in [
        (raises, LookupError, "no more"),
        (lambda: [[1, 2, 30]], ValueError, "row indices outside 0..29"),
        (lambda: [[0.5]], ValueError, "a batch must be a vector of row indices"),
    ]:
        with pytest.raises(kind, match=said) as caught:
            fit(last)
        assert caught.value.state.step == 2


WRONG = {
    "x wide": (
        lambda x, t: ap.Source((x.astype("float64"), t)),
        TypeError,
        "x is float64, which float32",
    ),
    "x whole": (
        lambda x, t: ap.Source((x.astype("int32"), t)),
        TypeError,
        "x is int32, which float32",
    ),
    "columns": (
        lambda x, t: ap.Source((x[:, :3], t)),
        ValueError,
        r"rows of shape \(3,\), but .* \(4,\)",
    ),
    "images": (
        lambda x, t: ap.Source((x.reshape(-1, 2, 2), t)),
        ValueError,
        r"rows of shape \(2, 2\)",
    ),
    "label": (
        lambda x, t: ap.Source((x, t + 7)),
        ValueError,
        "data: in row 0, label .* out of range",
    ),
    "nan": (
        lambda x, t: ap.Source((x * np.float32("nan"), t)),
        ValueError,
        r"data: x\[0, 0\] is nan",
    ),
    "table": (lambda x, t: ap.Source((x, t, np.ones((30, 2), "uint8"))), ValueError, "one number"),
    "iterator": (lambda x, t: iter([(x, t)]), TypeError, "only once"),
    "list": (
        lambda x, t: [(x, t)] * 3,
        TypeError,
        r"a pair \(x, t\) of arrays or an anyprop.Source",
    ),
    "augment": (
        lambda x, t: ap.Source((x, t), draw=draw, augment=lambda x, t, drawn: x),
        TypeError,
        r"augment must return \(x, t\)",
    ),
    "words": (
        lambda x, t: ap.Source((x, t), draw=draw, augment=lambda x, t, drawn: (x.astype(str), t)),
        TypeError,
        "augment's x is <U3; a Source must give numbers",
    ),
    "one draw": (
        lambda x, t: ap.Source((x, t), draw=lambda rng, n: 3.0, augment=rolled),
        ValueError,
        r"what draw returned has shape \(\) for a batch of 1 rows",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused_before_any_work(kind):
    examples = Examples(NUMPY)
    make, error, said = WRONG[kind]
    net = examples.problem.net
    options = {"loss": examples.problem.loss, "optimizer": examples.problem.optimizer}
    if kind == "t wide":
        options["loss"] = ap.MeanSquaredError()
    with pytest.raises(error, match=said):
        ap.fit(net, net.init(), make(*examples.host), **options)


def test_weights_belong_into_the_source(examples):
    with pytest.raises(ValueError, match="give the weights as third value of the Source"):
        examples.fit(ap.Source(examples.host), sample_weight=examples.weights)


def test_what_is_too_wide_is_rounded_on_request(examples):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 4))
    problem = examples.problem
    narrow = problem.with_(x=problem.backend.asarray(x.astype("float32")))
    params = problem.net.init(xp=problem.backend.xp, device=problem.backend.device)
    source = ap.Source((x, examples.t), dtype="float32")
    options = {"loss": problem.loss, "optimizer": problem.optimizer, "seed": 1, "batch_size": 7}
    ours = ap.fit(problem.net, params, source, **options)
    examples.assert_same(ours, ap.fit(problem.net, params, narrow.data, **options))


def test_draws_are_arrays_whatever_makes_them(examples):
    def added(x, t, drawn):
        return x + drawn[:, None].astype("uint8"), t

    listed = ap.Source(examples.host, draw=lambda rng, n: list(range(n)), augment=added)
    array = ap.Source(examples.host, draw=lambda rng, n: np.arange(n), augment=added)
    examples.assert_same(examples.fit(listed), examples.fit(array))


@pytest.mark.parametrize("fails", ["draw", "augment"])
def test_an_error_in_the_first_augmentation_says_where_it_was(fails):
    examples, functions = Examples(NUMPY), {"draw": draw, "augment": rolled}
    functions[fails] = lambda *given: {}["own"]
    with pytest.raises(KeyError, match="own") as caught:
        examples.fit(ap.Source(examples.host, **functions))
    assert "It was raised while the first row of data was augmented." in caught.value.__notes__


def test_an_augmentation_that_changes_its_mind(examples):
    def changing(x, t, drawn):
        return (x if len(x) == 1 else x.astype("float32")), t

    with pytest.raises(ValueError, match="augment returned x of shape .* float32 for 7 rows"):
        examples.fit(ap.Source(examples.host, draw=draw, augment=changing))
    with pytest.raises(ValueError, match=r"draw returned has shape \(8,\) for a batch of 7 rows"):
        source = ap.Source(
            examples.host, draw=lambda rng, n: draw(rng, n + (n == 7)), augment=rolled
        )
        examples.fit(source)


def test_an_error_beside_the_reading_ends_the_thread(examples):
    class Failed(ap.Callback):
        def on_report(self, run):
            raise LookupError("own")

    for ahead in (0, 1):
        with pytest.raises(LookupError, match="own"):
            examples.fit(
                ap.Source(examples.host, ahead=ahead), report_every=2, callbacks=[Failed()]
            )


class Slow(Rows):
    """Takes its time from the third batch on, and sends Ctrl-C while it is at it."""

    def __init__(self, *arrays, seconds=0.3):
        super().__init__(*arrays)
        self.seconds, self.returned = seconds, 0

    def __getitem__(self, rows):
        arrays = super().__getitem__(rows)
        if len(self.asked) == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(self.seconds)
        self.returned += 1
        return arrays


@pytest.mark.parametrize("ahead", [0, 1])
def test_ctrl_c_while_reading(examples, ahead):
    data = Slow(*examples.host)
    began = time.perf_counter()
    result = examples.fit(ap.Source(data, ahead=ahead), noisy(), epochs=10_000)
    assert time.perf_counter() - began < 60
    assert result.interrupted
    steps = len(result.history.losses)
    assert steps <= 2
    if ahead:
        assert data.returned == len(data.asked)  # the thread was not left alone
    if steps:
        wanted = examples.fit(examples.problem.data, noisy(), steps=steps)
        examples.assert_same_state(result, wanted)


@pytest.mark.parametrize("ahead", [0, 1])
def test_ctrl_c_twice_while_a_reader_never_returns(ahead):
    script = f"""
        import os, signal, threading, time
        import numpy as np
        import anyprop as ap
        from anyprop.training import reader

        reader.SIZE = 1

        class Dead:
            asked = 0
            def __len__(self):
                return 40
            def __getitem__(self, rows):
                self.asked += 1
                if self.asked == 4:
                    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
                    threading.Timer(0.6, os.kill, [os.getpid(), signal.SIGINT]).start()
                    while True:
                        try:
                            time.sleep(1000)
                        except KeyboardInterrupt:
                            if {ahead}:
                                raise
                            time.sleep(1000)
                return np.zeros((rows.size, 2), "float32"), rows % 2

        net = ap.MLP([2, 3, 2])
        result = ap.fit(
            net, net.init(), ap.Source(Dead(), ahead={ahead}), loss=ap.SoftmaxCrossEntropy(),
            optimizer=ap.SGD(), batch_size=10, epochs=9,
        )
        print(result.interrupted, len(result.history.losses), result.state.step)
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["True", "2", "2"], done.stderr
    assert time.monotonic() - began < 30
