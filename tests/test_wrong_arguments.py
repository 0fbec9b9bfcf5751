"""What is no argument of a public function is refused by a sentence that names the argument."""

import inspect
import re
import traceback
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop import initializers, interchange, schedules
from anyprop.layers.registry import LAYERS
from anyprop.losses.registry import LOSSES
from anyprop.optimizers.registry import OPTIMIZERS

SOURCE = Path(ap.__file__).parent
WRONG = {
    "an object": object(),
    "a complex number": 1j,
    "bytes": b"x",
    "a set": {1},
    "a class": ap.ReLU,
}
# What messages call an argument, where it is not its name.
WORDS = {
    "xp": "namespace|backend",
    "name": "backend|schedule|weights|namespace",
    "target": "takes a layer or a loss",
    "block": "takes a layer",
    "histories": "draws a History",
    "estimator": "perceptron",
    "directory_or_file": "path",
    "only": "only|backend",
    "array": "array",
    "opt": "optimizer",
    "step": "step",
}

NET, LOSS, OPT = ap.MLP([2, 3, 2]), ap.SoftmaxCrossEntropy(), ap.RMSProp(0.01)
X = np.asarray([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0], [2.0, 0.0]], "float32")
T = np.asarray([0, 1, 1, 0])
PARAMS = NET.init()
STATE = OPT.init(PARAMS)
HISTORY = ap.History([1.0, 0.5])


