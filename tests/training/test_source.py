"""Training on what is read while others are trained on: the numbers are those of arrays in memory."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled.on_jax import JittedLoop
from anyprop.training import reader
from backend_cases import CASES
from jax_process import printed

from .conftest import make_problem

SIZES = (1, 150, 1 << 20)
"""Bytes of a portion: one batch, some, the whole epoch."""


class Rows:
    """Data that are asked for by row; it notes what it was asked for."""

    def __init__(self, *arrays):
        self.arrays, self.asked = arrays, []

    def __len__(self):
        return self.arrays[0].shape[0]

    def __getitem__(self, rows):
        self.asked.append(rows)
        return tuple(array[rows] for array in self.arrays)


class Examples:
    """Small whole numbers, which a file holds in a byte and the parameters as floats."""

    def __init__(self, backend, n=30):
        rng = np.random.default_rng(5)
        self.x = rng.integers(0, 8, (n, 4)).astype("uint8")
        self.t = (self.x[:, 0] > self.x[:, 1]).astype("uint8") + (self.x[:, 2] > 5)
        self.weight = rng.integers(0, 3, n).astype("uint8")
        problem = make_problem(backend)
        x, t = self.x.astype("float64"), self.t.astype("int64")
        self.problem = problem.with_(x=backend.asarray(x), t=backend.asarray(t))
        self.weights = backend.asarray(self.weight.astype("float64"))
        self.host = (self.x, self.t)

    def fit(self, data, net=None, **options):
        problem = self.problem if net is None else self.problem.with_(net=net)
        given = {"loss": problem.loss, "optimizer": problem.optimizer, "batch_size": 7, "seed": 3}
        return ap.fit(problem.net, problem.params(), data, **{**given, **options})

    def assert_same(self, ours, theirs):
        self.assert_same_state(ours, theirs)
        assert [r.train_loss for r in ours.history.epochs] == [
            r.train_loss for r in theirs.history.epochs
        ]

    def assert_same_state(self, ours, theirs):
        numpy = self.problem.numpy
        assert ours.history.losses == theirs.history.losses
        assert ours.state.step == theirs.state.step
        np.testing.assert_array_equal(numpy(ours.params.flat), numpy(theirs.params.flat))
        if ours.params.running is not None:
            np.testing.assert_array_equal(numpy(ours.params.running), numpy(theirs.params.running))


@pytest.fixture
def examples(backend):
    return Examples(backend)


@pytest.fixture(params=SIZES)
def size(request, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", request.param)
    return request.param


def own_batches(n, batch_size, epoch):
    """Batches of several sizes, in which rows come twice; as lists and in any whole dtype."""
    rng = np.random.default_rng(epoch)
    yield rng.integers(n, size=5).tolist()
    yield rng.integers(n, size=5).astype("uint16")
    yield np.asarray([4, 4, 4])
    yield rng.integers(n, size=3)


def noisy():
    return ap.Sequential(
        ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.Tanh(), ap.Dropout(0.3), ap.Affine(6, 3)
    )


@pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_numbers_are_those_from_memory(examples, size, ahead, compile):
    source = ap.Source(examples.host, ahead=ahead)
    for net in (None, noisy()):
        ours, theirs = (
            examples.fit(data, net, epochs=2, compile=compile)
            for data in (source, examples.problem.data)
        )
        assert len(ours.history.losses) == 10
        examples.assert_same(ours, theirs)


class StopAt(ap.Callback):
    def __init__(self, step):
        self.step = step

    def on_report(self, run):
        if run.step >= self.step:
            run.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"batches": own_batches, "epochs": 3},
        {"accumulate": 3},
        {"steps": 8, "report_every": 3},
        {"epochs": 9, "report_every": 2, "callbacks": [StopAt(7)]},
        {"batch_size": 1, "steps": 4},
        {"batch_size": 30, "epochs": 3},
        {"batch_size": 100, "epochs": 3},
    ],
    ids=["own", "accumulate", "steps", "stop", "ones", "all", "more"],
)
def test_with_every_option(examples, size, options):
    ours = examples.fit(ap.Source(examples.host), noisy(), **options)
    examples.assert_same(ours, examples.fit(examples.problem.data, noisy(), **options))


def test_weights_and_validation(examples, size):
    options = {"epochs": 3, "validation": examples.problem.data}
    ours = examples.fit(ap.Source((*examples.host, examples.weight)), **options)
    theirs = examples.fit(examples.problem.data, sample_weight=examples.weights, **options)
    examples.assert_same(ours, theirs)
    assert [r.validation_loss for r in ours.history.epochs] == [
        r.validation_loss for r in theirs.history.epochs
    ]


WEIGHTS = ("bool", "int8", "int64", "uint8", "uint16", "uint32", "uint64", "float64", ">i4", ">f8")


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_of_any_dtype_weigh_as_floats_do(backend, dtype, kind):
    if backend.name == "array_api_strict" and dtype == "float16":
        pytest.skip("it has no float16")
    rng, net = np.random.default_rng(0), ap.MLP([4, 3])
    x, t, weight = rng.integers(0, 8, (30, 4)), rng.integers(0, 3, 30), rng.integers(0, 2, 30)
    x, weight = x.astype("uint8"), weight.astype(kind)
    params = net.init(xp=backend.xp, dtype=dtype, device=backend.device)
    held = backend.asarray(x), backend.asarray(t)

    def losses(data, **options):
        given = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.SGD(lr=0.01), "steps": 3}
        return ap.fit(net, params, data, **given, **options).history.losses

    wanted = losses(held, sample_weight=backend.asarray(weight.astype("float32")))
    assert losses(ap.Source((x, t, weight))) == wanted
    stream = losses(ap.Stream(lambda epoch: [(x, t, weight)]))
    np.testing.assert_allclose(stream, wanted, rtol=1e-2 if dtype == "float16" else 1e-5)
    if backend.name != "jax" or kind not in ("float64", ">f8"):
        assert losses(held, sample_weight=backend.asarray(weight)) == wanted


@pytest.mark.parametrize(
    "loss", [ap.MeanSquaredError(), ap.SoftmaxCrossEntropy(), ap.SigmoidCrossEntropy()]
)
@pytest.mark.parametrize("stored", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_targets_of_every_dtype_are_what_they_are_in_memory(backend, loss, dtype, stored):
    if backend.name == "array_api_strict" and "float16" in (dtype, stored):
        pytest.skip("it has no float16")
    if backend.name == "jax" and stored == "float64" and dtype != "float64":
        pytest.skip("in its 32-bit mode it holds no such array")
    rng, net = np.random.default_rng(2), ap.MLP([4, 3])
    x, t = rng.integers(0, 8, (300, 4)).astype("uint8"), rng.random((300, 3))
    t = (t / t.sum(axis=1, keepdims=True)).astype(stored)
    params = net.init(xp=backend.xp, dtype=dtype, device=backend.device)
    held = backend.asarray(x), backend.asarray(t, stored)

    def losses(data, **options):
        given = {"loss": loss, "optimizer": ap.SGD(lr=0.01), "epochs": 2, "compile": False}
        return ap.fit(net, params, data, **given, **options).history.losses

    assert losses(ap.Source((x, t)), batch_size=3) == losses(held, batch_size=3)
    in_order = losses(held, batches=lambda n, size, epoch: [np.arange(n)])
    assert losses(ap.Stream(lambda epoch: [(x, t)])) == in_order
    assert ap.evaluate(net, params, ap.Source((x, t)), loss=loss) == ap.evaluate(
        net, params, held, loss=loss
    )


def test_a_target_that_overflows_is_named(examples):
    t = np.zeros((30, 3))
    t[4, 1] = 1e300
    net = ap.MLP([4, 3])
    options = {"loss": ap.MeanSquaredError(), "optimizer": ap.SGD(), "epochs": 1}
    for data in (ap.Source((examples.x, t)), ap.Stream(lambda epoch: [(examples.x, t)])):
        with pytest.raises(
            ValueError, match=r"t\[4, 1\] is 1e\+300, which does not fit in float32"
        ):
            ap.fit(net, net.init(dtype="float32"), data, **options)


def test_blocks(examples, size):
    def in_blocks(n, batch_size, epoch):
        return ap.batch_indices(n, batch_size, seed=3, epoch=epoch, block=4)

    ours = examples.fit(ap.Source(examples.host, block=4), epochs=2)
    examples.assert_same(ours, examples.fit(examples.problem.data, batches=in_blocks, epochs=2))


@pytest.mark.parametrize("ahead", [0, 2])
def test_each_row_is_asked_for_once_an_epoch_and_in_increasing_order(examples, size, ahead):
    data = Rows(*examples.host)
    source = ap.Source(data, ahead=ahead)
    _ = source.first
    data.asked.clear()
    examples.fit(source, epochs=2)
    for rows in data.asked:
        assert rows.dtype == "int64"
        assert (np.diff(rows) > 0).all()
    assert np.bincount(np.concatenate(data.asked)).tolist() == [2] * 30
    # Batches of 7, 7, 7, 7 and 2 rows of 5 bytes; those of one size are read together.
    together = {1: [7, 7, 7, 7, 2], 150: [28, 2], 1 << 20: [28, 2]}
    assert [rows.size for rows in data.asked] == together[size] * 2


def test_what_was_read_stays_while_more_is_read(examples, monkeypatch):
    """Also where the data are read into one buffer, which is filled again."""
    monkeypatch.setattr(reader, "SIZE", 1)

    class Reused(Rows):
        buffers = np.empty((30, 4), "uint8"), np.empty(30, "uint8")

        def __getitem__(self, rows):
            for buffer, array in zip(self.buffers, self.arrays, strict=True):
                buffer[: rows.size] = array[rows]
            return tuple(buffer[: rows.size] for buffer in self.buffers)

    def in_order(n, batch_size, epoch):
        return ap.batch_indices(n, batch_size, seed=0, epoch=epoch, shuffle=False)

    options = {"batches": in_order, "epochs": 3}
    ours = examples.fit(ap.Source(Reused(*examples.host), ahead=3), **options)
    examples.assert_same(ours, examples.fit(examples.problem.data, **options))


def test_a_portion_that_no_step_needs_is_not_waited_for(examples, monkeypatch):
    monkeypatch.setattr(reader, "SIZE", 1)

    class Short(Rows):
        def __getitem__(self, rows):
            if len(self.asked) > 3:
                raise OSError("there is no more")
            return super().__getitem__(rows)

    for ahead in (0, 1):
        ours = examples.fit(ap.Source(Short(*examples.host), ahead=ahead), steps=3)
        examples.assert_same(ours, examples.fit(examples.problem.data, steps=3))


def draw(rng, n):
    return rng.integers(0, 4, n)


def rolled(x, t, by):
    """Shift each row by what was drawn for it."""
    columns = (np.arange(4) + by[:, None]) % 4
    return np.take_along_axis(x, columns, axis=1), t


def test_augmentation_depends_on_the_batch_alone(examples, monkeypatch):
    sizes, results = [], []

    def drawn(rng, n):
        sizes.append(n)
        return draw(rng, n)

    for size in SIZES:
        monkeypatch.setattr(reader, "SIZE", size)
        source = ap.Source(examples.host, draw=drawn, augment=rolled)
        results.append(examples.fit(source, noisy(), epochs=2))
        assert sizes == [1, *[7, 7, 7, 7, 2] * 2]  # one for the first row, which is checked
        sizes.clear()
    for other in results[1:]:
        examples.assert_same(results[0], other)
    assert (
        results[0].history.losses != examples.fit(ap.Source(examples.host), noisy()).history.losses
    )


def test_augmentation_and_noise_are_drawn_from_streams_of_their_own(examples):
    told = {"noise": [], "draw": []}

    class Noisy(ap.Affine):
        def noise(self, rng, shape):
            told["noise"].append(rng.random())

    def drawn(rng, n):
        told["draw"].append(rng.random())
        return np.zeros(n)

    source = ap.Source(examples.host, draw=drawn, augment=lambda x, t, drawn: (x, t), ahead=0)
    examples.fit(source, Noisy(4, 3), epochs=2)
    numbers = list(itertools.chain(*told.values()))
    assert len(told["draw"]) == 11
    # The network is also asked whether it draws at all, once without a batch.
    assert len(set(numbers)) == len(numbers)
    assert len(numbers) >= 12


@pytest.mark.parametrize("ahead", [0, 1])
def test_resumed_from_every_batch(examples, size, ahead, tmp_path):
    def fit(**options):
        data = Rows(*examples.host)
        source = ap.Source(data, ahead=ahead, draw=draw, augment=rolled)
        _ = source.first
        data.asked.clear()
        return data, examples.fit(source, noisy(), report_every=3, **options)

    _, whole = fit(steps=13, callbacks=[ap.Checkpoints(tmp_path, every=1, keep=99)])
    for step in range(1, 13):
        path = tmp_path / f"step-{step:08d}.safetensors"
        data, ours = fit(steps=13, resume=path)
        examples.assert_same(ours, whole)
        order = [*ap.batch_indices(30, 7, seed=3, epoch=step // 5)]
        if step % 5:
            done = np.concatenate(order[: step % 5])
            left = np.concatenate(order[step % 5 :])
            asked = np.concatenate(data.asked)[: left.size]
            assert not np.isin(asked, done).any()
    folder = tmp_path / "again"
    fit(steps=7, callbacks=[ap.Checkpoints(folder, keep=9)])
    fit(steps=9, callbacks=[ap.Checkpoints(folder, keep=9)], resume=folder)  # twice in one epoch
    examples.assert_same(fit(steps=13, resume=folder)[1], whole)


def test_a_resumed_run_is_of_the_same_kind(examples, tmp_path):
    folder = tmp_path / "run"
    examples.fit(ap.Source(examples.host), steps=3, callbacks=[ap.Checkpoints(folder)])
    for changed in (
        {"block": 4},
        {"draw": draw, "augment": rolled},
    ):
        with pytest.raises(ap.ResumeError, match="block was None|augmented was False"):
            examples.fit(ap.Source(examples.host, **changed), steps=5, resume=folder)
    whole = examples.fit(examples.problem.data, steps=9)
    # Where the data lie changes nothing, so one may take the place of the other.
    for data in (ap.Source(examples.host, ahead=0), examples.problem.data):
        examples.assert_same(examples.fit(data, steps=9, resume=folder), whole)


@pytest.mark.parametrize("ahead", [0, 1])
def test_settings_of_numpy_hold_while_reading(examples, ahead):
    def dividing(x, t, drawn):
        return np.divide(1.0, np.zeros(x.shape), dtype="float64"), t

    source = ap.Source(examples.host, ahead=ahead, draw=draw, augment=dividing)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        examples.fit(source)


@pytest.mark.needs("jax")
def test_the_64_bit_mode_of_the_caller_holds():
    """Also where it is chosen for a part of a program, and not for the thread that reads."""
    program = """
