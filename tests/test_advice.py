"""The advice of each message is followed, and the call succeeds."""

import re
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from advice import UNFOLLOWED, clauses, followed, given
from anyprop import book, interchange, schedules
from anyprop.backend import namespace
from anyprop.layers.base import Layer
from anyprop.layout import Spec
from anyprop.testing.place import Place
from arrays import other_backends_array
from jax_process import printed
from ranks import on_ranks

NET, LOSS, OPT = ap.MLP([2, 3, 2]), ap.SoftmaxCrossEntropy(), ap.RMSProp(0.01)
NORMED = ap.MLP([2, 3, 2], norm="batch")
X = np.asarray([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0], [2.0, 0.0]], "float32")
T = np.asarray([0, 1, 1, 0])
PARAMS = NET.init()


def fit(x=X, t=T, *, net=NET, params=None, **options):
    params = net.init() if params is None else params
    return ap.fit(net, params, (x, t), **{"loss": LOSS, "optimizer": OPT, **options})


class Shifted(Layer):
    """A layer with a vector that starts at 1."""

    def specs(self):
        return {"shift": Spec((2,), 1.0)}


class Sevens(ap.MeanSquaredError):
    """Takes targets of 7 only, which cannot be guessed."""

    def check_targets(self, t, width):
        if (ap.to_host(t) != 7.0).any():
            raise ValueError("t holds another number than 7.")


class Module:
    """What PyTorch's modules are asked for."""

    def state_dict(self):
        return {"weight": X[:1], "bias": X[0, :1]}


class Sparse:
    """A sparse matrix of SciPy or CuPy."""

    shape = X.shape

    def toarray(self):
        return X


class SparseInJAX:
    """A sparse matrix of JAX."""

    shape = X.shape

    def todense(self):
        return X


class Labelled:
    """Rows with labels, as those of a table of pandas."""

    iloc = shape = dtype = None

    def to_numpy(self):
        return X


def measured_on_ranks(data):
    on_ranks(2, lambda ranks: ap.evaluate(NET, PARAMS, data, loss=LOSS, communicator=ranks))


class Chunked:
    """A data set of a file."""

    shape, dtype, chunks = X.shape, X.dtype, (2, 2)

    def __getitem__(self, rows):
        return X[rows]


def fit_of(data, **options):
    return ap.fit(NET, PARAMS, data, loss=LOSS, optimizer=OPT, **options)


def one_of_one(batches, epoch):
    return batches


def draw(rng, n):
    return rng.random(n)


def book_backward(layer):
    layer.forward(X)
    layer.backward(X)


def book_gradients(net):
    net.compute_loss(X, T)
    net.backward(T)


