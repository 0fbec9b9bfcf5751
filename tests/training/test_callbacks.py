"""Callbacks: when they are called, and what each of them does."""

import csv
import itertools
import json
import math

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import namespace
from anyprop.layers.base import Layer


class Recorder(ap.Callback):
    def __init__(self):
        self.calls = []

    def on_start(self, run):
        self.calls.append(("start", run.step, run.epoch))

    def on_report(self, run):
        assert len(run.history.losses) == run.step
        self.calls.append(("report", run.step, run.epoch))

    def on_epoch(self, run):
        assert run.history.epochs[-1].step == run.step
        self.calls.append(("epoch", run.step, run.epoch))

    def on_end(self, run):
        self.calls.append(("end", run.step, run.epoch))


def test_the_order_of_the_calls(problem):
    recorder = Recorder()
    problem.fit(steps=8, report_every=2, callbacks=[recorder])
    assert recorder.calls == [
        ("start", 0, 0),
        ("report", 2, 0),
        ("report", 4, 0),
        ("report", 5, 0),
        ("epoch", 5, 1),
        ("report", 6, 1),
        ("report", 8, 1),
        ("epoch", 8, 2),
        ("end", 8, 2),
    ]


@pytest.mark.parametrize(("hook", "steps"), [("on_start", 0), ("on_report", 2), ("on_epoch", 5)])
def test_stop(problem, hook, steps):
    """A run that is stopped within an epoch records that part of it, and ends regularly."""
    stopper, recorder = ap.Callback(), Recorder()
    setattr(stopper, hook, lambda run: run.stop())
    result = problem.fit(
        epochs=3, report_every=2, validation=problem.data, callbacks=[stopper, recorder]
    )
    assert len(result.history.losses) == steps
    assert not result.interrupted
    assert recorder.calls[-1][:2] == ("end", steps)
    assert [record.step for record in result.history.epochs] == [steps] * (steps > 0)


def test_an_error_in_a_callback_is_not_swallowed(problem):
    class Broken(ap.Callback):
        def on_epoch(self, run):
            raise RuntimeError("of my own")

    with pytest.raises(RuntimeError, match="of my own"):
        problem.fit(callbacks=[Broken()])


def test_a_callback_can_replace_the_parameters(problem):
    start = problem.params()

    class Restart(ap.Callback):
        def on_epoch(self, run):
            run.params = start

    result = problem.fit(epochs=1, callbacks=[Restart()])
    np.testing.assert_array_equal(problem.numpy(result.params.flat), problem.numpy(start.flat))
    other = problem.with_(net=ap.MLP([4, 5, 3])).params()
    Restart.on_epoch = lambda self, run: setattr(run, "params", other)
    with pytest.raises(ValueError, match="cannot go on"):
        problem.fit(callbacks=[Restart()])


@pytest.mark.parametrize("compile", [True, False])
def test_what_a_run_cannot_go_on_with_is_refused_where_it_is_handed_over(problem, compile):
    normed = problem.with_(net=ap.MLP([4, 6, 3], norm="batch"))
    params, other = normed.params(), normed.params(dtype="float32")
    elsewhere = ap.get_namespace("array_api_strict" if problem.backend.name == "numpy" else "numpy")
    state = normed.optimizer.init(params)
    cases = [
        ("params", other, TypeError, "float64 .* cannot go on with float32"),
        ("params", normed.net.init(xp=elsewhere), TypeError, "run.params belongs to"),
        ("params", ap.Parameters(params.layout, params.flat), ValueError, "running statistics"),
        ("params", None, TypeError, "net.init"),
        ("state", ap.SGD().init(params), ValueError, "keeps .*, but the state has none"),
        ("state", normed.optimizer.init(other), TypeError, "float64.*float32"),
        ("state", state._replace(decay_mask=params), ValueError, "has a decay_mask"),
        ("state", state._replace(lr_scale=-1.0), ValueError, "lr_scale must be"),
        ("state", state._replace(step=-1), ValueError, "state.step must be"),
        ("state", {}, TypeError, "optimizer.init"),
    ]
    seen = []

    class Replace(ap.Callback):
        def on_epoch(self, run):
            for name, value, error, match in cases:
                before = run.snapshot()
                with pytest.raises(error, match=match):
                    setattr(run, name, value)
                assert run.params.layout is before[0].layout
                assert run.state.slots.keys() == before[1].slots.keys()
                seen.append(match)

    result = normed.fit(epochs=2, callbacks=[Replace()], compile=compile)
    assert len(seen) == 2 * len(cases)
    plain = normed.fit(epochs=2, compile=compile)
    assert result.history.losses == plain.history.losses


