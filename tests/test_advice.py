"""What a message advises is done as it says, and the call succeeds."""

import re

import numpy as np
import pytest

import anyprop as ap
from anyprop import interchange, schedules

NET, LOSS, OPT = ap.MLP([2, 3, 2]), ap.SoftmaxCrossEntropy(), ap.RMSProp(0.01)
NORMED = ap.MLP([2, 3, 2], norm="batch")
X = np.asarray([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0], [2.0, 0.0]], "float32")
T = np.asarray([0, 1, 1, 0])
PARAMS = NET.init()


def fit(x=X, t=T, *, net=NET, params=None, **options):
    params = net.init() if params is None else params
    return ap.fit(net, params, (x, t), **{"loss": LOSS, "optimizer": OPT, **options})


WIDE = X.astype("float64")
HOLED = np.ma.masked_array(X, X > 2)
BAD = np.where(X > 3, np.nan, X)
# advice -> (what fails with it, what follows it)
ADVICE = {
    "cast x to float32": (lambda: fit(WIDE), lambda: fit(WIDE.astype("float32"))),
    "make the parameters by net.init(dtype='float64')": (
        lambda: fit(WIDE),
        lambda: fit(WIDE, params=NET.init(dtype="float64")),
    ),
    "cast x": (
        lambda: ap.predict(NET, PARAMS, WIDE),
        lambda: ap.predict(NET, PARAMS, WIDE.astype(PARAMS.flat.dtype)),
    ),
    "fill or drop what is masked, as by array.filled(0)": (
        lambda: fit(HOLED),
        lambda: fit(HOLED.filled(0)),
    ),
    "pass numpy.asarray(array)": (
        lambda: fit(X.view(np.matrix)),
        lambda: fit(np.asarray(X.view(np.matrix))),
    ),
    "remove or replace the 1 numbers": (lambda: fit(BAD), lambda: fit(np.nan_to_num(BAD))),
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
    "cast them": (lambda: fit(t=T.astype("float32")), lambda: fit(t=T)),
    "pass (N, K)": (
        lambda: fit(t=T.astype("float32")),
        lambda: fit(t=np.eye(2, dtype="float32")[T]),
    ),
    "make them by net.init()": (lambda: fit(net=NORMED, params=PARAMS), lambda: fit(net=NORMED)),
    "did you mean 'relu'?": (lambda: ap.MLP([2, 3, 2], "rely"), lambda: ap.MLP([2, 3, 2], "relu")),
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
    "give it a block that keeps the width": (
        lambda: ap.Residual(ap.Affine(2, 3)),
        lambda: ap.Residual(ap.Affine(2, 2)),
    ),
    "draw it by noise(rng, x.shape)": (
        lambda: NET.forward_train(PARAMS, X, 3),
        lambda: NET.forward_train(PARAMS, X, NET.noise(np.random.default_rng(0), X.shape)),
    ),
    "give an eps of at least": (
        lambda: ap.Adam().init(np.zeros(2, "float16")),
        lambda: ap.Adam(eps=1e-4).init(np.zeros(2, "float16")),
    ),
    "make the state by this optimizer's init": (
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
}


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_leads_somewhere(advice):
    fails, follows = ADVICE[advice]
    with pytest.raises((TypeError, ValueError, ArithmeticError), match=re.escape(advice)):
        fails()
    follows()


def test_advice_about_files_leads_somewhere(tmp_path):
    path = tmp_path / "absent" / "a"
    with pytest.raises(FileNotFoundError, match="make it first"):
        ap.save(path, PARAMS, net=NET)
    path.parent.mkdir()
    with pytest.raises(TypeError, match="cast them to float32"):
        ap.save(path, PARAMS.replace(flat=PARAMS.flat.astype("int64")), net=NET)
    ap.save(path, PARAMS.replace(flat=PARAMS.flat.astype("float32")), net=NET)
    with pytest.raises(ap.ResumeError, match="resume from a checkpoint"):
        fit(resume=path)
    fit(callbacks=[ap.Checkpoints(tmp_path / "c")])
    with pytest.raises(ValueError, match="resume it, or take another folder"):
        fit(callbacks=[ap.Checkpoints(tmp_path / "c")])
    fit(resume=tmp_path / "c", epochs=2, callbacks=[ap.Checkpoints(tmp_path / "c")])
    fit(callbacks=[ap.Checkpoints(tmp_path / "d")])
    interchange.save_torch(path, NET, PARAMS)
    with pytest.raises(ValueError, match="are read by anyprop.interchange.from_torch"):
        ap.load(path)
    interchange.from_torch(NET, path)