WIDE = X.astype("float64")
WIDE_GRADS = PARAMS.flat.astype("float64")
HOLED = np.ma.masked_array(X, X > 2)
BAD = np.where(X > 3, np.nan, X)
# advice -> (what fails with it, what follows it)
ADVICE = {
    "cast x to float32": (lambda: fit(WIDE), lambda: fit(WIDE.astype("float32"))),
    "give x.to_numpy()": (
        lambda: ap.Source((Labelled(), T)),
        lambda: ap.Source((Labelled().to_numpy(), T)),
    ),
    "take its to_numpy()": (lambda: fit(Labelled()), lambda: fit(Labelled().to_numpy())),
    "wrap them": (lambda: fit_of((Chunked(), T)), lambda: fit_of(ap.Source((Chunked(), T)))),
    "give Source((x, t, weights))": (
        lambda: fit_of((X, T, np.ones(4, "float32"))),
        lambda: fit_of(ap.Source((X, T, np.ones(4, "float32")))),
    ),
    "give Stream(lambda epoch": (
        lambda: fit_of([(X, T), (X, T), (X, T)]),
        lambda: fit_of(ap.Stream(lambda epoch: [(X, T), (X, T), (X, T)])),
    ),
    "give Stream(batches) with a function that makes another for each epoch": (
        lambda: fit_of(iter([(X, T)])),
        lambda: fit_of(ap.Stream(lambda epoch: iter([(X, T)]))),
    ),
    "make another in each call": (
        lambda: fit_of(ap.Stream(partial(one_of_one, iter([(X, T)]))), epochs=2),
        lambda: fit_of(ap.Stream(lambda epoch: iter([(X, T)])), epochs=2),
    ),
    "leave out batch_size": (
        lambda: fit_of(ap.Stream(lambda epoch: [(X, T)]), batch_size=4),
        lambda: fit_of(ap.Stream(lambda epoch: [(X, T)])),
    ),
    "give the weights as third value of each batch": (
        lambda: fit_of(ap.Stream(lambda epoch: [(X, T)]), sample_weight=np.ones(4, "float32")),
        lambda: fit_of(ap.Stream(lambda epoch: [(X, T, np.ones(4, "float32"))])),
    ),
    "give the weights as third value of the Source": (
        lambda: fit_of(ap.Source((X, T)), sample_weight=np.ones(len(T), "float32")),
        lambda: fit_of(ap.Source((X, T, np.ones(len(T), "float32")))),
    ),
    "give both": (
        lambda: ap.Source((X, T), draw=draw),
        lambda: ap.Source((X, T), draw=draw, augment=lambda x, t, drawn: (x, t)),
    ),
    "give batches as a function that makes another one for each epoch": (
        lambda: ap.Stream(iter([(X, T)])),
        lambda: ap.Stream(lambda epoch: iter([(X, T)])),
    ),
    "write Stream(lambda epoch: batches)": (
        lambda: ap.Stream([(X, T)]),
        lambda: ap.Stream(lambda epoch: [(X, T)]),
    ),
    "give the ranks a Source": (
        lambda: measured_on_ranks(ap.Stream(lambda epoch: [(X, T)])),
        lambda: measured_on_ranks(ap.Source((X, T))),
    ),
    "call predict for each batch": (
        lambda: ap.predict(NET, PARAMS, ap.Stream(lambda epoch: [(X, T)])),
        lambda: [ap.predict(NET, PARAMS, x) for x, _ in ap.Stream(lambda epoch: [(X, T)]).read(0)],
    ),
    "use a wider dtype": (
        lambda: ap.Source((WIDE * 1e5, T), dtype="float16").read([0]),
        lambda: ap.Source((WIDE * 1e5, T), dtype="float32").read([0]),
    ),
    "create the parameters with net.init(dtype='float64')": (
        lambda: fit(WIDE),
        lambda: fit(WIDE, params=NET.init(dtype="float64")),
    ),
    "fill or drop what is masked, as by array.filled(0)": (
        lambda: fit(HOLED),
        lambda: fit(HOLED.filled(0)),
    ),
    "pass what its toarray() returns": (lambda: fit(Sparse()), lambda: fit(Sparse().toarray())),
    "pass what its todense() returns": (
        lambda: ap.from_host(SparseInJAX()),
        lambda: ap.from_host(SparseInJAX().todense()),
    ),
    "pass numpy.asarray(array)": (
        lambda: fit(X.view(np.matrix)),
        lambda: fit(np.asarray(X.view(np.matrix))),
    ),
    "remove or replace the 2 numbers of x that are not finite": (
        lambda: fit(np.where(X > 2, np.nan, X)),
        lambda: fit(np.nan_to_num(np.where(X > 2, np.nan, X))),
    ),
    "remove or replace it": (lambda: fit(BAD), lambda: fit(np.nan_to_num(BAD))),
    "ask for a wider dtype": (
        lambda: ap.from_host([70000.0], dtype="float16"),
        lambda: ap.from_host([70000.0], dtype="float32"),
    ),
    "ask for float32": (
        lambda: NET.init(dtype="bfloat16"),
        lambda: NET.init(dtype="float32"),
    ),
    "choose one of: cpu": (lambda: NET.init(device="gpu"), lambda: NET.init(device="cpu")),
    "pass a module such as numpy": (lambda: ap.get_namespace(re), lambda: ap.get_namespace(np)),
    "cast them if they number classes": (lambda: fit(t=T.astype("float32")), lambda: fit(t=T)),
    "use MeanSquaredError for other numbers": (
        lambda: fit(t=X[:, 0]),
        lambda: fit(t=X[:, :1], net=ap.MLP([2, 1]), loss=ap.MeanSquaredError()),
    ),
    "give it an output for each class": (
        lambda: fit(t=0 * T, net=ap.MLP([2, 1])),
        lambda: fit(t=0 * T, net=ap.MLP([2, 2])),
    ),
    "use SigmoidCrossEntropy": (
        lambda: fit(t=0 * T, net=ap.MLP([2, 1])),
        lambda: fit(t=0 * T[:, None], net=ap.MLP([2, 1]), loss=ap.SigmoidCrossEntropy()),
    ),
    "pass (N, K)": (
        lambda: fit(t=T.astype("float32")),
        lambda: fit(t=np.eye(2, dtype="float32")[T]),
    ),
    "create them with net.init()": (
        lambda: fit(net=NORMED, params=PARAMS),
        lambda: fit(net=NORMED),
    ),
    "write Momentum(momentum=0.9)": (
        lambda: ap.SGD(momentum=0.9),
        lambda: ap.Momentum(momentum=0.9),
    ),
    "write Nesterov()": (lambda: ap.SGD(nesterov=True), lambda: ap.Nesterov()),
    "write AMSGrad()": (lambda: ap.Adam(amsgrad=True), lambda: ap.AMSGrad()),
    "write optimizer=anyprop.Adam(lr=0.001)": (
        lambda: fit(learning_rate=0.1),
        lambda: fit(optimizer=ap.Adam(lr=0.001)),
    ),
    "write LeakyReLU(slope)": (lambda: ap.LeakyReLU(0.1, 0.2), lambda: ap.LeakyReLU(0.1)),
    "did you mean 'relu'?": (lambda: ap.MLP([2, 3, 2], "rely"), lambda: ap.MLP([2, 3, 2], "relu")),
    "pass a layer, such as LeakyReLU(0.3)": (
        lambda: ap.MLP([2, 3, 2], np.tanh),
        lambda: ap.MLP([2, 3, 2], ap.LeakyReLU(0.3)),
    ),
    "write Sequential(*layers)": (
        lambda: ap.Sequential([ap.Affine(2, 2), ap.ReLU()]),
        lambda: ap.Sequential(*[ap.Affine(2, 2), ap.ReLU()]),
    ),
    "write fit(net, params, (x, t), loss=..., optimizer=...)": (
        lambda: ap.fit(NET, PARAMS, X, T, loss=LOSS, optimizer=OPT),
        lambda: ap.fit(NET, PARAMS, (X, T), loss=LOSS, optimizer=OPT),
    ),
    "write evaluate(net, params, (x, t), loss=...)": (
        lambda: ap.evaluate(NET, PARAMS, X, T, loss=LOSS),
        lambda: ap.evaluate(NET, PARAMS, (X, T), loss=LOSS),
    ),
    "write predict(net, params, x)": (
        lambda: ap.predict(NET, X),
        lambda: ap.predict(NET, PARAMS, X),
    ),
    "write MLP([784, 200, 10])": (
        lambda: ap.MLP(784, 200, 10),
        lambda: ap.MLP([784, 200, 10]),
    ),
    "choose one of: batch, layer": (
        lambda: ap.MLP([2, 3, 2], norm="xyz"),
        lambda: [ap.MLP([2, 3, 2], norm=norm) for norm in ("batch", "layer")],
    ),
    "use one of: train_loss": (
        lambda: fit(callbacks=[ap.EarlyStopping()]),
        lambda: fit(callbacks=[ap.EarlyStopping("train_loss")]),
    ),
    "use 'normal:0.01'": (
        lambda: ap.initializers.Orthogonal()(np.random.default_rng(0), (3,)),
        lambda: ap.initializers.get_initializer("normal:0.01")(np.random.default_rng(0), (3,)),
    ),
    "pass x": (lambda: ap.gradcheck(ap.ReLU()), lambda: ap.gradcheck(ap.ReLU(), WIDE + 0.25)),
    "pass a block that keeps the width": (
        lambda: ap.Residual(ap.Affine(2, 3)),
        lambda: ap.Residual(ap.Affine(2, 2)),
    ),
    "set a fixed initial value for the array": (
        lambda: ap.initializers.Orthogonal()(np.random.default_rng(0), (3,)),
        lambda: Shifted().init(weights="orthogonal"),
    ),
    "draw it by noise(rng, x.shape)": (
        lambda: NET.forward_train(PARAMS, X, 3),
        lambda: NET.forward_train(PARAMS, X, NET.noise(np.random.default_rng(0), X.shape)),
    ),
    "give an eps of at least 1.6e-05": (
        lambda: ap.Adam().init(np.zeros(2, "float16")),
        lambda: ap.Adam(eps=1.6e-5).init(np.zeros(2, "float16")),
    ),
    "create the state with this optimizer's init": (
        lambda: ap.SGD(weight_decay=0.1, decay_biases=False).update(
            PARAMS, PARAMS, ap.SGD().init(PARAMS)
        ),
        lambda: ap.SGD(weight_decay=0.1, decay_biases=False).update(
            PARAMS, PARAMS, ap.SGD(weight_decay=0.1, decay_biases=False).init(PARAMS)
        ),
    ),
    "lower the learning rate, or clip gradients (clip_global_norm=1.0)": (
        lambda: fit(X * 1e3, optimizer=ap.SGD(lr=1e30), steps=20),
        lambda: [
            fit(X * 1e3, optimizer=ap.SGD(lr=1e-6), steps=20),
            fit(X * 1e3, optimizer=ap.SGD(lr=1e-3, clip_global_norm=1.0), steps=20),
        ],
    ),
    "such as [anyprop.EarlyStopping()]": (
        lambda: fit(callbacks=ap.EarlyStopping("train_loss")),
        lambda: fit(callbacks=[ap.EarlyStopping("train_loss")]),
    ),
    "such as Constant(0.1)": (
        lambda: schedules.Warmup(5, 0.1),
        lambda: schedules.Warmup(5, schedules.Constant(0.1)),
    ),
    "write brackets around a single one": (
        lambda: fit(callbacks=ap.EarlyStopping("train_loss")),
        lambda: fit(callbacks=[ap.EarlyStopping("train_loss")]),
    ),
    "write one of these": (
        lambda: fit(callbacks=[type("Mine", (ap.Callback,), {"on_epoch_end": print})()]),
        lambda: fit(callbacks=[type("Mine", (ap.Callback,), {"on_epoch": print})()]),
    ),
    "write RMSProp(...)": (lambda: fit(optimizer=ap.RMSProp), lambda: fit(optimizer=ap.RMSProp())),
    "pass an array of NumPy": (
        lambda: ap.predict(NET, PARAMS, X.tolist()),
        lambda: ap.predict(NET, PARAMS, np.asarray(X.tolist(), "float32")),
    ),
    "pass numpy.asarray(array) if its plain numbers are meant": (
        lambda: ap.predict(NET, PARAMS, X.view(np.matrix)),
        lambda: ap.predict(NET, PARAMS, np.asarray(X.view(np.matrix))),
    ),
    "pass real numbers": (
        lambda: ap.from_host(["a"], dtype="float32"),
        lambda: ap.from_host([1], dtype="float32"),
    ),
    "leave the backend out": (lambda: fit(torch_backend="inductor"), fit),
    "cast x to the dtype of the parameters": (
        lambda: ap.Rescale(0.5).forward(None, T),
        lambda: ap.Rescale(0.5).forward(None, T.astype(PARAMS.flat.dtype)),
    ),
    "give Rescale the numbers of the state dictionary": (
        lambda: interchange.from_torch(ap.Rescale(0.5), {"scale": np.asarray(0.25)}),
        lambda: interchange.from_torch(ap.Rescale(0.25), {"scale": np.asarray(0.25)}),
    ),
    "cast them alike": (
        lambda: interchange.from_torch(
            ap.Affine(2, 1), {"weight": X[:1], "bias": np.zeros(1, "float64")}
        ),
        lambda: interchange.from_torch(
            ap.Affine(2, 1), {"weight": X[:1], "bias": np.zeros(1, "float32")}
        ),
    ),
    "pass what its state_dict() returns": (
        lambda: interchange.from_torch(ap.Affine(2, 1), Module()),
        lambda: interchange.from_torch(ap.Affine(2, 1), Module().state_dict()),
    ),
    "pass History.from_dict(history)": (
        lambda: ap.plot_history(ap.History([1.0]).to_dict()),
        lambda: ap.plot_history(ap.History.from_dict(ap.History([1.0]).to_dict())),
    ),
    "pass dtype='float32'": (
        lambda: interchange.from_torch(ap.Affine(4, 1, bias=False), {"weight": T[None]}),
        lambda: interchange.from_torch(
            ap.Affine(4, 1, bias=False), {"weight": T[None]}, dtype="float32"
        ),
    ),
    "leave out block": (
        lambda: ap.batch_indices(9, 2, seed=0, epoch=0, replacement=True, block=3),
        lambda: ap.batch_indices(9, 2, seed=0, epoch=0, replacement=True),
    ),
    "write a positive number": (
        lambda: NET.init(weights="normal:-1"),
        lambda: NET.init(weights="normal:0.01"),
    ),
    "pass t": (
        lambda: ap.gradcheck(Sevens(), WIDE),
        lambda: ap.gradcheck(Sevens(), WIDE, t=np.full_like(WIDE, 7.0)),
    ),
    "give at least one class a weight": (
        lambda: ap.SoftmaxCrossEntropy(class_weight=[0, 0]),
        lambda: fit(loss=ap.SoftmaxCrossEntropy(class_weight=[0, 1])),
    ),
    "divide them by a large number": (
        lambda: fit(sample_weight=np.full(4, 3e38, "float32")),
        lambda: fit(sample_weight=np.full(4, 3e38, "float32") / np.float32(1e30)),
    ),
    "check the weights of the classes": (
        lambda: fit(t=0 * T, loss=ap.SoftmaxCrossEntropy(class_weight=[0, 1])),
        lambda: fit(t=0 * T, loss=ap.SoftmaxCrossEntropy(class_weight=[1, 1])),
    ),
    "multiply them if they round to 0": (
        lambda: fit(sample_weight=np.full(4, 1e-320)),
        lambda: fit(sample_weight=np.full(4, 1e-320) * 1e300),
    ),
    "cast one of them": (
        lambda: OPT.update(PARAMS.flat, WIDE_GRADS, OPT.init(PARAMS.flat)),
        lambda: [
            OPT.update(PARAMS.flat, WIDE_GRADS.astype("float32"), OPT.init(PARAMS.flat)),
            OPT.update(WIDE_GRADS, WIDE_GRADS, OPT.init(WIDE_GRADS)),
        ],
    ),
    "give a smaller initial value": (
        lambda: ap.AdaGrad(initial_accumulator=1e39).init(X),
        lambda: ap.AdaGrad(initial_accumulator=1e38).init(X),
    ),
    "make RMSProp(...) itself with the parameters you want": (
        lambda: ap.RMSProp.like("torch", clip_norm=1.0),
        lambda: ap.RMSProp(0.01, clip_norm=1.0),
    ),
    "pass decay_biases=False along with weight_decay": (
        lambda: ap.RMSProp.like("book", weight_decay=0.1),
        lambda: ap.RMSProp.like("book", weight_decay=0.1, decay_biases=False),
    ),
    "count from 0": (lambda: PARAMS[-1], lambda: PARAMS[2]),
    "pass resume, or leave it out": (lambda: fit(allow_changes=True), fit),
    "leave it out to start afresh": (lambda: fit(state={}), fit),
    "look at x, t and the initial parameters": (
        lambda: fit(params=PARAMS.replace(flat=np.full_like(PARAMS.flat, 1e38))),
        lambda: fit(params=PARAMS),
    ),
    "call forward before backward": (
        lambda: book.ReLU().backward(X),
        lambda: book_backward(book.ReLU()),
    ),
    "call compute_loss(x, t) before backward(t)": (
        lambda: book.NeuralNetwork(2, 3, 2, xp="numpy").backward(T),
        lambda: book_gradients(book.NeuralNetwork(2, 3, 2, xp="numpy")),
    ),
    "call backward before update": (
        lambda: book.SGD().update({"W": X}, {"W": None}),
        lambda: book.SGD().update({"W": X.copy()}, {"W": X}),
    ),
    "make an optimizer for each network": (
        lambda: (
            [sgd.update({"W": array}, {"W": array}) for array in (X.copy(), X[:2].copy())]
            if (sgd := book.Momentum())
            else None
        ),
        lambda: [
            book.Momentum().update({"W": array}, {"W": array}) for array in (X.copy(), X[:2].copy())
        ],
    ),
}


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_leads_somewhere(advice):
    fails, follows = ADVICE[advice]
    errors = (TypeError, ValueError, ArithmeticError, RuntimeError, IndexError)
    with pytest.raises(errors, match=re.escape(advice)):
        fails()
    follows()