def test_snapshots_stay_as_they_are(problem):
    snapshots, seen = [], []

    class Keep(ap.Callback):
        def on_report(self, run):
            params, state = run.snapshot()
            snapshots.append((params.flat, state.slots["h"].flat, state.step))
            seen.append(
                [problem.numpy(a).copy() for a in (run.params.flat, run.state.slots["h"].flat)]
            )

    problem.fit(epochs=2, report_every=1, callbacks=[Keep()])
    assert [step for _, _, step in snapshots] == list(range(1, 11))
    for arrays, wanted in zip(snapshots, seen, strict=True):
        for array, was in zip(arrays[:2], wanted, strict=True):
            np.testing.assert_array_equal(problem.numpy(array), was)


def test_what_a_callback_hands_over_stays_its_own(problem):
    """The steps that follow may work in place, but not in arrays of the callback."""
    start = problem.params()
    state = problem.optimizer.init(start)
    held = [start.flat, state.slots["h"].flat]
    before = [problem.numpy(array).copy() for array in held]

    class Restart(ap.Callback):
        def on_report(self, run):
            run.params, run.state = start, state

    result = problem.fit(steps=9, report_every=1, callbacks=[Restart()])
    for array, was in zip(held, before, strict=True):
        np.testing.assert_array_equal(problem.numpy(array), was)
    np.testing.assert_array_equal(problem.numpy(result.params.flat), before[0])


def test_what_a_run_shows(problem):
    class Look(ap.Callback):
        def on_start(self, run):
            assert run.lr == 0.02
            assert run.monitors == ("train_loss", "validation_loss", "validation_accuracy")
            assert (run.net, run.loss) == (problem.net, problem.loss)
            assert run.optimizer is problem.optimizer

    problem.fit(validation=problem.data, callbacks=[Look()])


class Script(ap.Callback):
    """Overwrites the records' measures by given ones, before other callbacks see them."""

    def __init__(self, name, values):
        self.name, self.values = name, list(values)
        self.params = []

    def on_epoch(self, run):
        object.__setattr__(run.history.epochs[-1], self.name, self.values[run.epoch - 1])
        self.params.append((run.params, run.state))


@pytest.mark.parametrize(
    ("monitor", "values", "options", "best", "ended"),
    [
        ("validation_loss", [3, 2, 1, 2, 1, 0.5, 0.4], {"patience": 2}, 3, 5),
        ("validation_loss", [3, 2, 2, 2, 1, 0, 0], {"patience": 3}, 6, 7),
        ("validation_loss", [3, 2.95, 2.9, 2.4], {"patience": 2, "min_delta": 0.2}, 1, 3),
        ("validation_accuracy", [0.1, 0.5, 0.4, 0.5, 0.9], {"patience": 2}, 2, 4),
        ("train_loss", [1, 2, 3], {"patience": 1}, 1, 2),
        ("validation_loss", [2, math.nan, math.inf, 1], {"patience": 2}, 1, 3),
        ("validation_loss", [math.nan, 2, 3, 4], {"patience": 2}, 2, 4),
        ("validation_loss", [5, 4, 3, 2], {"patience": 1}, 4, 4),
    ],
)
def test_early_stopping_restores_the_best_epoch(problem, monitor, values, options, best, ended):
    net = ap.Sequential(ap.Affine(4, 5), ap.BatchNorm(5), ap.Affine(5, 3))
    problem = problem.with_(net=net)
    script = Script(monitor, values)
    result = problem.fit(
        epochs=len(values),
        validation=problem.data,
        callbacks=[script, ap.EarlyStopping(monitor, **options)],
    )
    assert len(result.history.epochs) == ended
    assert result.state.step == 5 * best
    wanted = problem.fit(epochs=best)
    for ours, theirs in [
        (result.params.flat, wanted.params.flat),
        (result.params.running, wanted.params.running),
        (result.state.slots["h"].flat, wanted.state.slots["h"].flat),
    ]:
        np.testing.assert_array_equal(problem.numpy(ours), problem.numpy(theirs))


