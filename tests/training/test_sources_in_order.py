"""What is measured and predicted of a source is what arrays in memory give, bit for bit."""

import gc
import re
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

import anyprop as ap
from anyprop.training import reader
from ranks import on_ranks

NET = ap.Sequential(ap.Affine(4, 6), ap.BatchNorm(6), ap.Tanh(), ap.Dropout(0.5), ap.Affine(6, 3))
LOSS = ap.SoftmaxCrossEntropy()
N = 30


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    gc.collect()
    assert threading.active_count() == before


@pytest.fixture(params=[1, 300, 1 << 24], ids=["a batch", "some batches", "all"])
def portions(request, monkeypatch):
    """Bytes that are read at a time."""
    monkeypatch.setattr(reader, "SIZE", request.param)


def made(dtype="uint8", labels="int64"):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((N, 4)) * 50 + 100).astype(dtype)
    return x, rng.integers(0, 3, N).astype(labels)


class Rows:
    """An object that writes down which rows it was asked for."""

    def __init__(self, *parts):
        self.parts, self.asked = parts, []

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, rows):
        self.asked.append(rows.tolist())
        return tuple(part[rows] for part in self.parts)


def params_of(backend, dtype="float32", net=NET):
    params = net.init(seed=8, xp=backend.xp, dtype=dtype, device=backend.device)
    if params.running is None:
        return params
    running = backend.asarray(np.linspace(0.5, 2.0, params.running.shape[0]), dtype)
    return params.replace(running=running)


def held(backend, x, t, dtype="float32"):
    if backend.name == "torch" and t.dtype.kind == "u":
        t = t.astype("int64")
    return backend.asarray(x, dtype), backend.asarray(t, t.dtype.newbyteorder("="))


@pytest.mark.parametrize(("ahead", "batch_size"), [(0, 7), (1, 1), (1, 7), (3, 1000)])
@pytest.mark.usefixtures("portions")
def test_the_results_are_those_of_arrays(backend, ahead, batch_size):
    x, t = made()
    params = params_of(backend)
    given = held(backend, x, t)
    source = ap.Source((x, t), ahead=ahead)
    wanted = ap.evaluate(NET, params, given, loss=LOSS, batch_size=batch_size)
    assert ap.evaluate(NET, params, source, loss=LOSS, batch_size=batch_size) == wanted
    wanted = ap.predict(NET, params, given[0], batch_size=batch_size)
    found = ap.predict(NET, params, source, batch_size=batch_size)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(wanted), strict=True)


@pytest.mark.parametrize(
    ("stored", "labels"),
    [
        ("float32", "uint8"),
        (">f4", ">i8"),
        ("float16", "int32"),
        ("int8", "uint16"),
        ("uint16", "uint32"),
        (">i2", "uint64"),
        ("bool", "int8"),
    ],
)
def test_numbers_of_every_dtype_that_is_held_exactly_are_read(backend, stored, labels):
    x, t = made(stored, labels)
    params = params_of(backend)
    wanted = ap.evaluate(NET, params, held(backend, x, t), loss=LOSS)
    assert ap.evaluate(NET, params, ap.Source((x, t)), loss=LOSS) == wanted


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("float64", "float32"), ("int32", "float32"), ("int64", "float64")],
)
def test_what_is_not_held_exactly_is_rounded_on_request_only(backend, stored, dtype):
    x, t = made(stored)
    params = params_of(backend, dtype)
    message = (
        rf"data: x is {stored}, which {dtype} parameters cannot hold exactly; round it while it is "
    )
    with pytest.raises(TypeError, match=re.escape(message) + rf".*dtype='{dtype}'"):
        ap.evaluate(NET, params, ap.Source((x, t)), loss=LOSS)
    with pytest.raises(TypeError, match=re.escape(message.replace("data", "x", 1))):
        ap.predict(NET, params, ap.Source((x, t)))
    wanted = ap.evaluate(NET, params, held(backend, x.astype(dtype), t, dtype), loss=LOSS)
    found = ap.evaluate(NET, params, ap.Source((x, t), dtype=dtype), loss=LOSS)
    assert found == wanted


def test_floating_targets_are_cast_as_x_is(backend):
    net, loss = ap.MLP([4, 3]), ap.MeanSquaredError()
    x, _ = made("float32")
    t = np.random.default_rng(0).random((N, 3)).astype("float16")
    params = params_of(backend, net=net)
    wanted = ap.evaluate(net, params, held(backend, x, t.astype("float32")), loss=loss)
    assert ap.evaluate(net, params, ap.Source((x, t)), loss=loss) == wanted


