"""A run that ended anywhere goes on as if it had not: the same numbers, bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop.checkpoint.checkpoint import save_checkpoint
from anyprop.checkpoint.tensors import Reader, write
from anyprop.layers.base import Layer
from backend_cases import CASES

from .conftest import make_problem

NET = ap.Sequential(
    *(ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.Tanh(), ap.Dropout(0.3), ap.Affine(6, 3)),
)
NUMPY = CASES["numpy"][0]


def callbacks():
    """Those that know something, on a tight leash: the rate falls and the run stops early."""
    return [
        ap.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.02),
        ap.EarlyStopping("validation_loss", patience=3, min_delta=0.01),
    ]


def make(backend):
    problem = make_problem(backend)
    opt = ap.Adam(
        lr=ap.schedules.Warmup(3, ap.schedules.Cosine(0.2, steps=60)),
        weight_decay=0.01,
        decay_biases=False,
    )
    return problem.with_(net=NET, optimizer=opt)


def options(problem, tmp_path, name, every=1):
    folder = tmp_path / name
    folder.mkdir()
    loggers = [ap.CSVLogger(folder / "log.csv"), ap.JSONLogger(folder / "log.jsonl")]
    place = ap.Checkpoints(folder, every=every, keep=1000)
    return folder, {
        "validation": problem.data,
        "callbacks": [place, *callbacks(), *loggers],
        "report_every": 3,
    }


def without_times(history):
    return [dataclasses.replace(record, seconds=0.0) for record in history.epochs]


def assert_same(problem, ours, theirs):
    assert ours.history.losses == theirs.history.losses
    assert without_times(ours.history) == without_times(theirs.history)
    assert int(ours.state.step) == int(theirs.state.step)
    assert float(ours.state.lr_scale) == float(theirs.state.lr_scale)
    assert ours.state.slots.keys() == theirs.state.slots.keys()
    pairs = [(ours.params.flat, theirs.params.flat), (ours.params.running, theirs.params.running)]
    pairs += [
        (ours.state.slots[name].flat, theirs.state.slots[name].flat) for name in ours.state.slots
    ]
    for one, other in pairs:
        if other is not None:
            np.testing.assert_array_equal(problem.numpy(one), problem.numpy(other), strict=True)


def log_without_times(path):
    return [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()]  # seconds, waited


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("every", [1, None], ids=["after steps", "after epochs"])
def test_from_every_place_bit_for_bit(backend, every, compile, tmp_path):
    """Within epochs and between them, with all that a run can remember."""
    problem = make(backend)
    folder, given = options(problem, tmp_path, "whole", every)
    whole = problem.fit(epochs=12, compile=compile, **given)
    steps = len(whole.history.losses)
    assert 20 < steps < 60  # stopped early, and not at once
    assert whole.history.epochs[-1].lr < problem.optimizer.lr(steps - 1)  # and the rate fell
    places = sorted(folder.glob("step-*"))
    assert len(places) == (steps if every == 1 else steps / 5)
    quick = backend.id == "numpy" and not compile
    for i, place in enumerate(places if quick else places[2 :: len(places) // 2]):
        name = f"resumed {i}"
        folder_i, given_i = options(problem, tmp_path, name)
        resumed = problem.fit(epochs=12, compile=compile, resume=place, **given_i)
        assert_same(problem, resumed, whole)
        for log in ("log.csv", "log.jsonl"):
            assert log_without_times(folder_i / log) == log_without_times(folder / log)
        shutil.rmtree(folder_i)


class InterruptAt(ap.Callback):
    def __init__(self, step):
        self.step = step

    def on_report(self, run):
        if run.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 5, 8, 19])
def test_an_interrupted_run_leaves_a_checkpoint_where_it_ended(problem, step, tmp_path):
    whole = problem.fit(epochs=4)
    saving = ap.Checkpoints(tmp_path, every=1000)
    ended = problem.fit(epochs=4, report_every=1, callbacks=[saving, InterruptAt(step)])
    assert ended.interrupted
    assert [path.name for path in tmp_path.glob("step-*")] == [f"step-{step:08d}.safetensors"]
    assert_same(problem, problem.fit(epochs=4, resume=tmp_path), whole)


def test_an_interrupt_among_the_callbacks_of_an_epoch_leaves_no_checkpoint(problem, tmp_path):
    class Interrupt(ap.Callback):
        def on_epoch(self, run):
            raise KeyboardInterrupt

    saving = [ap.Checkpoints(tmp_path, every=4), Interrupt()]
    assert problem.fit(epochs=4, callbacks=saving).interrupted
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000004.safetensors"]
    assert_same(problem, problem.fit(epochs=4, resume=tmp_path), problem.fit(epochs=4))


def test_a_signal_among_the_callbacks_of_an_epoch_waits_for_them(problem, tmp_path):
    class Signal(ap.Callback):
        def on_epoch(self, run):
            if run.epoch == 2:
                signal.raise_signal(signal.SIGINT)

    given = {"epochs": 4, "validation": problem.data}
    saving = [Signal(), *callbacks(), ap.Checkpoints(tmp_path, every=1000)]
    ended = problem.fit(callbacks=saving, **given)
    assert ended.interrupted
    assert len(ended.history.losses) == 10
    assert names(tmp_path) == ["best.safetensors", "step-00000010.safetensors"]
    resumed = problem.fit(resume=tmp_path, callbacks=callbacks(), **given)
    assert_same(problem, resumed, problem.fit(callbacks=callbacks(), **given))


@pytest.mark.parametrize(("first", "then"), [(8, 8), (8, 13), (10, 13), (3, 20)])
def test_more_steps_than_at_first(problem, first, then, tmp_path):
    """The record of the part of an epoch that the shorter run ended in does not come again."""
    kept = {"validation": problem.data}
    problem.fit(steps=first, callbacks=[ap.Checkpoints(tmp_path)], **kept)
    resumed = problem.fit(steps=then, resume=tmp_path, **kept)
    assert_same(problem, resumed, problem.fit(steps=then, **kept))


def test_more_epochs_than_at_first_and_no_more(problem, tmp_path):
    first = problem.fit(epochs=2, callbacks=[ap.Checkpoints(tmp_path)])
    assert_same(problem, problem.fit(epochs=2, resume=tmp_path), first)
    assert_same(problem, problem.fit(epochs=5, resume=tmp_path), problem.fit(epochs=5))
    for less in ({"epochs": 1}, {"steps": 9}):
        with pytest.raises(ap.ResumeError, match="has done 10 steps in 2 epochs already"):
            problem.fit(**less, resume=tmp_path)


def test_a_run_that_a_callback_stopped_within_an_epoch_ends_the_same_way(problem, tmp_path):
    class Stop(ap.Callback):
        def on_report(self, run):
            if run.step == 8:
                run.stop()

    given = {"epochs": 4, "report_every": 4, "validation": problem.data}
    whole = problem.fit(callbacks=[ap.Checkpoints(tmp_path), Stop()], **given)
    assert len(whole.history.losses) == 8
    assert_same(problem, problem.fit(resume=tmp_path, **given), whole)


def test_custom_batches_and_weights(problem, tmp_path):
    def draw(n, batch_size, epoch):
        order = np.random.default_rng([5, epoch]).permutation(n)
        yield from np.array_split(order, [4, 5, 17])

    weights = problem.backend.asarray(np.linspace(0.5, 1.5, 30))
    given = {"epochs": 3, "batches": draw, "sample_weight": weights, "accumulate": 2}
    whole = problem.fit(callbacks=[ap.Checkpoints(tmp_path, every=3)], **given)
    for path in tmp_path.glob("step-*"):
        assert_same(problem, problem.fit(resume=path, **given), whole)
    with pytest.raises(ValueError, match="batches gave 1 for epoch 1, but 2 were done before"):
        given["batches"] = lambda n, batch_size, epoch: [np.arange(3)]
        problem.fit(resume=tmp_path / "step-00000006.safetensors", **given)


def test_from_another_backend_and_to_it(backend, tmp_path):
    """The same up to rounding: the sums are not done in the same order everywhere."""
    ours, theirs = make(backend), make(NUMPY)
    whole = theirs.fit(epochs=6, validation=theirs.data)
    for i, (first, then) in enumerate([(theirs, ours), (ours, theirs)]):
        folder = tmp_path / str(i)
        first.fit(steps=13, callbacks=[ap.Checkpoints(folder)], validation=first.data)
        resumed = then.fit(epochs=6, resume=folder, validation=then.data)
        np.testing.assert_allclose(resumed.history.losses, whole.history.losses, rtol=1e-9)
        np.testing.assert_allclose(
            then.numpy(resumed.params.flat), theirs.numpy(whole.params.flat), rtol=1e-7, atol=1e-9
        )


def test_layers_of_your_own(tmp_path):
    class Double(Layer):
        def forward(self, params, x):
            return 2.0 * x, None

        def backward(self, params, residuals, dy):
            return 2.0 * dy, {}

        def __repr__(self):
            return "Double()"

    problem = make_problem(NUMPY)
    problem = problem.with_(net=ap.Sequential(*problem.net.layers, Double()))
    problem.fit(steps=7, callbacks=[ap.Checkpoints(tmp_path)])
    assert_same(problem, problem.fit(epochs=3, resume=tmp_path), problem.fit(epochs=3))


# What cannot be resumed


@pytest.fixture
def place(tmp_path):
    problem = make(NUMPY)
    folder = tmp_path / "place"
    given = {"validation": problem.data, "callbacks": [ap.Checkpoints(folder), *callbacks()]}
    problem.fit(steps=7, **given)
    return problem, folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 8}, "batch_size was 7 and is 8"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"accumulate": 2}, "accumulate was 1 and is 2"),
        ({"optimizer": ap.RMSProp(lr=0.1)}, "optimizer.kind was 'Adam' and is 'RMSProp'"),
        (
            {"optimizer": ap.Adam(lr=ap.schedules.Warmup(3, ap.schedules.Cosine(0.1, steps=60)))},
            "optimizer.lr.then.lr was 0.2 and is 0.1; optimizer.weight_decay was 0.01 and is 0.0",
        ),
        ({"loss": ap.SoftmaxCrossEntropy(label_smoothing=0.1)}, "loss.label_smoothing was 0.0 and"),
        ({"validation": None, "callbacks": []}, "validation was 30 and is None"),
        ({"callbacks": callbacks()[:1]}, "callbacks.EarlyStopping was .* and is None"),
        (
            {"callbacks": [ap.ReduceLROnPlateau(), ap.EarlyStopping()]},
            "callbacks.ReduceLROnPlateau.min_delta was 0.02 and is 0.0",
        ),
        ({"batches": lambda n, size, epoch: [np.arange(n)]}, "own_batches was False and is True"),
    ],
)
def test_other_settings_are_named_and_refused(place, changes, named):
    problem, folder = place
    given = {"validation": problem.data, "callbacks": callbacks(), "epochs": 3} | changes
    with pytest.raises(ap.ResumeError, match=named):
        problem.fit(resume=folder, **given)


def test_other_networks(place):
    problem, folder = place
    given = {"epochs": 3, "validation": problem.data, "callbacks": callbacks(), "resume": folder}
    layers = list(NET.layers)
    layers[3] = ap.Dropout(0.4)
    with pytest.raises(ap.ResumeError, match="run: net.layers.3.rate was 0.3 and is 0.4"):
        problem.with_(net=ap.Sequential(*layers)).fit(**given)
    with pytest.raises(ap.ResumeError, match="is of another network: its parameters are Param"):
        problem.with_(net=ap.MLP([4, 6, 3])).fit(**given)


def test_other_settings_on_demand(place):
    problem, folder = place
    given = {"validation": problem.data, "callbacks": callbacks(), "allow_changes": True}
    result = problem.fit(resume=folder, steps=9, batch_size=8, **given)
    assert len(result.history.losses) == 9
    narrow = problem.with_(x=problem.x.astype("float32"))
    params = narrow.params(dtype="float32")
    result = narrow.fit(params, resume=folder, steps=9, **given | {"validation": narrow.data})
    assert result.params.flat.dtype == "float32"


def test_what_is_no_checkpoint_of_a_run(place, tmp_path):
    problem, folder = place
    for path, match in [
        (folder / "best.safetensors", "holds no training run, only a network"),
        (tmp_path, "there is no checkpoint in"),
    ]:
        with pytest.raises(ap.ResumeError, match=match):
            problem.fit(resume=path)
    with pytest.raises(FileNotFoundError):
        problem.fit(resume=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="state or resume, not both"):
        problem.fit(resume=folder, state=problem.optimizer.init(problem.params()))


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": "1"},
        {"epoch": True},
        {"epoch": 0},
        {"batch": 1000},
        {"batch": 1},
        {"stopped": 0},
        {"settings": None},
        {"waited": "long"},
    ],
)
def test_a_forged_place(place, change, tmp_path):
    problem, folder = place
    with Reader(next(folder.glob("step-*"))) as file:
        arrays, metadata = file.read(), dict(file.metadata)
    metadata.pop("checksum")
    metadata["run"] = json.dumps(json.loads(metadata["run"]) | change)
    write(tmp_path / "forged", arrays, metadata)
    with pytest.raises(ap.ResumeError, match=f"about the state of its run: .{next(iter(change))}"):
        problem.fit(resume=tmp_path / "forged", allow_changes=True)


# The folder


MEMORY = {"best": 0.5, "waited": 1}


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("ReduceLROnPlateau", 3),
        ("ReduceLROnPlateau", {"best": 0.5}),
        ("ReduceLROnPlateau", {"waited": 1}),
        ("ReduceLROnPlateau", {**MEMORY, "best": "0.5"}),
        ("ReduceLROnPlateau", {**MEMORY, "waited": -1}),
        ("ReduceLROnPlateau", {**MEMORY, "waited": True}),
        ("Checkpoints", [1]),
        ("Checkpoints", {**MEMORY, "waited": None}),
        ("EarlyStopping", MEMORY),
        ("EarlyStopping", {**MEMORY, "params": 1, "state": 2}),
        ("EarlyStopping", "without state"),
        ("EarlyStopping", "of another optimizer"),
        ("EarlyStopping", "without running statistics"),
        ("EarlyStopping", "swapped"),
    ],
)
def test_a_forged_state_of_a_callback_is_refused_before_anything_changes(key, state, tmp_path):
    problem = make(NUMPY)
    folder, given = options(problem, tmp_path, "run")
    problem.fit(epochs=3, **given)
    file = folder / "step-00000005.safetensors"
    found = ap.load(file)
    states = found.run["callbacks"]
    stopping = states["EarlyStopping"]
    best, kept = stopping["params"], stopping["state"]
    forged = {
        "without state": {**MEMORY, "params": best},
        "of another optimizer": {**stopping, "state": ap.Momentum().init(best)},
        "without running statistics": {
            **stopping,
            "params": ap.Parameters(best.layout, best.flat),
        },
        "swapped": {**stopping, "params": kept, "state": best},
    }
    states[key] = forged[state] if isinstance(state, str) else state
    save_checkpoint(file, found)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ap.ResumeError, match=f"{re.escape(str(file))} has no state of '{key}': "):
        problem.fit(epochs=4, resume=file, **given)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_state_of_a_class_derived_from_a_callback_is_its_own(problem, tmp_path):
    class Mine(ap.ReduceLROnPlateau):
        def get_state(self):
            return {"mine": 1}

        def set_state(self, state):
            assert state == {"mine": 1}

    given = [Mine("train_loss"), ap.Checkpoints(tmp_path)]
    problem.fit(callbacks=given)
    problem.fit(epochs=2, callbacks=given, resume=tmp_path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_ones_stay_and_the_best(problem, tmp_path):
    best = {}

    class Watch(ap.Callback):
        def on_epoch(self, run):
            params = problem.numpy(run.params.flat).copy()
            best[run.history.epochs[-1].validation_loss] = params

    given = {"epochs": 6, "validation": problem.data, "optimizer": ap.RMSProp(lr=0.3)}
    problem.fit(callbacks=[ap.Checkpoints(tmp_path, every=4, keep=2), Watch()], **given)
    assert names(tmp_path) == [
        "best.safetensors",
        "step-00000028.safetensors",
        "step-00000030.safetensors",
    ]
    found = ap.load(tmp_path / "best.safetensors")
    np.testing.assert_array_equal(found.params.flat, best[min(best)])
    assert min(best) != list(best)[-1]
    assert found.net == problem.net
    assert found.step == 5 * len(found.history.epochs)


def test_the_best_is_known_in_the_resumed_run_too(problem, tmp_path):
    """A later epoch that is worse than the best before the interruption does not replace it."""
    given = {"validation": problem.data, "optimizer": ap.RMSProp(lr=0.3)}
    problem.fit(epochs=6, callbacks=[ap.Checkpoints(tmp_path / "whole")], **given)
    for epochs in range(1, 7):
        resume = tmp_path / "parts" if epochs > 1 else None
        saving = [ap.Checkpoints(tmp_path / "parts")]
        problem.fit(epochs=epochs, resume=resume, callbacks=saving, **given)
    ours, theirs = (ap.load(tmp_path / f / "best.safetensors") for f in ("parts", "whole"))
    np.testing.assert_array_equal(ours.params.flat, theirs.params.flat)
    assert ours.step == theirs.step < 30


def test_another_runs_folder_is_left_alone(problem, tmp_path):
    problem.fit(callbacks=[ap.Checkpoints(tmp_path)])
    before = names(tmp_path)
    with pytest.raises(ValueError, match="has checkpoints of an earlier run: resume it, or choose"):
        problem.fit(callbacks=[ap.Checkpoints(tmp_path)])
    assert names(tmp_path) == before


def test_later_checkpoints_are_set_aside_when_a_run_goes_on_from_an_earlier_one(problem, tmp_path):
    problem.fit(epochs=2, callbacks=[ap.Checkpoints(tmp_path, every=4)])
    (tmp_path / ".step-00000012.safetensors.0123abcd").touch()  # a kill left it
    early = tmp_path / "step-00000004.safetensors"
    problem.fit(steps=6, resume=early, callbacks=[ap.Checkpoints(tmp_path, every=4)])
    assert names(tmp_path) == [
        "best.safetensors",
        "step-00000004.safetensors",
        "step-00000006.safetensors",
        "step-00000008.safetensors.old",
        "step-00000010.safetensors.old",
    ]


def test_a_damaged_newest_one_is_passed_over_with_a_warning(problem, tmp_path):
    whole = problem.fit(epochs=2, callbacks=[ap.Checkpoints(tmp_path, every=4)])
    newest = tmp_path / "step-00000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="00000010.* truncated.*The one before it is used"):
        resumed = problem.fit(epochs=2, resume=tmp_path)
    assert_same(problem, resumed, whole)


def test_where_all_are_damaged_the_oldest_is_named_with_what_is_wrong(problem, tmp_path):
    problem.fit(epochs=2, callbacks=[ap.Checkpoints(tmp_path, every=5)])
    files = sorted(tmp_path.glob("step-*"))
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    with (
        pytest.warns(RuntimeWarning, match="The one before it is used") as warned,
        pytest.raises(
            ap.ResumeError, match=f"{files[0].name}.* truncated.*no checkpoint before it"
        ),
    ):
        problem.fit(epochs=2, resume=tmp_path)
    assert len(warned) == len(files) - 1


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("a/b", "a", "b"), "two arrays would be called run/callbacks/Remembering/a/b/flat"),
        (("c", "$", "b"), r"run/callbacks/Remembering has the key '\$'"),
        (("a/b", "b", "a"), None),
    ],
)
def test_what_a_callback_remembers_comes_back_or_is_refused(problem, tmp_path, keys, told):
    one, other = (problem.net.init(seed=seed, dtype="float64") for seed in (1, 2))

    class Remembering(ap.Callback):
        def get_state(self):
            return {keys[0]: one, keys[1]: {keys[2]: other}}

        def set_state(self, state):
            np.testing.assert_array_equal(problem.numpy(state[keys[0]].flat), one.flat)
            np.testing.assert_array_equal(problem.numpy(state[keys[1]][keys[2]].flat), other.flat)

    given = [Remembering(), ap.Checkpoints(tmp_path)]
    if told is None:
        problem.fit(callbacks=given)
        problem.fit(epochs=2, callbacks=given, resume=tmp_path)
    else:
        with pytest.raises(ValueError, match=f"{told}.*rename it"):
            problem.fit(callbacks=given)


def test_options_of_checkpoints():
    with pytest.raises(ValueError, match="every"):
        ap.Checkpoints("a", every=0)
    with pytest.raises(ValueError, match="keep"):
        ap.Checkpoints("a", keep=0)
    with pytest.raises(ValueError, match="did you mean 'train_loss'"):
        ap.Checkpoints("a", monitor="train_los")


# Disks


@pytest.fixture
def disk(tmp_path):
    """A folder, and how its disk is made full, however this machine can have that."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:

        @contextlib.contextmanager
        def full():
            filler = folder / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4 << 10))
            yield errno.ENOSPC
            filler.unlink()

        yield folder, full
        subprocess.run(["umount", str(folder)], check=True)
        return

    @contextlib.contextmanager
    def limited():  # files may not grow beyond a size; Python turns the signal into an error
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, before[1]))
        try:
            yield errno.EFBIG
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    yield folder, limited


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(disk):
    folder, full = disk
    problem = make_problem(NUMPY).with_(net=ap.MLP([4, 300, 3]), optimizer=ap.SGD(lr=0.1))
    problem.fit(steps=5, callbacks=[ap.Checkpoints(folder)])
    (step,) = folder.glob("step-*")
    before = step.read_bytes()
    assert len(before) > 16 << 10
    saving = ap.Checkpoints(folder, every=2)
    with full() as code:
        with pytest.raises(OSError, match="space|large") as caught:
            ap.save(step, problem.params(), net=problem.net)
        assert (caught.value.errno, caught.value.filename) == (code, str(step))
        with pytest.raises(OSError, match="space|large") as caught:
            problem.fit(steps=8, resume=folder, callbacks=[saving])
        assert caught.value.filename == str(folder / "step-00000006.safetensors")
    assert step.read_bytes() == before
    assert names(folder) == ["best.safetensors", step.name]
    resumed = problem.fit(steps=8, resume=folder, callbacks=[saving])
    assert_same(problem, resumed, problem.fit(steps=8))


