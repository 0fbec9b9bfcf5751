"""`fit` on several ranks, which are threads here: the results of one process, on all of them."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from parallel_cases import CASES, assert_equal
from ranks import on_ranks

CASE = CASES["plain"]


@pytest.fixture(scope="module")
def alone():
    return {name: case.fit() for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_fit_as_one_process(name, size, alone):
    results = on_ranks(size, CASES[name].fit)
    assert_equal(results[0], alone[name])
    for other in results[1:]:
        assert_equal(other, results[0], tolerance=0)


@pytest.mark.filterwarnings("ignore:the step runs uncompiled. JAX cannot trace")  # a SyncBatchNorm
@pytest.mark.parametrize("name", ["accumulated", "everything"])
def test_ranks_fit_as_one_process_on_every_backend(backend, name, alone):
    results = on_ranks(2, lambda communicator: CASES[name].fit(communicator, backend.xp))
    assert_equal(results[0], alone[name], tolerance=1e-10)


@pytest.mark.parametrize("name", ["accumulated", "everything"])
def test_a_compiled_step_equals_the_step_bit_for_bit(name):
    compiled, eager = (
        on_ranks(2, lambda c, how=how: CASES[name].fit(c, compile=how))[0] for how in (True, False)
    )
    assert_equal(compiled, eager, tolerance=0)


def test_recording_a_step_sends_nothing():
    """Ranks record at different steps, as their shapes come up; none may wait for the others then."""

    def reductions(communicator, how):
        CASES["batch-norm"].fit(communicator, compile=how, report_every=1000)
        return communicator.reductions

    compiled, eager = (on_ranks(3, lambda c, how=how: reductions(c, how)) for how in (True, False))
    assert compiled == eager


class Recorder(ap.Callback):
    """Write down what is called, and do something to the run at one of its steps."""

    def __init__(self, act=lambda run: None, at=-1):
        self.calls, self.act, self.at = [], act, at

    def on_start(self, run):
        self.calls.append("start")

    def on_report(self, run):
        self.calls.append(run.step)
        if run.step == self.at:
            self.act(run)

    def on_end(self, run):
        self.calls.append("end")


def recorded(act=lambda run: None, at=-1):
    """Fit on two ranks, each with a recorder; return the recorders and the results."""

    def train(communicator):
        recorder = Recorder(act, at)
        return recorder, CASE.fit(communicator, callbacks=[recorder], report_every=10)

    return zip(*on_ranks(2, train), strict=True)


def test_callbacks_are_called_on_rank_0_only():
    (first, second), _ = recorded()
    assert first.calls[0] == "start"
    assert 10 in first.calls
    assert first.calls[-1] == "end"
    assert second.calls == []


def test_a_callback_stops_all_ranks_at_the_same_step():
    _, results = recorded(lambda run: run.stop(), at=20)
    assert [len(numbers["losses"]) for numbers in results] == [20, 20]


def double(run):
    run.params = run.params.replace(flat=run.params.flat * 2.0)


def slow_down(run):
    run.state = run.state._replace(lr_scale=0.25)


@pytest.mark.parametrize("act", [double, slow_down])
def test_what_a_callback_changes_holds_for_all_ranks(act):
    _, results = recorded(act, at=20)
    alone = CASE.fit(callbacks=[Recorder(act, at=20)], report_every=10)
    untouched = CASE.fit()
    assert np.max(np.abs(alone["flat"] - untouched["flat"])) > 1e-3
    for numbers in results:
        assert_equal(numbers, alone)


def test_early_stopping_restores_the_same_parameters_everywhere():
    def train(communicator=None):
        stopping = ap.EarlyStopping(patience=2)
        return CASE.fit(communicator, callbacks=[stopping], steps=None, epochs=60)

    alone = train()
    assert len(alone["losses"]) < 180
    for numbers in on_ranks(2, train):
        assert_equal(numbers, alone)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"batch_size": 10}, "batch_size"),
        ({"optimizer": ap.RMSProp(lr=0.02)}, "optimizer"),
        ({"loss": ap.SoftmaxCrossEntropy(label_smoothing=0.1), "seed": 4}, "loss, seed"),
    ],
)
def test_ranks_that_are_called_differently_are_told_so(options, named):
    refused = []

    def train(communicator):
        with pytest.raises(ValueError, match=f"the ranks were given different {named};"):
            CASE.fit(communicator, **(options if communicator.rank == 1 else {}))
        refused.append(communicator.rank)

    on_ranks(2, train)
    assert sorted(refused) == [0, 1]


@pytest.mark.parametrize("other", ["data", "sample_weight", "validation", "validation of a Source"])
def test_ranks_with_other_data_are_told_so(other):
    x, t, _ = CASE.data()
    given = {"data": (x, t), "sample_weight": np.arange(1.0, len(x) + 1), "validation": (x, t)}
    name = other.partition(" ")[0]
    if name != other:
        given[name] = ap.Source(given[name])
    told = "data" if name == "sample_weight" else name
    turned = {name: given[name][::-1].copy()} if name == "sample_weight" else {name: (x[::-1], t)}

    def train(communicator):
        mine = given | turned if communicator.rank == 1 else given
        params = CASE.net.init(dtype="float64")
        how = {"loss": CASE.loss, "optimizer": CASE.opt, "communicator": communicator}
        ap.fit(CASE.net, params, mine["data"], **how, **{k: mine[k] for k in given if k != "data"})

    with pytest.raises(ValueError, match=f"different rows at the ends of {told};"):
        on_ranks(2, train)


def test_the_state_of_rank_0_holds_for_all_with_its_mask():
    x, t, _ = CASE.data()
    optimizer = ap.Adam(weight_decay=0.5, decay_biases=False)
    params = CASE.net.init(dtype="float64")
    fresh = optimizer.init(params)
    slots = {
        name: slot.replace(flat=slot.flat + i) for i, (name, slot) in enumerate(fresh.slots.items())
    }
    mask = fresh.decay_mask.replace(flat=1.0 - fresh.decay_mask.flat)
    own = fresh._replace(slots=slots, decay_mask=mask)
    turned = own._replace(slots=dict(reversed(slots.items())), decay_mask=fresh.decay_mask)

    def train(communicator=None):
        state = own if communicator is None or communicator.rank == 0 else turned
        how = {"loss": CASE.loss, "optimizer": optimizer, "communicator": communicator}
        return ap.fit(CASE.net, params, (x, t), state=state, batch_size=10, **how).params.flat

    alone = train()
    for flat in on_ranks(2, train):
        np.testing.assert_allclose(flat, alone, rtol=1e-12)


def test_settings_that_only_lie_elsewhere_in_memory_are_the_same():
    class OwnLoss(ap.SoftmaxCrossEntropy):
        __repr__ = object.__repr__

    on_ranks(2, lambda c: CASE.fit(c, loss=OwnLoss(), optimizer=ap.SGD(lr=lambda step: 0.1)))


def spoiled(communicator, bad_rank, at_step, **options):
    """Train on rows in a fixed order, of which those of one rank overflow in one batch."""
    x, _, _ = CASE.data()
    x[11 + (0 if bad_rank == 0 else 11)] = 1e300

    def batches(n, batch_size, epoch):
        good, bad = np.arange(11), np.arange(11, 23)
        return [good] * (at_step - 1) + [bad] + [good] * 5

    ap.fit(
        CASE.net,
        CASE.net.init(dtype="float64"),
        (x, x[:, :3] / 1e3),
        loss=ap.MeanSquaredError(),
        optimizer=CASE.opt,
        batches=batches,
        steps=20,
        communicator=communicator,
        **{"report_every": 4, **options},
    )


@pytest.mark.parametrize("bad_rank", [0, 1])
@pytest.mark.parametrize("at_step", [1, 4, 6])
def test_the_rank_whose_rows_spoil_the_loss_is_named(bad_rank, at_step):
    told = []

    def train(communicator):
        with pytest.raises(ap.TrainingDivergedError) as caught:
            spoiled(communicator, bad_rank, at_step)
        told.append(str(caught.value))
        assert caught.value.step == at_step

    on_ranks(2, train)
    assert len(told) == 2
    for text in told:
        assert text.endswith(f" It came from the rows of rank {bad_rank}.")


def test_a_checkpoint_that_finds_the_loss_spoiled_ends_all_ranks(tmp_path):
    """It reads the losses before anything else does, on rank 0 alone."""

    def train(communicator):
        keep = [ap.Checkpoints(tmp_path, every=5)]
        with pytest.raises(ap.TrainingDivergedError) as caught:
            spoiled(communicator, 1, 3, callbacks=keep, report_every=1000)
        assert caught.value.step == 3
        return str(caught.value)

    first, second = on_ranks(2, train)
    assert first == second


def test_a_checkpoint_that_rank_0_cannot_read_is_told_on_all_ranks(tmp_path):
    def train(communicator):
        with pytest.raises(ap.ResumeError) as caught:
            CASE.fit(communicator, resume=tmp_path)
        return str(caught.value)

    first, second = on_ranks(2, train)
    assert first == second
    assert str(tmp_path) in first


def test_evaluation_is_exact_over_shares(backend):
    x, t, _ = CASE.data(backend.xp)
    loss = ap.SoftmaxCrossEntropy(class_weight=[0.3, 2.0, 1.0])
    params = CASE.net.init(8, xp=backend.xp, dtype="float64")
    alone = ap.evaluate(CASE.net, params, (x, t), loss=loss)
    for size in (2, 3, 30):
        for ours in on_ranks(
            size,
            lambda c: ap.evaluate(
                CASE.net, params, (x, t), loss=loss, batch_size=4, communicator=c
            ),
        ):
            assert ours.accuracy == alone.accuracy
            np.testing.assert_allclose(ours.loss, alone.loss, rtol=1e-14)
