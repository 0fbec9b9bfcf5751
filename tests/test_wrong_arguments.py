"""A wrong argument of a public function is refused by a sentence that names the argument."""

import copy
import importlib
import inspect
import pickle
import re
import traceback
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop import book, initializers, interchange, schedules
from anyprop._names import PUBLIC, members
from anyprop._usage import usage
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
    "block": "takes a layer|block must",
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
    """Return the arguments of a function and their defaults, with others as they are given."""
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
RATES = {
    "lr": 0.1,
    "factor": 0.5,
    "every": 3,
    "decay": 0.1,
    "steps": 5,
    "end": 0.0,
    "rise": 0.3,
    "power": 2.0,
}
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
    "Source": entry(ap.Source, data=(X, T)),
    "Stream": entry(ap.Stream, batches=lambda epoch: [(X, T)]),
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
CALLS |= {kind.__name__: entry(kind, **RATES) for kind in members("schedules").values()}
ARGUMENTS = [(call, name) for call, (_, good) in CALLS.items() for name in good if name != "_"]


# A call as a user of another library or a reader of the book writes it -> what is meant.
OTHER_NAMES = {
    "ap.Adam(learning_rate=0.1)": "lr",
    "ap.Adam(betas=(0.9, 0.99))": "beta1",
    "ap.Adam(beta_2=0.9)": "beta2",
    "ap.Adam(b1=0.9)": "beta1",
    "ap.Adam(epsilon=1e-8)": "eps",
    "ap.Adam(clipnorm=1.0)": "clip_norm",
    "ap.RMSProp(alpha=0.9)": "rho",
    "ap.RMSProp(decay_rate=0.9)": "rho",
    "ap.AdaGrad(initial_accumulator_value=0.1)": "initial_accumulator",
    "ap.Affine(in_features=2, out_features=3)": "d",
    "ap.Affine(2, units=3)": "m",
    "ap.Affine(2, 3, use_bias=False)": "bias",
    "ap.Dropout(p=0.2)": "rate",
    "ap.LeakyReLU(negative_slope=0.1)": "slope",
    "ap.BatchNorm(num_features=2)": "d",
    "ap.BatchNorm(2, epsilon=1e-3)": "eps",
    "ap.SoftmaxCrossEntropy(weight=[1.0, 2.0])": "class_weight",
    "ap.Huber(beta=1.0)": "delta",
    "schedules.Cosine(0.1, T_max=5)": "steps",
    "schedules.StepDecay(0.1, gamma=0.1, every=3)": "factor",
    "schedules.StepDecay(0.1, 0.1, step_size=3)": "every",
    "schedules.Exponential(initial_learning_rate=0.1, factor=0.9)": "lr",
    "schedules.Piecewise((0.1, 0.2), milestones=(3,))": "boundaries",
    "schedules.Warmup(warmup_steps=3, then=schedules.Constant(0.1))": "steps",
    "initializers.Normal(stddev=0.1)": "std",
    "ap.ReduceLROnPlateau(threshold=0.1)": "min_delta",
    "ap.CSVLogger(filename='c')": "path",
    "book.RMSProp(learning_rate=0.1)": "lr",
    "book.Dropout(p=0.5)": "dropout_ratio",
    "ap.fit(**FIT, verbose=True)": "progress",
    "ap.fit(**FIT, batch=3)": "batch_size",
    "ap.fit(**FIT, validation_data=(X, T))": "validation",
    "ap.fit(**FIT, max_epochs=3)": "epochs",
    "NET.init(backend='numpy')": "xp",
    "ap.from_host(X, backend='numpy')": "xp",
    "ap.to_namespace(X, namespace='numpy')": "xp",
    "ap.value_and_grad(NET, LOSS)(PARAMS, X, T, weights=X)": "sample_weight",
    "ap.make_step(NET, LOSS, OPT)(PARAMS, OPT.init(PARAMS), X, T, weights=X)": "sample_weight",
    "ap.compile(ap.make_step(NET, LOSS, OPT))(PARAMS, OPT.init(PARAMS), X, T, weight=X)": (
        "sample_weight"
    ),
}


