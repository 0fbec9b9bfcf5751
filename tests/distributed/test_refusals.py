"""What one rank refuses, and what fails on one rank, ends all of them."""

import threading

import numpy as np
import pytest

import anyprop as ap
from anyprop._signals import HeldSignals
from parallel_cases import BATCH, CASES, SEED, N
from ranks import on_ranks

CASE = CASES["plain"]


def caught(call):
    with pytest.raises((ValueError, TypeError, RuntimeError, LookupError)) as error:
        call()
    return error.value


def told_by(size, bad_rank, call):
    """Call on all ranks; return the error of one of them, and those of the others."""
    errors = on_ranks(size, lambda communicator: caught(lambda: call(communicator)))
    return errors.pop(bad_rank), errors


class Unlabelled(ap.SoftmaxCrossEntropy):
    """Cannot measure accuracy."""

    def correct(self, y, t):
        raise LookupError("own")


REFUSED = {
    "epochs": {"epochs": 0, "steps": None},
    "batch_size": {"batch_size": 0},
    "seed": {"seed": -1},
    "accumulate": {"accumulate": 0},
    "accumulate of another type": {"accumulate": 1.5},
    "torch_backend": {"torch_backend": "inductor"},
    "callbacks": {"callbacks": ap.EarlyStopping()},
    "loss": {"loss": "mse"},
    "measures": {"loss": Unlabelled()},
    "validation": {"validation": 0.1},
    "allow_changes": {"allow_changes": True},
    "state beside resume": {"state": ap.SGD().init(CASE.net.init()), "resume": "."},
    "state of another optimizer": {"state": ap.Adam().init(CASE.net.init(dtype="float64"))},
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("bad_rank", [0, 2])
def test_all_ranks_refuse_what_one_refuses(name, bad_rank):
    def fit(communicator):
        mine = REFUSED[name] if communicator.rank == bad_rank else {}
        CASE.fit(communicator, **{"loss": same, **mine})

    # Two losses that look alike, of which one fails.
    same = ap.SoftmaxCrossEntropy()
    if name == "measures":
        Unlabelled.__name__ = "SoftmaxCrossEntropy"
    own, others = told_by(3, bad_rank, fit)
    text = f"rank {bad_rank} refused its arguments: {type(own).__name__}: {own}"
    for error in others:
        assert (type(error), str(error)) == (ValueError, text)


@pytest.mark.parametrize("name", ["resume", "allow_changes"])
def test_ranks_begin_in_the_same_place(name, tmp_path):
    CASE.fit(steps=5, callbacks=[ap.Checkpoints(tmp_path, every=5)])
    given = {"resume": {"resume": tmp_path}, "allow_changes": {"allow_changes": True}}[name]
    both = {} if name == "resume" else {"resume": tmp_path}

    def fit(communicator):
        mine = given if communicator.rank == 1 else {}
        CASE.fit(communicator, **both, **mine)

    own, (other,) = told_by(2, 1, fit)
    assert str(own) == str(other)
    assert f"the ranks were given different {name};" in str(own)


def test_a_run_that_is_complete_is_refused_on_all_ranks(tmp_path):
    CASE.fit(steps=5, callbacks=[ap.Checkpoints(tmp_path, every=5)])
    own, (other,) = told_by(2, 0, lambda c: CASE.fit(c, steps=3, resume=tmp_path))
    assert type(own) is type(other) is ap.ResumeError
    assert "has done 5 steps" in str(own)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 0}, "rank 1 refused its arguments: ValueError: evaluate: batch_size"),
        ({"loss": "mse"}, "rank 1 refused its arguments: TypeError: loss must be"),
        ({"data": 3}, "rank 1 refused its arguments: TypeError: data must be a pair"),
        ({"loss": ap.SoftmaxCrossEntropy(label_smoothing=0.1)}, "different loss;"),
        ({"data": CASE.data()[0:2], "rows": 22}, "different examples"),
    ],
)
def test_ranks_agree_before_they_evaluate(change, named):
    x, t, _ = CASE.data()

    def evaluate(communicator):
        options = {"data": (x, t), "loss": ap.SoftmaxCrossEntropy(), "batch_size": 4}
        if communicator.rank == 1:
            options |= change
            if "rows" in options:
                rows = options.pop("rows")
                options["data"] = tuple(array[:rows] for array in options["data"])
        params = CASE.net.init(8, dtype="float64")
        ap.evaluate(CASE.net, params, options.pop("data"), communicator=communicator, **options)

    _, others = told_by(3, 1, evaluate)
    for error in others:
        assert named in str(error)


class Failing(ap.Callback):
    def __init__(self, event):
        setattr(self, event, self.fail)

    def fail(self, run, **options):
        raise LookupError("own")


class SettledFailing(ap.Callback):
    def on_settled(self, run, *, ending):
        raise LookupError("own")


EVENTS = ["on_start", "on_report", "on_epoch", "on_end"]


@pytest.mark.parametrize("callback", [*map(Failing, EVENTS), SettledFailing()])
def test_all_ranks_end_when_a_callback_fails(callback):
    own, others = told_by(3, 0, lambda c: CASE.fit(c, callbacks=[callback]))
    assert str(own) == "own"
    assert [str(error) for error in others] == ["rank 0 failed: LookupError: own"] * 2