import jax, numpy as np, anyprop as ap
from anyprop.compiled.on_jax import JittedLoop
from anyprop.training import reader
reader.SIZE = 1
rng = np.random.default_rng(0)
x, t = rng.integers(0, 9, (20, 4)).astype("uint8"), rng.integers(0, 3, 20) + 2**40 * 0
seen = set()
class Loss(ap.SoftmaxCrossEntropy):
    def forward(self, y, t, **options):
        seen.add((str(y.dtype), str(t.dtype)))
        return super().forward(y, t, **options)
def fit(data, dtype):
    net = ap.MLP([4, 3, 3])
    options = {"loss": Loss(), "optimizer": ap.SGD(), "batch_size": 6, "epochs": 2}
    return ap.fit(net, net.init(xp="jax", dtype=dtype), data, **options).history.losses
def compare(dtype):
    there = ap.from_host(x, "jax", dtype=dtype), ap.from_host(t, "jax")
    print(all(fit(ap.Source((x, t), ahead=a), dtype) == fit(there, dtype) for a in (0, 1)), seen)
    seen.clear()
compare("float32")
with jax.enable_x64(not jax.config.jax_enable_x64):
    compare("float64" if jax.config.jax_enable_x64 else "float32")
"""
    narrow, wide = "{('float32', 'int32')}", "{('float64', 'int64')}"
    assert printed(program, bits64=False) == [f"True {narrow}", f"True {wide}"]


@pytest.mark.needs("jax")
def test_a_loop_is_compiled_once_for_all_full_batches(monkeypatch):
    """Also for those that are the last of an epoch, and fewer than are read together elsewhere."""
    monkeypatch.setattr(reader, "SIZE", 3 * 7 * 5)
    examples = Examples(next(case for case in CASES["jax"]))
    shapes, call = set(), JittedLoop.__call__

    def noting(self, params, state, data, batches):
        shapes.add((data["x"].shape, str(data["x"].dtype), data["t"].shape, batches[0].shape))
        return call(self, params, state, data, batches)

    monkeypatch.setattr(JittedLoop, "__call__", noting)
    ours = examples.fit(ap.Source(examples.host), epochs=3)
    assert shapes == {
        ((21, 4), "uint8", (21,), (7,)),  # of 28 rows, the last 7 of which are filled up
        ((2, 4), "uint8", (2,), (2,)),
    }
    examples.assert_same(ours, examples.fit(examples.problem.data, epochs=3))


class Slow(Rows):
    """Takes a hundredth of a second to answer."""

    def __getitem__(self, rows):
        time.sleep(0.01)
        return super().__getitem__(rows)


@pytest.mark.parametrize("ahead", [0, 1])
def test_waiting_is_recorded(examples, ahead, monkeypatch, tmp_path):
    monkeypatch.setattr(reader, "SIZE", 1)
    source = ap.Source(Slow(*examples.host), ahead=ahead)
    saving = [ap.Checkpoints(tmp_path, every=1, keep=99), ap.CSVLogger(tmp_path / "log.csv")]
    history = examples.fit(source, epochs=2, callbacks=saving).history
    for record in history.epochs:
        assert 0.0 < record.waited <= record.seconds
        if not ahead:  # there are five batches
            assert record.waited >= 0.05
    assert ap.History.from_dict(history.to_dict()) == history
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    column = header.split(",").index("waited")
    assert [float(row.split(",")[column]) for row in rows] == [r.waited for r in history.epochs]
    # What was waited for before an interruption counts.
    loaded = ap.load(tmp_path / "step-00000009.safetensors")
    assert loaded.history.epochs == history.epochs[:1]
    again = examples.fit(source, epochs=2, resume=tmp_path / "step-00000009.safetensors")
    if not ahead:
        assert again.history.epochs[-1].waited >= 0.05
    assert examples.fit(examples.problem.data).history.epochs[0].waited is None


def test_the_bar_shows_waiting_where_it_matters(backend, monkeypatch, capsys):
    monkeypatch.setattr(reader, "SIZE", 1)
    examples = Examples(backend)
    examples.fit(ap.Source(Slow(*examples.host), ahead=0), progress=True)
    assert "waits for data=" in capsys.readouterr().err
    examples.fit(examples.problem.data, progress=True)
    assert "waits" not in capsys.readouterr().err