@pytest.mark.parametrize("call", OTHER_NAMES)
def test_the_name_that_others_have_for_an_argument_leads_to_its_name_here(call):
    with pytest.raises(TypeError, match=f"; did you mean '{OTHER_NAMES[call]}'\\?$"):
        eval(call)


class Doubling(ap.Layer):
    """A layer of one's own, without a word about arguments."""


@pytest.mark.parametrize(
    "name", [name for name, (function, _) in CALLS.items() if isinstance(function, type)]
)
def test_an_argument_that_a_class_lacks_is_told_in_a_sentence(name):
    kind, good = CALLS[name]
    good = {key: value for key, value in good.items() if key not in ("_", "layers")}
    says = rf"^{name}: got an unexpected keyword argument 'zyzzyva'; write {name}\(.*\)\.$"
    with pytest.raises(TypeError, match=says):
        kind(**good, zyzzyva=1)


def test_a_class_without_arguments_says_so():
    for made in (Doubling, ap.Callback, ap.ReLU):
        with pytest.raises(TypeError, match=r"too many positional arguments; write \w+\(\)"):
            made(3)


@pytest.mark.parametrize(
    "made",
    [Doubling(), ap.Affine(2, 3), OPT, NET, book.SGD(0.5)],
    ids=lambda made: type(made).__name__,
)
def test_copies_are_made_without_arguments(made):
    for copied in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert vars(copied) == vars(made)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ap.save("a", PARAMS, net=NET)
    Path("idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))


def raises(function):
    """Return the errors that the docstring of a function, or of a class and its bases, names."""
    texts = [vars(kind).get("__doc__") for kind in getattr(function, "__mro__", [])]
    texts = [inspect.cleandoc(text or "") for text in [function.__doc__, *texts]]
    sections = [text.partition("\nRaises\n------\n")[2].partition("\n\n")[0] for text in texts]
    named = re.findall(r"^\w.*", "\n".join(sections), re.MULTILINE)
    return set(", ".join(named).split(", "))


@pytest.mark.parametrize(("call", "name"), ARGUMENTS, ids=map(": ".join, ARGUMENTS))
def test_what_is_no_argument_is_named(call, name):
    function, good = CALLS[call]
    if call == "load_idx" and name not in ("directory_or_file", "xp", "device"):
        pytest.skip("a single file is returned as stored")
    wanted = WORDS.get(name, name.partition("_")[0])
    for what, wrong in WRONG.items():
        if what == "a class" and (call, name) == ("MLP", "activation"):
            continue  # it may be a layer's
        with pytest.raises((TypeError, ValueError), match=re.compile(wanted, re.IGNORECASE)) as e:
            function(**{**good, name: wrong})
        last = traceback.extract_tb(e.value.__traceback__)[-1]
        assert Path(last.filename).is_relative_to(SOURCE), f"{what}: raised by {last.filename}"
        assert (last.line or "").startswith("raise"), f"{what}: raised by Python"
        ours = function.__module__.startswith("anyprop")
        if ours and (inspect.isclass(function) or inspect.isfunction(function)):
            assert type(e.value).__name__ in raises(function), f"{what}: not in the docstring"


NUMBERS = [
    (lambda n: ap.MLP([2, n, 2]), "sizes"),
    (lambda n: ap.Affine(n, 2), "d"),
    (lambda n: ap.fit(**FIT, epochs=n), "epochs"),
    (lambda n: ap.fit(**FIT, batch_size=n), "batch_size"),
    (lambda n: ap.predict(NET, PARAMS, X, batch_size=n), "batch_size"),
    (lambda n: list(ap.batch_indices(n, 2, seed=0, epoch=0)), "n"),
    (lambda n: ap.EarlyStopping(patience=n), "patience"),
    (lambda n: schedules.Cosine(0.1, n), "steps"),
]


@pytest.mark.parametrize(("make", "name"), NUMBERS)
def test_counts_are_whole_numbers_of_at_least_one(make, name):
    make(np.int64(3))
    for wrong in (3.0, "3", True, -1, 0, np.float64(3), np.ones(2), None if name == "n" else 2.5):
        with pytest.raises((TypeError, ValueError), match=rf"{name}(\[\d\])? must be a whole"):
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
    with pytest.raises(FileNotFoundError, match=r"there is no folder absent .*create it first"):
        ap.fit(**FIT, callbacks=[logger("absent/log")])
    Path("absent").mkdir()
    ap.fit(**FIT, callbacks=[logger("absent/log")])


@pytest.mark.parametrize("array", [["a"], [None], [1j], [{}]])
def test_what_are_no_real_numbers_do_not_become_some(backend, array):
    with pytest.raises(TypeError, match=r"an array of .* cannot become float32"):
        ap.from_host(array, backend.xp, dtype="float32")


LAYER = {"xp": "numpy", "seed": 0}
AFFINE, NORM = ap.Affine(2, 3), ap.LayerNorm(2)
# what is called with something of a wrong kind -> what the message says
WRONG_KINDS = {
    "ap.from_host([[1], [1, 2]])": "array cannot be read by NumPy: ValueError",
    "ap.fit(**FIT, callbacks=[Loses()])": r"params must be what net.init\(\) returns, not builtins.N",
    "book.SGD().update([X], [X])": "params must be a dict of arrays by name, not builtins.list",
    "book.SGD().update(None, {})": "params must be a dict",
    "book.SGD().update({'W': X}, None)": "grads must be a dict",
    "book.SGD().update({'W': [1.0]}, {'W': X})": "builtins.list is not an Array API array",
    "book.SGD().update({'W': X}, {'W': [1.0]})": "builtins.list is not an Array API array",
    "book.AdaGrad().update({'W': HALF}, {'W': HALF})": "is float16, .* cast it to float32",
    "book.RMSProp().update({'W': HALF}, {'W': HALF})": "is float16, .* cast it to float32",
    "book.Adam().update({'W': HALF}, {'W': HALF})": "is float16, .* cast it to float32",
    "book.Affine([[1.0]], [1.0])": "W: builtins.list is not an Array API array",
    "book.Affine(None, None)": "W: builtins.NoneType is not",
    "book.Affine(X, [1.0])": "b: builtins.list is not",
    "book.Affine(X, X[0]).forward([[1.0]])": "x: builtins.list is not",
    "book.Affine(X, X[0]).forward(None)": "x: builtins.NoneType is not",
    "book.Affine(X, X[0]).forward(ZERO)": r"x has shape \(\), expected \(N",
    "seen(book.Affine(X, X[0])).backward(None)": r"dy must be an array of shape \(2, 2\)",
    "book.BatchNormalization([1.0], [0.0])": "gamma: builtins.list is not",
    "book.BatchNormalization(X[0], None).forward([[1.0]])": "builtins.NoneType|builtins.list",
    "book.ReLU().forward(None)": "builtins.NoneType is not an Array API array",
    "book.Dropout(0.5).forward([1.0])": "builtins.list is not an Array API array",
    "scored().backward([1.0])": "dout is builtins.list, expected a number",
    "scored().backward(None)": "dout is builtins.NoneType, expected a number",
    "train(book.SGD())": "optimizer must be a name such as 'SGD', not .*SGD; its settings belong in",
    "train(book.SGD)": "optimizer must be a name",
    "train('sgd', [0.1])": "optimizer_param must be a dict",
    "train('sgd', {'rate': 0.1})": "unknown optimizer_param 'rate'; choose one of: lr",
    "train('sgd', t=T[:2])": "x_train has 4 rows, but t_train has 2",
    "train('sgd', t=T.tolist())": "t_train: builtins.list is not",
    "train('sgd', evaluate=0.5)": "evaluate_sample_num_per_epoch must be a whole number",
    "train('sgd', network=None)": "network must be one such as MultiLayerNet",
    "book.MultiLayerNet(2, 3, 2, **LAYER)": r"hidden_size_list must be a sequence such as \[100",
    "book.MultiLayerNet(2, None, 2, **LAYER)": "hidden_size_list must be a sequence",
    "book.MultiLayerNet(2, '3', 2, **LAYER)": "hidden_size_list must be a sequence",
    "book.MultiLayerNetExtend(2, 3, 2, **LAYER)": "hidden_size_list must be a sequence",
    "book.MultiLayerNet(2, [3], 2, ['relu'], **LAYER)": "activation must be a name such as 'relu'",
    "book.NeuralNetwork(2, 3, 2, xp='numpy', seed='a')": "seed must be a whole number",
    "book.NeuralNetwork(2, 3, 2, **LAYER).accuracy(X, T[:2])": "2 labels for 4 rows",
    "book.NeuralNetwork(2, 3, 2, **LAYER).compute_loss(X, T + 7)": "label 7 is out of range",
    "book.MultiLayerNetExtend(2, [3], 2, **LAYER).loss(X, T - 1)": "label -1 is out of range",
    "setattr(book.TwoLayerNet(2, 3, 2, **LAYER), 'params', 5)": "params must be a dict of arrays",
    "book.numerical_gradient(3, WIDE)": "f must be a function of an array, not builtins.int",
    "book.numerical_gradient(lambda x: None, WIDE)": "f must return a number, not builtins.NoneType",
    "book.numerical_gradient(lambda x: x, WIDE)": "f must return a number, not numpy.ndarray",
    "book.shuffle_dataset([1], [1])": "x: builtins.list is not",
    "book.shuffle_dataset(ZERO, ZERO)": r"x has shape \(\), expected \(N",
    "book.smooth_curve('abc')": "smooth_curve takes a row of numbers, not 'abc'",
    "LOSS.correct(X, T[:2])": "2 labels for 4 rows of predictions",
    "LOSS.correct(X[0], T)": r"predictions have shape \(2,\), expected \(N, K\)",
    "LOSS.correct(X, X[:, :1])": r"t has shape \(4, 1\), expected \(4, 2\)",
    "LOSS.correct(X, T + 0.5)": "labels must be integers",
    "LOSS.correct(X, None)": "builtins.NoneType is not an Array API array",
    "ap.SigmoidCrossEntropy().correct(X, X[:2])": r"t has shape \(2, 2\), expected \(4, 2\)",
    "OPT.update(PARAMS, PARAMS, STATE, donate=np.ones(2))": "donate must be True or False",
    "OPT.update(PARAMS, PARAMS, STATE, donate='yes')": "donate must be True or False",
    "AFFINE.forward(None, X)": r"params must be what net.init\(\) returns, not builtins.NoneType",
    "AFFINE.forward({'W': X}, X)": r"params must be what net.init\(\) returns, not builtins.dict",
    "AFFINE.forward(ap.ReLU().init(), X)": "there is no parameter 'W'",
    "AFFINE.backward(AFFINE.init(), X, None)": r"dy must be an array of shape \(4, 3\)",
    "NORM.forward(None, X)": r"params must be what net.init\(\) returns",
    "ap.BatchNorm(2).forward(None, X)": r"params must be what net.init\(\) returns",
    "ap.BatchNorm(2).forward_train(None, X, None)": r"params must be what net.init\(\) returns",
    "ap.fit(**FIT, batches=dict)": "batches must be a function .n, batch_size, epoch.",
    "ap.fit(**FIT, batches=lambda n, size: [[0]])": "batches must be a function",
    "ap.fit(**FIT, batches=lambda n, size, epoch: None)": "batches gave builtins.NoneType for epoch 0",
    "ap.gradcheck(ap.ReLU(), ZERO)": r"x has shape \(\), expected \(N",
    "ap.gradcheck(LOSS, ZERO)": r"predictions have shape \(\), expected \(N, K\)",
    "ap.gradcheck(NET, ZERO, loss=LOSS)": r"x has shape \(\), expected \(N",
}
WIDE, ZERO, HALF = X.astype("float64"), np.asarray(1.0), X.astype("float16")


class Loses(ap.Callback):
    def on_epoch(self, run):
        run.params = None


def seen(layer):
    layer.forward(WIDE[:2, :] @ np.ones((2, 4)))
    return layer


def scored():
    layer = book.SoftmaxWithLoss()
    layer.forward(X, T)
    return layer


def train(optimizer, param=None, *, t=T, evaluate=None, network=...):
    if network is ...:
        network = book.MultiLayerNet(2, [3], 2, **LAYER)
    return book.Trainer(network, X, t, X, T, 1, 2, optimizer, param, evaluate, verbose=False)


@pytest.mark.parametrize("call", WRONG_KINDS)
def test_wrong_kinds_are_told_in_a_sentence(call):
    with pytest.raises((TypeError, ValueError, AttributeError), match=WRONG_KINDS[call]) as e:
        eval(call)
    last = traceback.extract_tb(e.value.__traceback__)[-1]
    assert (last.line or "").startswith("raise"), "raised by Python"


def test_a_class_that_makes_batches_is_a_function_of_them():
    class Batches:
        def __init__(self, n, batch_size, epoch):
            self.n = n

        def __iter__(self):
            return iter([[row] for row in range(self.n)])

    assert ap.fit(**FIT, epochs=1, batches=Batches).state.step == 4


def test_a_layer_of_ones_own_may_set_its_arrays_itself(backend):
    class Doubled(book.Affine):
        def __init__(self, W, b):
            self.W, self.b = 2.0 * W, b

    layer = Doubled(backend.asarray(np.ones((2, 1))), backend.asarray(np.zeros(1)))
    assert float(layer.forward(backend.asarray([[1.0, 2.0]]))[0, 0]) == 6.0
    layer.backward(backend.asarray([[1.0]]))
    params = {"W": layer.W}
    if not backend.readonly:
        book.SGD(1.0).update(params, {"W": layer.dW})
        assert backend.to_numpy(layer.W).tolist() == [[1.0], [0.0]]


class RefusedError(ValueError):
    """An error that takes more than a message, as UnicodeDecodeError and those of JAX's tracers do."""

    def __init__(self, column, row):
        super().__init__(f"{column} is bad in row {row}")


def refuse(*given):
    raise RefusedError("t", 3)


class Refuses(ap.MeanSquaredError):
    check_targets = refuse


class Endless:
    __len__ = __getitem__ = refuse


# All of these put words in front of what they caught.
OF_USERS = {
    "a loss": lambda: ap.evaluate(NET, PARAMS, (X, X), loss=Refuses()),
    "a loss, of a source": lambda: ap.evaluate(NET, PARAMS, ap.Source((X, X)), loss=Refuses()),
    "a length": lambda: ap.Source(Endless()),
}


@pytest.mark.parametrize("raising", OF_USERS)
def test_an_error_of_a_user_s_class_keeps_what_it_says(raising):
    with pytest.raises(ValueError, match=r"^(data|Source): .*t is bad in row 3"):
        OF_USERS[raising]()


def test_an_error_within_a_call_that_fits_is_left_as_it_is():
    @usage("twice(function)")
    def twice(function):
        return function() * 2

    raised = TypeError("of the function itself")

    def fails():
        raise raised

    with pytest.raises(TypeError) as caught:
        twice(fails)
    assert caught.value is raised
    with pytest.raises(TypeError, match=r"twice: .*write twice\(function\)"):
        twice()


def functions():
    """List the public functions; those of the backends, which steps call, keep Python's own words."""
    for part, modules in PUBLIC.items():
        for module, names in modules.items():
            for name in names.split() if part != "backends" else ["check_backend"]:
                if hasattr(found := importlib.import_module(f"anyprop.{module}"), name):
                    function = getattr(found, name)
                    if inspect.isfunction(function):
                        yield name, function
    found = {name: getattr(book, name) for name in book.__all__}
    yield from ((name, value) for name, value in found.items() if inspect.isfunction(value))


@pytest.mark.parametrize(("name", "function"), [pytest.param(*f, id=f[0]) for f in functions()])
def test_arguments_that_do_not_fit_are_refused_by_a_call_that_does(name, function):
    with pytest.raises(TypeError, match=rf"^{name}: .*; write {name}\("):
        function(zyzzyva=1)
    with pytest.raises(TypeError, match=rf"^{name}: .*; write {name}\("):
        function(*range(20))


def test_names_of_other_libraries_are_known_by_functions_of_files(tmp_path):
    for call in (
        lambda: ap.load(tmp_path / "new", backend="torch"),
        lambda: ap.load_mnist(backend="torch"),
    ):
        with pytest.raises(TypeError, match="'backend'; did you mean 'xp'"):
            call()
    with pytest.raises(TypeError, match="'network'; did you mean 'net'"):
        ap.save(tmp_path / "new", PARAMS, network=NET)
    with pytest.raises(TypeError, match="'filename'; did you mean 'path'"):
        ap.export_onnx(NET, PARAMS, filename=tmp_path / "new")
    assert not (tmp_path / "new").exists()