def defaults(function, **given):
    """Take the arguments of a function and their defaults, and others as they are given."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is not p.VAR_POSITIONAL}
    return {name: given.get(name, default) for name, default in named.items()}


def entry(function, **given):
    return function, defaults(function, **given)


def stepping(make):
    return lambda **batch: make(ap.make_step(NET, LOSS, OPT))(**batch)


PLACE = {"xp": None, "device": None, "dtype": "float32"}
BATCH = {"params": PARAMS, "x": X, "t": T, "noise": None, "sample_weight": None}
FIT = {"net": NET, "params": PARAMS, "data": (X, T), "loss": LOSS, "optimizer": OPT}
RATES = {"lr": 0.1, "factor": 0.5, "every": 3, "decay": 0.1, "steps": 5, "end": 0.0, "rise": 0.3}
RATES |= {"values": (0.1, 0.2), "boundaries": (3,), "then": schedules.Constant(0.1)}
RATES |= {"schedules": (schedules.Constant(0.1), schedules.Constant(0.2))}
CALLS = {
    "MLP": entry(ap.MLP, sizes=[2, 3, 2]),
    "fit": entry(ap.fit, **FIT),
    "fit by steps": (ap.fit, FIT | {"steps": 1}),
    "evaluate": entry(ap.evaluate, **FIT),
    "predict": entry(ap.predict, net=NET, params=PARAMS, x=X),
    "init": (NET.init, {"seed": 0, "weights": "he_normal", **PLACE}),
    "forward": (NET.forward, {"params": PARAMS, "x": X}),
    "value_and_grad": entry(ap.value_and_grad, net=NET, loss=LOSS),
    "value_and_grad, called": (ap.value_and_grad(NET, LOSS), BATCH | {"dvalue": 1.0}),
    "make_step": entry(ap.make_step, net=NET, loss=LOSS, optimizer=OPT),
    "a step": (stepping(lambda step: step), BATCH | {"state": STATE}),
    "a compiled step": (stepping(ap.compile), BATCH | {"state": STATE}),
    "compile": entry(ap.compile, step=ap.make_step(NET, LOSS, OPT)),
    "optimizer.init": (OPT.init, {"params": PARAMS}),
    "optimizer.update": (OPT.update, {"params": PARAMS, "grads": PARAMS, "state": STATE}),
    "loss.forward": (LOSS.forward, {"y": X, "t": T, "sample_weight": np.ones(4, "float32")}),
    "save": entry(ap.save, path="b", params=PARAMS, net=NET, state=STATE, history=HISTORY),
    "load": entry(ap.load, path="a"),
    "load_idx": entry(ap.load_idx, directory_or_file="idx"),
    "load_mnist": entry(ap.load_mnist),
    "from_host": entry(ap.from_host, array=X, dtype="float32"),
    "to_host": entry(ap.to_host, array=X),
    "to_namespace": entry(ap.to_namespace, array=X, xp="numpy"),
    "get_namespace": entry(ap.get_namespace, name="numpy"),
    "available_backends": (ap.available_backends, {"only": ["numpy"]}),
    "batch_indices": entry(ap.batch_indices, n=5, batch_size=2, seed=0, epoch=0),
    "plot_history": entry(ap.plot_history, histories=HISTORY),
    "export_onnx": entry(ap.export_onnx, net=NET, params=PARAMS, path="b"),
    "gradcheck": entry(ap.gradcheck, target=NET, loss=LOSS),
    "to_torch": entry(interchange.to_torch, net=NET, params=PARAMS),
    "save_torch": entry(interchange.save_torch, path="b", net=NET, params=PARAMS),
    "from_torch": entry(
        interchange.from_torch, net=NET, state_dict=interchange.to_torch(NET, PARAMS)
    ),
    "to_sklearn": entry(interchange.to_sklearn, net=NET, params=PARAMS),
    "from_sklearn": (interchange.from_sklearn, {"estimator": None}),
    "Checkpoints": entry(ap.Checkpoints, folder="c"),
    "CSVLogger": entry(ap.CSVLogger, path="c"),
    "JSONLogger": entry(ap.JSONLogger, path="c"),
    "EarlyStopping": entry(ap.EarlyStopping),
    "ReduceLROnPlateau": entry(ap.ReduceLROnPlateau),
    "a schedule": (schedules.Cosine(0.1, 10), {"step": 3}),
    "schedule_by_name": entry(schedules.schedule_by_name, name="step", lr=0.1, steps=10),
    "get_initializer": entry(initializers.get_initializer, name="he_normal"),
    "Normal": entry(initializers.Normal),
    "Orthogonal": entry(initializers.Orthogonal),
    "VarianceScaling": entry(initializers.VarianceScaling, scale=2.0),
}
MADE = {**LAYERS, **LOSSES, **OPTIMIZERS}
CALLS |= {kind.__name__: entry(kind, d=2, m=2, block=ap.ReLU()) for kind in MADE.values()}
CALLS |= {
    kind.__name__: entry(kind, **RATES)
    for kind in vars(schedules).values()
    if isinstance(kind, type)
    and issubclass(kind, schedules.Schedule)
    and kind is not schedules.Schedule
}
ARGUMENTS = [(call, name) for call, (_, good) in CALLS.items() for name in good if name != "_"]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ap.save("a", PARAMS, net=NET)
    Path("idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))


@pytest.mark.parametrize(("call", "name"), ARGUMENTS, ids=map(": ".join, ARGUMENTS))
def test_what_is_no_argument_is_named(call, name):
    function, good = CALLS[call]
    if call == "load_idx" and name not in ("directory_or_file", "xp", "device"):
        pytest.skip("a single file is returned as stored")
    wanted = WORDS.get(name, name.partition("_")[0])
    for what, wrong in WRONG.items():
        if (call, name, what) == ("fit", "batches", "a class"):
            continue  # which may make what is iterated over
        with pytest.raises((TypeError, ValueError), match=re.compile(wanted, re.IGNORECASE)) as e:
            function(**{**good, name: wrong})
        last = traceback.extract_tb(e.value.__traceback__)[-1]
        assert Path(last.filename).is_relative_to(SOURCE), f"{what}: raised by {last.filename}"
        assert (last.line or "").startswith("raise"), f"{what}: raised by Python"


NUMBERS = [
    (lambda n: ap.MLP([2, n, 2]), "sizes"),
    (lambda n: ap.Affine(n, 2), "d"),
    (lambda n: ap.fit(**FIT, epochs=n), "epochs"),
    (lambda n: ap.fit(**FIT, batch_size=n), "batch_size"),
    (lambda n: ap.predict(NET, PARAMS, X, n), "batch_size"),
    (lambda n: list(ap.batch_indices(n, 2, seed=0, epoch=0)), "n"),
    (lambda n: ap.EarlyStopping(patience=n), "patience"),
    (lambda n: schedules.Cosine(0.1, n), "steps"),
]


@pytest.mark.parametrize(("make", "name"), NUMBERS)
def test_counts_are_whole_numbers_of_at_least_one(make, name):
    make(np.int64(3))
    for wrong in (3.0, "3", True, -1, 0, np.float64(3), np.ones(2), None if name == "n" else 2.5):
        with pytest.raises((TypeError, ValueError), match=rf"{name} must be a whole number"):
            make(wrong)


@pytest.mark.parametrize("wrong", [None, [1], -1, 1.5, "1", True, np.ones(2)])
def test_seeds_are_whole_numbers(wrong):
    for call in (
        NET.init,
        lambda seed: ap.fit(**FIT, seed=seed),
        lambda seed: ap.gradcheck(NET, loss=LOSS, seed=seed),
        lambda seed: ap.batch_indices(4, 2, seed=seed, epoch=0),
    ):
        with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
            call(seed=wrong)


@pytest.mark.parametrize("device", [3, 0.5, [], {}, True, b"cpu", "gpu:x", np.zeros(2)])
def test_what_is_no_device_is_named_with_those_there_are(backend, device):
    for call in (
        lambda: NET.init(xp=backend.xp, device=device),
        lambda: ap.from_host(X, backend.xp, device=device),
        lambda: ap.load("a", xp=backend.xp, device=device),
    ):
        with pytest.raises(ValueError, match=r"has no device .*; choose one of: ") as caught:
            call()
        first = str(caught.value).rpartition(": ")[2].split(", ")[0].rstrip(".")
        ap.from_host(X, backend.xp, device=first)


def test_absent_files_are_named():
    for call in (
        ap.load,
        ap.load_idx,
        lambda path: interchange.from_torch(NET, path),
        lambda path: ap.fit(**FIT, resume=path),
    ):
        with pytest.raises(FileNotFoundError, match="there is no file absent; expected"):
            call("absent")


@pytest.mark.parametrize("logger", [ap.CSVLogger, ap.JSONLogger])
def test_loggers_name_a_folder_that_does_not_exist_before_any_step(logger):
    with pytest.raises(FileNotFoundError, match=r"there is no folder absent .*make it first"):
        ap.fit(**FIT, callbacks=[logger("absent/log")])
    Path("absent").mkdir()
    ap.fit(**FIT, callbacks=[logger("absent/log")])


@pytest.mark.parametrize("array", [["a"], [None], [1j], [{}]])
def test_what_are_no_real_numbers_do_not_become_some(backend, array):
    with pytest.raises(TypeError, match=r"an array of .* cannot become float32"):
        ap.from_host(array, backend.xp, dtype="float32")