def test_advice_about_files_leads_somewhere(tmp_path):
    path = tmp_path / "absent" / "a"
    with pytest.raises(FileNotFoundError, match="create it first"):
        ap.save(path, PARAMS, net=NET)
    path.parent.mkdir()
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        ap.save(path.parent, PARAMS, net=NET)
    ap.save(path, PARAMS, net=NET)
    with pytest.raises(TypeError, match="cast them to float32"):
        ap.save(path, PARAMS.replace(flat=PARAMS.flat.astype("int64")), net=NET)
    ap.save(path, PARAMS.replace(flat=PARAMS.flat.astype("float32")), net=NET)
    with pytest.raises(ap.ResumeError, match="resume from a checkpoint"):
        fit(resume=path)
    fit(callbacks=[ap.Checkpoints(tmp_path / "c")])
    with pytest.raises(ValueError, match="resume it, or choose another folder"):
        fit(callbacks=[ap.Checkpoints(tmp_path / "c")])
    fit(resume=tmp_path / "c", epochs=2, callbacks=[ap.Checkpoints(tmp_path / "c")])
    fit(callbacks=[ap.Checkpoints(tmp_path / "d")])
    log = ap.CSVLogger(tmp_path / "e")
    with pytest.raises(ValueError, match="name another for one of them"):
        fit(callbacks=[log, ap.CSVLogger(tmp_path / "e")])
    fit(callbacks=[log, ap.CSVLogger(tmp_path / "f")])
    with pytest.raises(ValueError, match="leave one out, or make two of them"):
        fit(callbacks=[log, log])
    fit(callbacks=[log])
    fit(callbacks=[ap.EarlyStopping("train_loss"), ap.EarlyStopping("train_loss")])
    interchange.save_torch(path, NET, PARAMS)
    with pytest.raises(ValueError, match="are read by anyprop.interchange.from_torch"):
        ap.load(path)
    interchange.from_torch(NET, path)