@pytest.mark.parametrize("ahead", [0, 2])
def test_each_row_is_read_once_and_in_order(backend, monkeypatch, ahead):
    monkeypatch.setattr(reader, "SIZE", 7 * 2 * (4 + 8))
    data = Rows(*made())
    params = params_of(backend)
    ap.evaluate(NET, params, ap.Source(data, ahead=ahead), loss=LOSS, batch_size=7)
    first = [0]  # from which shapes and dtypes are known
    assert data.asked == [first, list(range(14)), list(range(14, 28)), [28, 29]]


def test_predictions_need_no_targets_and_no_finite_numbers(backend):
    x, _ = made("float32")
    x[3, 1] = np.nan
    t = np.full(N, 1 << 63, dtype="uint64")
    params = params_of(backend)
    found = ap.predict(NET, params, ap.Source((x, t)), batch_size=4)
    wanted = ap.predict(NET, params, backend.asarray(x), batch_size=4)
    np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(wanted))


def test_the_weights_of_a_source_weigh_its_losses(backend):
    x, t = made("float32")
    weight = np.linspace(0, 2, N).astype("float16")
    params = params_of(backend)
    y = ap.to_host(ap.predict(NET, params, held(backend, x, t)[0]))
    rows = [float(LOSS.forward(y[i : i + 1], t[i : i + 1])[0]) for i in range(N)]
    found = ap.evaluate(NET, params, ap.Source((x, t, weight)), loss=LOSS, batch_size=7)
    np.testing.assert_allclose(found.loss, np.average(rows, weights=weight), rtol=1e-6)
    assert found.accuracy == (y.argmax(axis=1) == t).mean()
    nothing = ap.Source((x, t, 0 * weight))
    with pytest.raises(ValueError, match="data: no example has a weight above 0"):
        ap.evaluate(NET, params, nothing, loss=LOSS)
    with pytest.raises(ValueError, match="validation: no example has a weight above 0"):
        ap.fit(
            NET,
            params,
            held(backend, x, t),
            loss=LOSS,
            optimizer=ap.SGD(),
            validation=nothing,
            compile=False,
        )


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("ahead", [0, 1])
def test_ranks_read_their_own_rows(backend, ahead, size):
    x, t = (part[:20] for part in made())
    params, given = params_of(backend), held(backend, x, t)

    def both(ranks):
        data = Rows(x, t)
        source = ap.Source(data, ahead=ahead)
        found = ap.evaluate(NET, params, source, loss=LOSS, batch_size=4, communicator=ranks)
        wanted = ap.evaluate(NET, params, given, loss=LOSS, batch_size=4, communicator=ranks)
        assert found == wanted
        return data.asked[
            2:
        ]  # without the first row, and the first and the last, which are compared

    asked = [row for lists in on_ranks(size, both) for rows in lists for row in rows]
    assert sorted(asked) == list(range(20))


def test_more_ranks_than_rows(backend):
    x, t = (part[:2] for part in made())
    params, given = params_of(backend), held(backend, x, t)

    def both(ranks):
        found = ap.evaluate(NET, params, ap.Source((x, t)), loss=LOSS, communicator=ranks)
        assert found == ap.evaluate(NET, params, given, loss=LOSS, communicator=ranks)

    on_ranks(4, both)


def test_ranks_with_other_data_are_refused(backend):
    x, t = made()
    params = params_of(backend)

    def measure(ranks):
        source = ap.Source((x + np.uint8(ranks.rank), t))
        ap.evaluate(NET, params, source, loss=LOSS, communicator=ranks)

    with pytest.raises(ValueError, match="the ranks were given different rows at the ends of data"):
        on_ranks(2, measure)


def test_a_source_that_cannot_be_read_at_all_says_so_before_work():
    with pytest.raises(OSError, match="Input/output error") as caught:
        ap.evaluate(NET, params_of_numpy(), ap.Source(Failing(0, *made())), loss=LOSS)
    assert caught.value.__notes__ == ["It was raised while the first row of data was read."]