def test_a_folder_that_cannot_be_written_to(problem):
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write anywhere
    try:
        for path in (folder, folder / "below"):
            with pytest.raises(PermissionError) as caught:
                problem.fit(callbacks=[ap.Checkpoints(path, every=1)])
            assert str(folder) in str(caught.value)
        with pytest.raises(PermissionError, match=f"{folder}/a"):
            ap.save(folder / "a", problem.params())
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
    assert list(folder.iterdir()) == []
    folder.rmdir()


def test_a_learning_rate_is_called_for_comparison_only_where_there_is_one(tmp_path):
    """What a function remembers of its calls is not disturbed before a run."""

    class Counted:
        def __init__(self):
            self.steps = []

        def __call__(self, step):
            self.steps.append(step)
            return 0.01

    def run(lr, **options):
        net = ap.MLP([2, 3, 2])
        x, t = np.ones((6, 2), "float32"), np.asarray([0, 1] * 3)
        given = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.SGD(lr), "batch_size": 2}
        ap.fit(net, net.init(), (x, t), **given | options)

    free, kept, calls = Counted(), Counted(), []
    run(free)
    assert set(free.steps) <= {0, 1, 2, 3}
    run(lambda step: calls.append(step) or 0.01)
    assert calls == free.steps
    run(kept, callbacks=[ap.Checkpoints(tmp_path, every=1)])
    assert set(kept.steps) <= {0, 1, 2, 3}
    run(lambda step: 0.01, epochs=2, resume=tmp_path, allow_changes=True)
    with pytest.raises(ap.ResumeError, match="lr"):
        run(lambda step: 0.02, epochs=3, resume=tmp_path)