def test_early_stopping_restores_the_best_epoch_after_ctrl_c_too(problem):
    class Interrupt(ap.Callback):
        def on_report(self, run):
            if run.step == 18:
                raise KeyboardInterrupt

    result = problem.fit(
        epochs=9,
        report_every=1,
        validation=problem.data,
        callbacks=[Script("validation_loss", [2, 1, 3]), ap.EarlyStopping(), Interrupt()],
    )
    assert result.interrupted
    assert result.state.step == 10


def test_early_stopping_before_the_first_epoch_keeps_what_there_is(problem):
    class Stop(ap.Callback):
        def on_report(self, run):
            raise KeyboardInterrupt

    result = problem.fit(report_every=2, callbacks=[ap.EarlyStopping("train_loss"), Stop()])
    assert result.state.step == 2


def test_a_callback_serves_several_runs(problem):
    stopping = ap.EarlyStopping(patience=2)
    for _ in range(2):
        script = Script("validation_loss", [1, 0.5, 2, 2, 2])
        result = problem.fit(epochs=5, validation=problem.data, callbacks=[script, stopping])
        assert len(result.history.epochs) == 4
        assert result.state.step == 10


def test_reduce_lr_on_plateau(problem):
    optimizer = ap.SGD(lr=0.08)
    reduce = ap.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=0.015)
    values = [3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    result = problem.fit(
        epochs=11,
        optimizer=optimizer,
        validation=problem.data,
        callbacks=[Script("validation_loss", values), reduce],
    )
    # The second epoch is the best until the seventh; two without improvement halve the rate.
    wanted = [0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.02, 0.02, 0.02, 0.015, 0.015]
    np.testing.assert_allclose([r.lr for r in result.history.epochs], wanted, rtol=1e-14)
    np.testing.assert_allclose(result.state.lr_scale, 0.015 / 0.08, rtol=1e-14)


def test_a_reduced_rate_is_the_rate_of_the_steps_that_follow(problem):
    reduce = ap.ReduceLROnPlateau("train_loss", factor=0.25, patience=1)
    script = Script("train_loss", [1, 1, 0])
    result = problem.fit(epochs=3, optimizer=ap.SGD(lr=0.4), callbacks=[script, reduce])
    first = problem.fit(epochs=2, optimizer=ap.SGD(lr=0.4))
    second = problem.fit(
        first.params,
        epochs=1,
        optimizer=ap.SGD(lr=0.1),
        batches=lambda n, batch_size, epoch: ap.batch_indices(n, batch_size, seed=3, epoch=2),
    )
    np.testing.assert_allclose(
        problem.numpy(result.params.flat), problem.numpy(second.params.flat), rtol=1e-13
    )


def test_a_reduced_rate_multiplies_a_schedule(problem):
    optimizer = ap.SGD(lr=lambda step: 0.1 / (1 + step))
    reduce = ap.ReduceLROnPlateau("train_loss", factor=0.5, patience=1)
    script = Script("train_loss", [1, 1, 1])
    result = problem.fit(epochs=3, optimizer=optimizer, callbacks=[script, reduce])
    lrs = [record.lr for record in result.history.epochs]
    np.testing.assert_allclose(lrs, [0.1 / 5, 0.1 / 10, 0.05 / 15], rtol=1e-14)


@pytest.mark.parametrize("make", [ap.EarlyStopping, ap.ReduceLROnPlateau])
def test_monitors_are_checked_before_the_first_step(problem, make):
    with pytest.raises(ValueError, match="did you mean 'validation_loss'"):
        make("validaton_loss")
    with pytest.raises(ValueError, match=r"validation=.*use one of: train_loss"):
        problem.fit(callbacks=[make()])
    t = problem.backend.asarray(np.zeros((30, 3)))
    regression = problem.with_(t=t, loss=ap.MeanSquaredError())
    with pytest.raises(ValueError, match="no accuracy"):
        regression.fit(validation=regression.data, callbacks=[make("validation_accuracy")])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (ap.EarlyStopping, {"patience": 0}),
        (ap.EarlyStopping, {"min_delta": -1}),
        (ap.ReduceLROnPlateau, {"patience": 0}),
        (ap.ReduceLROnPlateau, {"factor": 1.0}),
        (ap.ReduceLROnPlateau, {"factor": -0.1}),
        (ap.ReduceLROnPlateau, {"min_lr": -1.0}),
    ],
)
def test_options_out_of_range(make, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(**options)


def test_csv_logger(problem, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("of an older run\n")
    history = problem.fit(epochs=3, validation=problem.data, callbacks=[ap.CSVLogger(path)]).history
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [{k: float(v) if v else None for k, v in row.items()} for row in rows]
    assert told == history.to_dict()["epochs"]


def test_csv_logger_leaves_cells_empty_where_nothing_was_measured(problem, tmp_path):
    problem.fit(callbacks=[ap.CSVLogger(tmp_path / "log.csv")])
    with (tmp_path / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["validation_loss"] == row["validation_accuracy"] == ""


def test_json_logger(problem, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("of an older run\n")
    history = problem.fit(epochs=3, callbacks=[ap.JSONLogger(path)]).history
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.to_dict()["epochs"]


@pytest.mark.parametrize("make", [ap.CSVLogger, ap.JSONLogger])
def test_loggers_write_while_the_run_goes_on_and_fail_before_it(problem, make, tmp_path):
    path = tmp_path / "log"
    lines = []

    class Read(ap.Callback):
        def on_epoch(self, run):
            lines.append(len(path.read_text().splitlines()))

    problem.fit(epochs=3, callbacks=[make(path), Read()])
    assert [b - a for a, b in itertools.pairwise(lines)] == [1, 1]
    recorder = Recorder()
    with pytest.raises(OSError, match="missing"):
        problem.fit(callbacks=[make(tmp_path / "missing" / "log"), recorder])
    assert recorder.calls == []


def test_where_a_run_is_settled(problem):
    calls = []

    class Settled(ap.Callback):
        def on_settled(self, run, *, ending):
            calls.append((run.epoch, run.batch, run.step, ending))

        def on_epoch(self, run):
            calls.append("epoch")

    first = [(0, k, k, False) for k in range(1, 6)]
    problem.fit(epochs=1, callbacks=[Settled()])
    assert calls == [*first, "epoch", (1, 0, 5, False), (1, 0, 5, True)]
    calls.clear()
    problem.fit(steps=7, callbacks=[Settled()])
    then = [(1, 1, 6, False), (1, 2, 7, False), (1, 2, 7, True)]
    assert calls == [*first, "epoch", (1, 0, 5, False), *then, "epoch"]


def test_a_layer_of_your_own_trains(problem):
    """A layer without the optional methods, and a network that is that layer alone."""

    class Scale(Layer):
        def specs(self):
            return {"a": ap.Spec((1,), 0.5)}

        def forward(self, params, x):
            return x * params.a, x

        def backward(self, params, residuals, dy):
            xp = namespace(dy)
            return dy * params.a, {"a": xp.reshape(xp.sum(residuals * dy), (1,))}

    x = problem.x
    scaled = problem.with_(net=Scale(), t=x * 3.0, loss=ap.MeanSquaredError())
    result = scaled.fit(epochs=60, optimizer=ap.SGD(lr=0.2))
    np.testing.assert_allclose(problem.numpy(result.params.flat), [3.0], rtol=1e-6)