def test_advice_about_contents_of_files_leads_somewhere(tmp_path):
    path, copy = tmp_path / "a", tmp_path / "b"
    with pytest.raises(ValueError, match="save less as config"):
        ap.save(path, PARAMS, net=NET, config={"notes": "x" * 100_000_001})
    ap.save(path, PARAMS, net=NET, config={"notes": "x"})
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    copy.write_bytes(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="take another copy"):
        ap.load(path)
    ap.load(copy)
    with pytest.raises(TypeError, match="cast it to float32"):
        interchange.save_torch(path, NET, long_double := NET.init(dtype="longdouble"))
    cast = long_double.flat.astype("float32")
    interchange.save_torch(path, NET, long_double.replace(flat=cast))
    wanted = "a parameter cannot be called '__a__' in a file; rename it"
    with pytest.raises(ValueError, match=wanted):
        ap.save(path, Named("__a__").init())
    ap.save(path, Named("a").init())


class Named(Layer):
    """A layer with one vector of a given name."""

    def __init__(self, name):
        self.name = name

    def specs(self):
        return {self.name: Spec((2,), 1.0)}


def test_advice_about_data_sets_leads_somewhere(tmp_path):
    for name, array in (("images", np.zeros((3, 2, 2), "uint8")), ("labels", np.arange(3))):
        shape = struct.pack(f">{array.ndim}I", *array.shape)
        held = bytes([0, 0, 8, array.ndim]) + shape + array.astype("uint8").tobytes()
        for part in ("train", "t10k"):
            (tmp_path / f"{part}-{name}-idx{array.ndim}-ubyte").write_bytes(held)
    twice = tmp_path / "t10k-labels.idx1-ubyte"
    twice.write_bytes((tmp_path / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(ValueError, match="give each data set a directory of its own"):
        ap.load_idx(tmp_path)
    twice.unlink()
    ap.load_idx(tmp_path)


def test_advice_about_runs_leads_somewhere(tmp_path):
    class Twice(ap.Callback):
        def on_epoch(self, run):
            with pytest.raises(ValueError, match="wait until it ends, or choose another folder"):
                fit(callbacks=[ap.Checkpoints(tmp_path / "a")])
            fit(callbacks=[ap.Checkpoints(tmp_path / "b")])

    fit(callbacks=[ap.Checkpoints(tmp_path / "a"), Twice()])
    resumed = {"resume": tmp_path / "a", "callbacks": [ap.Checkpoints(tmp_path / "a")]}
    fit(epochs=2, **resumed)

    one_by_one = {"steps": 2, "batches": lambda n, batch_size, epoch: [[0], [1], [2]]}
    fit(callbacks=[ap.Checkpoints(tmp_path / "c")], **one_by_one)
    one_by_one |= {"steps": 4, "resume": tmp_path / "c"}
    with pytest.raises(ValueError, match="resume it with the same batches"):
        fit(**one_by_one | {"batches": lambda n, batch_size, epoch: [[0]]})
    fit(**one_by_one)


def test_advice_about_batches_of_ranks_leads_somewhere():
    def order(seeded):
        def batches(n, batch_size, epoch):
            rng = np.random.default_rng(epoch if seeded else None)
            return [rng.permutation(n) for _ in range(20)]

        return batches

    def run(seeded):
        on_ranks(2, lambda ranks: fit(batches=order(seeded), communicator=ranks))

    with pytest.raises(ValueError, match="seed what is random by the epoch"):
        run(False)
    run(True)


def test_advice_about_places_leads_somewhere(backend):
    params, x = NET.init(xp=backend.xp, device=backend.device), backend.asarray(X)
    other = other_backends_array(backend, X)
    with pytest.raises(TypeError, match=re.escape("anyprop.to_namespace(array, xp)")):
        namespace(x, other)
    with pytest.raises(TypeError, match=re.escape("move one of them with anyprop.to_namespace")):
        ap.predict(NET, params, other)
    moved = ap.to_namespace(other, backend.xp, device=backend.device)
    namespace(x, moved)
    ap.predict(NET, params, moved)
    if backend.name == "numpy":
        return
    for strange in (np.asarray(["1.5"]), np.asarray([1.5], dtype=object)):
        with pytest.raises(TypeError, match="cast the array to float64"):
            ap.from_host(strange, backend.xp)
        ap.from_host(strange.astype("float64"), backend.xp)


@pytest.mark.needs("array_api_strict")
def test_advice_about_devices_leads_somewhere():
    params = NET.init(xp="array_api_strict", device="device1")
    x = Place("array_api_strict").asarray(X)
    with pytest.raises(
        TypeError,
        match=re.escape("move one of them with anyprop.to_namespace(array, xp, device=...)"),
    ):
        ap.predict(NET, params, x)
    ap.predict(NET, params, ap.to_namespace(x, "array_api_strict", device="device1"))


def test_advice_about_sources_leads_somewhere():
    x, t = (ap.from_host(a, "array_api_strict", device="device1") for a in (X, T))
    with pytest.raises(TypeError, match="reads from the host") as told:
        ap.Source((x, t))
    assert "give (x, t) itself to fit, or copy it by anyprop.to_host" in str(told.value)
    fit(x, t, params=NET.init(xp="array_api_strict", device="device1"))
    ap.Source((ap.to_host(x), ap.to_host(t)))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("compile", [False, True])
def test_advice_about_autocast_leads_somewhere(compile):
    import torch

    def run(dtype):
        x, t = ap.from_host(X, "torch", dtype=dtype), ap.from_host(T, "torch")
        return fit(x, t, params=NET.init(xp="torch", dtype=dtype), compile=compile)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ValueError, match="torch.autocast makes gradients") as told:
            run("float32")
        wanted = "make parameters of 16 bits by net.init(dtype='bfloat16') if these are wanted"
        assert f"leave it, and {wanted}." in str(told.value)
        run("bfloat16")
    run("float32")


@pytest.mark.needs("torch")
def test_advice_about_compiling_leads_somewhere():
    def run(ranks, **options):
        x, t = ap.from_host(X, "torch"), ap.from_host(T, "torch")
        params = NET.init(xp="torch")
        fit(x, t, params=params, communicator=ranks, **options)

    with pytest.raises(ValueError, match="torch_backend='eager' is for one process; leave it out"):
        on_ranks(2, lambda ranks: run(ranks, torch_backend="eager"))
    on_ranks(2, run)


JAX = """
import anyprop as ap
for array in ([1.0], [2**40]):
    try:
        print(ap.from_host(array, "jax").dtype)
    except (TypeError, OverflowError) as error:
        print(error)
"""


@pytest.mark.needs("jax")
def test_advice_about_jax_leads_somewhere():
    advice = "set JAX_ENABLE_X64=1 before the program starts"
    assert all(advice in line for line in printed(JAX, bits64=False))
    assert printed(JAX, bits64=True) == ["float64", "int64"]


def test_advice_about_onnx_leads_somewhere(tmp_path):
    path, soft = tmp_path / "a", ap.Sequential(ap.Affine(2, 2), ap.Softmax())
    with pytest.raises(ValueError, match="leave softmax=True out"):
        ap.export_onnx(soft, soft.init(), path, softmax=True)
    ap.export_onnx(soft, soft.init(), path)
    net = ap.MLP([2, 2, 2], "gelu")
    with pytest.raises(ValueError, match="export with dtype='float32'"):
        ap.export_onnx(net, net.init(dtype="float64"), path)
    ap.export_onnx(net, net.init(dtype="float64"), path, dtype="float32")
    bad = PARAMS.replace(flat=PARAMS.flat * np.nan)
    with pytest.raises(ValueError, match="export those of an earlier checkpoint"):
        ap.export_onnx(NET, bad, path)
    ap.save(tmp_path / "earlier", PARAMS)
    ap.export_onnx(NET, ap.load(tmp_path / "earlier").params, path)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_advice_about_pixels_of_bfloat16_leads_somewhere(name):
    pytest.importorskip(name)
    net = ap.MLP([784, 10])
    for load in (ap.load_mnist, partial(ap.load_image, "no file")):
        with pytest.raises(
            ValueError, match="no bfloat16; load them in float32, and cast them on PyTorch"
        ):
            load(dtype="bfloat16")
    (x, t), _ = ap.load_mnist(xp=name)
    x = ap.to_namespace(x[:20, ...], name, dtype="bfloat16")
    params = net.init(xp=name, dtype="bfloat16")
    assert ap.evaluate(net, params, (x, t[:20, ...]), loss=LOSS).loss > 0


def test_advice_about_whole_numbers_for_parameters_leads_somewhere():
    net, whole = ap.Affine(2, 3), {"weight": np.zeros((3, 2), "int8"), "bias": np.zeros(3, "int8")}
    with pytest.raises(ValueError, match="pass dtype='float32'"):
        ap.interchange.from_torch(net, whole)
    assert ap.interchange.from_torch(net, whole, dtype="float32").flat.dtype == "float32"


def test_advice_about_running_statistics_leads_somewhere():
    net, params = NORMED, NORMED.init()
    with pytest.raises(ValueError, match="keeps running statistics") as told:
        ap.value_and_grad(net, LOSS)
    for advice in (
        "give running=True",
        "take (value, grads, running)",
        "go on with params.replace(running=running)",
    ):
        assert advice in str(told.value)
    f = ap.value_and_grad(net, LOSS, running=True)
    _, _, running = f(params, X, T)
    params = params.replace(running=running)
    value, _, _ = f(params, X, T)
    assert np.isfinite(value)


def test_every_piece_of_advice_is_followed():
    """A message that gives new advice fails here, until a `test_advice*.py` does what it says."""
    tests, messages = followed(Path(__file__).parent), given()
    left = {
        advice: place
        for advice, place in messages.items()
        if not re.search(re.escape(advice).replace(r"\{\}", ".*"), tests, re.IGNORECASE)
        and not any(advice.startswith(known) for known in UNFOLLOWED)
    }
    assert left == {}
    gone = [known for known in UNFOLLOWED if not any(a.startswith(known) for a in messages)]
    assert gone == [], "no message gives this advice any more"


def test_advice_is_found_in_messages():
    assert list(clauses("x is {}, but the parameters are {}; cast x, or make them by {}.")) == [
        "cast x",
        "make them by {}",
    ]
    assert list(clauses("no run gives (see {}) its cast; it runs.")) == []