def fail_at(step, bad):
    """Return the batches and the schedule of a rank that fails at a step, or of one that does not."""

    def batches(n, batch_size, epoch):
        for k, rows in enumerate(ap.batch_indices(n, batch_size, seed=SEED, epoch=epoch)):
            if bad and 3 * epoch + k == step:
                raise LookupError("own")
            yield rows

    def schedule(updates):
        if bad and updates == step:
            raise LookupError("own")
        return 0.01

    return batches, schedule


class FailingBar:
    """Fails where it is told to."""

    def __init__(self, at):
        self.at = at

    def made(self, total, done, *, shown):
        return self

    def show(self, steps, loss, waiting):
        self._fail("show")

    def close(self):
        self._fail("close")

    def _fail(self, method):
        if method == self.at:
            raise LookupError("own")


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("step", [3, 4, 99])
@pytest.mark.parametrize("bad_rank", [0, 1])
@pytest.mark.parametrize("what", ["batches", "schedule"])
def test_all_ranks_end_when_something_beside_the_steps_fails(what, bad_rank, step, compile):
    def fit(communicator):
        batches, schedule = fail_at(step, bad=communicator.rank == bad_rank)
        given = {"batches": batches}
        if what == "schedule":
            given = {"optimizer": ap.SGD(lr=Schedule(schedule))}
        CASE.fit(communicator, compile=compile, report_every=7, **given)

    own, others = told_by(3, bad_rank, fit)
    assert str(own) == "own"
    for error in [own, *others]:
        assert len(error.history.losses) == error.state.step == step
    assert [str(error) for error in others] == [f"rank {bad_rank} failed: LookupError: own"] * 2
    for error in others:
        np.testing.assert_array_equal(error.params.flat, own.params.flat)


@pytest.mark.parametrize(("during", "steps"), [("step", 4), ("epoch", 3)])
def test_all_ranks_stop_after_the_same_step_when_a_signal_came_to_one(during, steps, monkeypatch):
    """A stand-in says that it came: handlers of signals belong to the main thread."""
    rank = threading.local()

    def came(self):
        found, rank.has_signal = rank.has_signal, False
        return found

    monkeypatch.setattr(HeldSignals, "came", property(came))

    def fit(communicator):
        def schedule(updates):
            come("step", updates == 3)
            return 0.01

        def come(when, now=True):
            # Callbacks are called on rank 0 alone.
            rank.has_signal = communicator.rank == 0 and when == during and now

        class Coming(ap.Callback):
            def on_epoch(self, run):
                come("epoch")

        rank.has_signal = False
        optimizer = ap.SGD(lr=Schedule(schedule))
        return CASE.fit(communicator, compile=False, optimizer=optimizer, callbacks=[Coming()])

    results = on_ranks(3, fit)
    assert [len(result["losses"]) for result in results] == [steps] * 3


class Schedule:
    """A function that looks alike on all ranks."""

    def __init__(self, function):
        self.function = function

    def __call__(self, step):
        return self.function(step)

    def __repr__(self):
        return "Schedule()"


def test_a_schedule_is_not_asked_beyond_the_last_step():
    def schedule(updates):
        assert updates < 10
        return 0.01

    def fit(communicator):
        CASE.fit(communicator, steps=10, optimizer=ap.SGD(lr=Schedule(schedule)))

    on_ranks(2, fit)


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_all_ranks_end_when_the_validation_fails(bad_rank):
    class Loss(ap.SoftmaxCrossEntropy):
        def __init__(self, bad):
            super().__init__()
            object.__setattr__(self, "bad", bad)
            object.__setattr__(self, "asked", [])

        def correct(self, y, t):
            self.asked.append(1)
            if self.bad and len(self.asked) == 3:  # once before the run
                raise LookupError("own")
            return super().correct(y, t)

    def fit(communicator):
        CASE.fit(communicator, loss=Loss(communicator.rank == bad_rank))

    own, others = told_by(3, bad_rank, fit)
    assert str(own) == "own"
    assert [str(error) for error in others] == [f"rank {bad_rank} failed: LookupError: own"] * 2
    for error in [own, *others]:
        assert len(error.history.epochs) == 1
        assert len(error.history.losses) == error.state.step == 6


@pytest.mark.parametrize("at", ["show", "close"])
def test_all_ranks_end_when_the_progress_bar_fails(at, monkeypatch):
    monkeypatch.setattr("anyprop.training.fit.Bar", FailingBar(at).made)
    own, others = told_by(
        2, 0, lambda c: CASE.fit(c, progress=True) if c.rank == 0 else CASE.fit(c)
    )
    assert str(own) == "own"
    assert "own" in str(others[0])
    assert own.state.step == {"show": 3, "close": 100}[at]


@pytest.mark.parametrize("differs", ["rows", "number", "rate"])
def test_ranks_that_draw_differently_are_told_so(differs):
    def fit(communicator):
        bad = communicator.rank == 1

        def batches(n, batch_size, epoch):
            own = list(ap.batch_indices(N, BATCH, seed=SEED, epoch=epoch))
            if bad and epoch == 1 and differs == "rows":
                own[1] = own[1][::-1]
            if bad and epoch == 1 and differs == "number":
                own.pop()
            return own

        def schedule(updates):
            return 0.02 if bad and updates == 4 and differs == "rate" else 0.01

        CASE.fit(communicator, batches=batches, optimizer=ap.SGD(lr=Schedule(schedule)))

    own, others = told_by(3, 1, fit)
    for error in [own, *others]:
        assert "the ranks drew different batches or learning rates" in str(error)
        assert error.state.step == {"rows": 4, "number": 5, "rate": 4}[differs]
