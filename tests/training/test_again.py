"""`fit` leaves what it was given as it was, and a callback serves one run after the other."""

import contextlib
import copy
import shutil

import numpy as np
import pytest

import anyprop as ap

CALLBACKS = {
    "EarlyStopping": lambda folder: ap.EarlyStopping(patience=2),
    "ReduceLROnPlateau": lambda folder: ap.ReduceLROnPlateau(patience=1, factor=0.3),
    "Checkpoints": lambda folder: ap.Checkpoints(folder / "steps", every=3, keep=2),
    "CSVLogger": lambda folder: ap.CSVLogger(folder / "log.csv"),
    "JSONLogger": lambda folder: ap.JSONLogger(folder / "log.jsonl"),
}


class Failing(ap.Callback):
    def __init__(self, error):
        self.error = error

    def on_report(self, run):
        if run.epoch == 6 and self.error is not None:
            raise self.error


def trained(problem, callback, error=None, seed=3):
    """Train with rates that bring no improvement in the end; return all numbers that follow."""
    options = {"optimizer": ap.SGD(lr=3.0), "epochs": 12, "validation": problem.data, "seed": seed}
    result = problem.fit(callbacks=[callback, Failing(error)], **options)
    records = [(r.train_loss, r.validation_loss, r.lr) for r in result.history.epochs]
    return problem.numpy(result.params.flat), result.history.losses, records, result.state.lr_scale


def files(folder):
    """List the files below a folder, and how many lines those of loggers have."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(p.name, p.name[:3] == "log" and len(p.read_text().splitlines())) for p in found]


@pytest.mark.parametrize(
    "error", [None, LookupError("own"), KeyboardInterrupt(), SystemExit()], ids=repr
)
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_starts_anew(problem, tmp_path, name, error):
    make = CALLBACKS[name]
    (tmp_path / "again").mkdir()
    (tmp_path / "fresh").mkdir()
    callback = make(tmp_path / "again")
    with contextlib.suppress(LookupError, KeyboardInterrupt, SystemExit):
        trained(problem, callback, error, seed=4)
    shutil.rmtree(tmp_path / "again" / "steps", ignore_errors=True)
    again = trained(problem, callback)
    fresh = trained(problem, make(tmp_path / "fresh"))
    np.testing.assert_array_equal(again[0], fresh[0])
    assert again[1:] == fresh[1:]
    assert files(tmp_path / "again") == files(tmp_path / "fresh")


ENDINGS = {
    "complete": {},
    "uncompiled": {"compile": False},
    "stopped": {"callbacks": [ap.EarlyStopping("train_loss", patience=1, min_delta=9.0)]},
    "failed": {"callbacks": [Failing(LookupError())]},
    "interrupted": {"callbacks": [Failing(KeyboardInterrupt())]},
    "diverged": {"optimizer": ap.SGD(lr=1e200)},
    "refused": {"report_every": 0},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_fit_changes_no_argument(problem, ending):
    optimizer = ENDINGS[ending].get("optimizer", ap.Adam(lr=0.05))
    net = ap.MLP([4, 6, 3], norm="batch", dropout=0.2)
    problem = problem.with_(net=net, optimizer=optimizer)
    first = (
        problem.fit(epochs=1, optimizer=optimizer, compile=False) if ending != "diverged" else None
    )
    params = problem.params() if first is None else first.params
    state = optimizer.init(params) if first is None else first.state
    weights = problem.backend.asarray(np.linspace(0.0, 1.0, 30))
    callbacks = [ap.Callback(), *ENDINGS[ending].get("callbacks", [])]
    options = {
        "epochs": 8,
        "validation": problem.data,
        "sample_weight": weights,
        "state": state,
        **ENDINGS[ending],
        "optimizer": optimizer,
        "callbacks": callbacks,
    }
    arrays = [params.flat, params.running, *problem.data, weights]
    arrays += [slot.flat for slot in state.slots.values()]
    history = None if first is None else first.history.to_dict()
    before = [problem.numpy(array).copy() for array in arrays]
    settings = [copy.deepcopy(repr(value)) for value in (net, problem.loss, optimizer)]
    given, keys, step = list(callbacks), list(options), (state.step, state.lr_scale)

    with contextlib.suppress(LookupError, ValueError, ap.TrainingDivergedError):
        problem.fit(params, **options)

    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(problem.numpy(array), was)
    assert [repr(value) for value in (net, problem.loss, optimizer)] == settings
    assert (callbacks, list(options), (state.step, state.lr_scale)) == (given, keys, step)
    assert first is None or first.history.to_dict() == history


def test_callbacks_may_come_from_a_generator(problem):
    seen = []

    class See(ap.Callback):
        def on_start(self, run):
            seen.append("start")

        def on_end(self, run):
            seen.append("end")

    problem.fit(callbacks=(See() for _ in range(2)))
    assert seen == ["start", "start", "end", "end"]


def test_the_list_of_callbacks_is_that_of_the_start(problem):
    callbacks = []

    class Growing(ap.Callback):
        def on_report(self, run):
            callbacks.append(Failing(LookupError()))

    callbacks.append(Growing())
    problem.fit(epochs=8, callbacks=callbacks)