HANGING = """
import os, signal, threading
import numpy as np, anyprop as ap

class Hanging:
    def __len__(self):
        return 30

    def __getitem__(self, rows):
        if len(rows) > 1:
            threading.Timer(0.2, interrupt).start()
            threading.Event().wait()
        return np.zeros((len(rows), 4), "float32"), np.zeros(len(rows), int)

def interrupt():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.3)

signal.signal(signal.SIGINT, signal.default_int_handler)
net = ap.MLP([4, 3])
try:
    ap.evaluate(net, net.init(), ap.Source(Hanging()), loss=ap.SoftmaxCrossEntropy())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_two_ctrl_c_end_a_measurement_whose_reader_never_returns():
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "interrupted\n"


class Failing(Rows):
    """Fails from some row on."""

    def __init__(self, row, *parts):
        super().__init__(*parts)
        self.row = row

    def __getitem__(self, rows):
        if rows[-1] >= self.row:
            raise OSError(5, "Input/output error")
        return super().__getitem__(rows)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_the_error_of_a_reader_is_raised_as_it_is_and_names_the_rows(
    backend, monkeypatch, ahead, call
):
    monkeypatch.setattr(reader, "SIZE", 1)
    source = ap.Source(Failing(17, *made()), ahead=ahead)
    options = {"loss": LOSS} if call == "evaluate" else {}
    with pytest.raises(OSError, match="Input/output error") as caught:
        getattr(ap, call)(NET, params_of(backend), source, batch_size=5, **options)
    name = "data" if call == "evaluate" else "x"
    assert caught.value.__notes__ == [f"It was raised while rows 15..19 of {name} were read."]


def test_a_reader_that_fails_on_one_rank_ends_all():
    params = NET.init()

    def measure(ranks):
        source = ap.Source(Failing(15 if ranks.rank == 1 else N + 1, *made()))
        x = source if ranks.rank == 1 else ap.Source(Rows(*made()))
        with pytest.raises((OSError, RuntimeError, ValueError), match="Input/output error"):
            ap.evaluate(NET, params, x, loss=LOSS, communicator=ranks)

    on_ranks(3, measure)


def with_(row, x=None, t=None, weight=None):
    """Return the parts of a source of which one row is wrong."""
    parts = [*made("float32"), np.ones(N)]
    for part, wrong in zip(parts, (x, t, weight), strict=True):
        if wrong is not None:
            part[(row, 1) if part.ndim == 2 else row] = wrong
    return tuple(parts)


WRONG = [
    ({"x": np.nan}, r"x\[{row}, 1\] is nan; remove or replace it"),
    ({"x": -np.inf}, r"x\[{row}, 1\] is -inf"),
    ({"t": 3}, r"row {row}.*label 3 is out of range: the network has 3 outputs"),
    ({"t": -1}, r"row {row}.*label -1 is out of range"),
    ({"weight": -1}, r"weight\[{row}\] is -1.0; it must be at least 0"),
    ({"weight": np.inf}, r"weight\[{row}\] is inf"),
]


@pytest.mark.parametrize("row", [0, 19, 29])
@pytest.mark.parametrize(("wrong", "message"), WRONG)
@pytest.mark.usefixtures("portions")
def test_wrong_numbers_are_named_by_their_row(row, wrong, message):
    x, t, weight = with_(row, **wrong)
    data = Rows(x, t, weight.astype("float32"))
    with pytest.raises(ValueError, match=message.format(row=row)):
        ap.evaluate(NET, params_of_numpy(), ap.Source(data), loss=LOSS, batch_size=5)
    if row == 0:  # before anything else is read
        assert data.asked == [[0]]


class Exhausted(Rows):
    """Reads what can be run through only once, and has ended."""

    def __getitem__(self, rows):
        return super().__getitem__(rows) if rows[-1] < 8 else next(iter([]))


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_source_that_has_ended_too_early_is_no_shorter_one(ahead, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", 1)
    x, t = made()
    source = ap.Source(Exhausted(x, t), ahead=ahead)
    for measure in (ap.predict, partial(ap.evaluate, loss=LOSS)):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            measure(NET, params_of_numpy(), source, batch_size=4)


def params_of_numpy():
    return NET.init(seed=8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (np.zeros((5, 3), "float32"), np.zeros(5, int)),
            r"data: x has rows of shape \(3,\), but the",
        ),
        ((np.zeros((5, 2, 2), "float32"), np.zeros(5, int)), r"data: x has rows of shape \(2, 2\)"),
        ((np.zeros((5, 4), "float32"), np.zeros(5, "float32")), "data: .*labels must be integers"),
        (
            (np.zeros((5, 4), "float32"), np.zeros((5, 2), "float32")),
            r"data: .*targets have shape \(1, 2\)",
        ),
        (
            (np.zeros((5, 4), "float32"), np.zeros(5, int), np.ones((5, 1), "float32")),
            r"data: a weight has shape \(1,\); it must be one number",
        ),
    ],
)
def test_what_the_network_and_the_loss_cannot_use_is_refused_before_work(data, message):
    spy = Rows(*data)
    with pytest.raises((TypeError, ValueError), match=message):
        ap.evaluate(NET, params_of_numpy(), ap.Source(spy), loss=LOSS)
    assert spy.asked == [[0]]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("size", [1, 3])
def test_validation_by_a_source_is_recorded_as_that_by_arrays(backend, ahead, size):
    x, t = made()
    net, data = ap.MLP([4, 6, 3]), held(backend, *made("int8"))
    params = params_of(backend, net=net)

    def train(validation, ranks):
        return ap.fit(
            net,
            params,
            data,
            loss=LOSS,
            optimizer=ap.RMSProp(lr=0.01),
            epochs=2,
            batch_size=9,
            validation=validation,
            communicator=ranks,
            callbacks=[ap.EarlyStopping("validation_accuracy", patience=5)],
        ).history.epochs

    def both(ranks):
        source = ap.Source((x, t), ahead=ahead)
        for found, wanted in zip(
            train(source, ranks), train(held(backend, x, t), ranks), strict=True
        ):
            assert found.validation_loss == wanted.validation_loss
            assert found.validation_accuracy == wanted.validation_accuracy

    on_ranks(size, both)


def test_validation_that_fails_keeps_what_was_trained():
    x, t = made("float32")
    net = ap.MLP([4, 6, 3])
    data = Failing(17, x, t)
    with pytest.raises(OSError, match="Input/output error") as caught:
        ap.fit(
            net,
            net.init(),
            (x, t),
            loss=LOSS,
            optimizer=ap.SGD(),
            epochs=2,
            validation=ap.Source(data),
        )
    assert len(caught.value.history.losses) == 1
    assert "rows 0..29 of validation" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match=r"validation: x has rows of shape \(4,\)"):
        ap.fit(
            ap.MLP([5, 3]),
            ap.MLP([5, 3]).init(),
            (np.zeros((3, 5), "float32"), t[:3]),
            loss=LOSS,
            optimizer=ap.SGD(),
            validation=ap.Source((x, t)),
        )


def batches_of(x, t, *sizes):
    """Return a function of the epoch that yields batches of these sizes."""

    def batches(epoch):
        assert epoch == 0
        start = 0
        for size in sizes:
            yield x[start : start + size], t[start : start + size]
            start += size

    return batches


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stream_is_measured_batch_by_batch(backend, ahead):
    x, t = made()
    params, given = params_of(backend), held(backend, x, t)
    wanted = ap.evaluate(NET, params, given, loss=LOSS, batch_size=15)
    stream = ap.Stream(batches_of(x, t, 15, 15), ahead=ahead)
    assert ap.evaluate(NET, params, stream, loss=LOSS) == wanted
    stream = ap.Stream(batches_of(x, t, 30), ahead=ahead)
    assert ap.evaluate(NET, params, stream, loss=LOSS, batch_size=15) == wanted
    stream = ap.Stream(batches_of(x, t, 3, 20, 7), ahead=ahead)
    found = ap.evaluate(NET, params, stream, loss=LOSS)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-6)
    assert found.accuracy == wanted.accuracy


@pytest.mark.parametrize("row", [0, 7, 29])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"x": np.nan}, r"x\[{row}, 1\] is nan"), ({"t": 3}, "row {row}, label 3 is out of range")],
)
def test_wrong_numbers_of_a_stream_are_named_by_row_and_batch(row, wrong, message):
    x, t, _ = with_(row, **wrong)
    stream = ap.Stream(batches_of(x, t, 5, 5, 5, 5, 5, 5))
    with pytest.raises(ValueError, match=message.format(row=row % 5)) as caught:
        ap.evaluate(NET, params_of_numpy(), stream, loss=LOSS)
    assert caught.value.__notes__ == [f"It was raised for batch {row // 5} of data."]


def test_what_a_stream_cannot_be_used_for():
    x, t = made("float64")
    params, stream = params_of_numpy(), ap.Stream(batches_of(x, t, 30))
    message = "data: x is float64, which float32 parameters cannot .*: Stream(..., dtype='float32')"
    with pytest.raises(TypeError, match=re.escape(message).replace(r"\.\*", ".*")):
        ap.evaluate(NET, params, stream, loss=LOSS)
    stream = ap.Stream(batches_of(x, t, 30), dtype="float32")
    ap.evaluate(NET, params, stream, loss=LOSS)
    with pytest.raises(ValueError, match="a Stream is for one process; give the ranks a Source"):
        on_ranks(2, lambda ranks: ap.evaluate(NET, params, stream, loss=LOSS, communicator=ranks))
    with pytest.raises(TypeError, match=r"validation must be .*, not a Stream"):
        ap.fit(
            NET,
            params,
            (x.astype("float32"), t),
            loss=LOSS,
            optimizer=ap.SGD(),
            validation=stream,
        )
    with pytest.raises(TypeError, match=r"x must be an array or a Source, not a Stream"):
        ap.predict(NET, params, stream)
    with pytest.raises(ValueError, match="batches gave no batch for epoch 0"):
        ap.evaluate(NET, params, ap.Stream(lambda epoch: []), loss=LOSS)
