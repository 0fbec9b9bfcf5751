"""What is written by mistake in the first five minutes gets a sentence that says what to write."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import anyprop as ap
from anyprop import schedules

NET, LOSS, OPT = ap.MLP([2, 3, 2]), ap.SoftmaxCrossEntropy(), ap.RMSProp(0.01)
X = np.asarray([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0], [2.0, 0.0]], "float32")
T = np.asarray([0, 1, 1, 0])
PARAMS = NET.init()
STEP = ap.make_step(NET, LOSS, OPT)
HOW = {"loss": LOSS, "optimizer": OPT}
FIT = "write fit(net, params, (x, t), loss=..., optimizer=...)"
MEASURE = "write evaluate(net, params, (x, t), loss=...)"


def fit(**changed):
    return ap.fit(NET, PARAMS, (X, T), **(HOW | changed))


# What was written -> what the message says.
MISTAKES = {
    "a name for an optimizer": (
        lambda: fit(optimizer="adam"),
        "optimizer must be one such as anyprop.Adam(), not 'adam'",
    ),
    "parameters for a step": (
        lambda: ap.make_step(NET, PARAMS, LOSS, OPT),
        "make_step: too many positional arguments; write make_step(net, loss, optimizer).",
    ),
    "what a step is made of for a step": (
        lambda: ap.compile(NET, LOSS, OPT),
        "compile: too many positional arguments; write compile(make_step(net, loss, optimizer)).",
    ),
    "a name for a loss": (
        lambda: ap.evaluate(NET, PARAMS, (X, T), loss="mse"),
        "loss must be one such as anyprop.SoftmaxCrossEntropy(), not 'mse'",
    ),
    "an optimizer's class": (lambda: fit(optimizer=ap.Adam), "the class Adam; write Adam(...)"),
    "a loss's class": (
        lambda: ap.value_and_grad(NET, ap.Huber),
        "the class Huber; write Huber(...)",
    ),
    "a layer's class as network": (
        lambda: ap.fit(ap.Affine, PARAMS, (X, T), **HOW),
        "the class Affine; write Affine(...)",
    ),
    "a callback's class": (
        lambda: fit(callbacks=[ap.EarlyStopping]),
        "the class EarlyStopping; write EarlyStopping(...)",
    ),
    "a schedule's class": (
        lambda: ap.Adam(lr=schedules.Cosine),
        "the class Cosine; write Cosine(...)",
    ),
    "a schedule's class in another": (
        lambda: schedules.Warmup(5, schedules.Cosine),
        "the class Cosine; write Cosine(...)",
    ),
    "a class in a network": (lambda: ap.Sequential(ap.ReLU), "did you forget the ()?"),
    "x and t apart": (lambda: ap.fit(NET, PARAMS, X, T, **HOW), FIT),
    "no params": (lambda: ap.fit(NET, (X, T), **HOW), FIT),
    "no loss": (lambda: ap.fit(NET, PARAMS, (X, T), optimizer=OPT), FIT),
    "a short name": (
        lambda: ap.fit(NET, PARAMS, (X, T), loss=LOSS, opt=OPT),
        "did you mean 'optimizer'?",
    ),
    "an argument of nothing": (lambda: fit(zzz=3), FIT),
    "x and t apart, evaluated": (lambda: ap.evaluate(NET, PARAMS, X, T, loss=LOSS), MEASURE),
    "no params, evaluated": (lambda: ap.evaluate(NET, (X, T), loss=LOSS), MEASURE),
    "no params, predicted": (lambda: ap.predict(NET, X), "write predict(net, params, x)"),
    "a batch size by place": (
        lambda: ap.predict(NET, PARAMS, X, 10),
        "write predict(net, params, x)",
    ),
    "data before params": (
        lambda: ap.fit(NET, (X, T), PARAMS, **HOW),
        "params must be what net.init() returns",
    ),
    "params before net": (
        lambda: ap.evaluate(PARAMS, NET, (X, T), loss=LOSS),
        "params must be what net.init() returns",
    ),
    "x before params": (lambda: NET(X, PARAMS), "params must be what net.init() returns"),
    "loss before net": (lambda: ap.value_and_grad(LOSS, NET), "net must be a layer or network"),
    "no params, called": (
        lambda: NET(X),
        "net: missing a required argument: 'x'; write net(params, x).",
    ),
    "no state": (
        lambda: STEP(PARAMS, X, T),
        "step: missing a required argument: 't'; write step(params, state, x, t).",
    ),
    "params to gradcheck": (lambda: ap.gradcheck(NET, PARAMS, X), "write gradcheck(layer, x, "),
    "layers in a list": (
        lambda: ap.Sequential([ap.ReLU()]),
        "not in a list; write Sequential(*layers)",
    ),
    "sizes one by one": (lambda: ap.MLP(2, 3, 2), "write MLP([784, 200, 10])"),
    "an activation that needs sizes": (
        lambda: ap.MLP([2, 3, 2], ap.Affine),
        "the class Affine; write Affine(...)",
    ),
    "seed under another name": (lambda: NET.init(random_state=3), "did you mean 'seed'?"),
    "a name that is near to another argument": (
        lambda: fit(random_state=3),
        "fit got an unexpected keyword argument 'random_state'; did you mean 'seed'?",
    ),
    "a learning rate for fit": (lambda: fit(lr=0.1), "write optimizer=anyprop.Adam(lr=0.001)"),
    "a setting by place": (
        lambda: schedules.Linear(0.1, 10, 0.0, 5),
        "Linear: too many positional arguments; write Linear(lr, steps, end).",
    ),
    "one size of two": (lambda: ap.Affine(3), "Affine: missing a required argument: 'm'"),
    "a function as activation": (
        lambda: ap.MLP([2, 3, 2], np.tanh),
        "activation must be a name such as 'relu', not numpy.ufunc; or pass a layer",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_sentence_mends_it(mistake):
    call, says = MISTAKES[mistake]
    with pytest.raises(TypeError, match=re.escape(says)) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "whole", "parts", "take"),
    [
        ("loss", LOSS, "forward backward check_targets", lambda loss: ap.value_and_grad(NET, loss)),
        ("optimizer", OPT, "init update numbers apply", lambda opt: ap.make_step(NET, LOSS, opt)),
    ],
)
def test_what_acts_as_a_loss_or_an_optimizer_has_all_that_is_asked_of_it(kind, whole, parts, take):
    """Noticed where it is given, not in the middle of a run."""
    acting = {name: getattr(whole, name) for name in parts.split()}
    take(SimpleNamespace(**acting))
    for name in acting:
        lacking = {other: part for other, part in acting.items() if other != name}
        with pytest.raises(TypeError, match=rf"^{kind} must be one such .* not types\.SimpleN"):
            take(SimpleNamespace(**lacking))


def test_an_activation_is_a_name_a_class_or_a_layer():
    assert ap.MLP([2, 3, 2], ap.ReLU) == ap.MLP([2, 3, 2], ap.ReLU()) == ap.MLP([2, 3, 2], "relu")
    net = ap.MLP([2, 3, 3, 2], ap.LeakyReLU(0.3))
    assert net.layers[1] is net.layers[3]
    assert net.layers[1].slope == 0.3
    # One object in two places has parameters of its own in each.
    params = ap.MLP([2, 3, 3, 2], ap.LayerNorm(3)).init()
    assert list(params.named())[2:4] == ["1.gamma", "1.beta"]
    assert "3.gamma" in params.named()


def test_a_layer_that_is_not_there_is_an_index_error():
    params = ap.Sequential(ap.MLP([2, 3, 2]), ap.Residual(ap.MLP([2, 2, 2])), ap.Tanh()).init()
    for there in (params[2], params[0][1], params[1][1]):  # which have no parameters
        assert there.flat.shape == (0,)
    for absent in (lambda: params[3], lambda: params[0][3], lambda: params[1][99]):
        with pytest.raises(IndexError, match=r"no layer \d+; this network has 3, counted from 0"):
            absent()
    trained = fit(steps=1).params
    with pytest.raises(IndexError):
        trained[3]
    assert trained[1].flat.shape == (0,)


def test_calling_a_network_is_inference():
    net = ap.MLP([2, 3, 2], norm="batch", dropout=0.5)
    params = net.init()
    np.testing.assert_array_equal(net(params, X), ap.predict(net, params, X))


def test_a_network_is_shown_with_a_line_for_each_layer():
    net = ap.Sequential(ap.Affine(2, 3), ap.Residual(ap.Sequential(ap.Affine(3, 3), ap.Tanh())))
    assert str(net).splitlines() == [
        "     layer                        y       parameters",
        "0    Affine(d=2, m=3, bias=True)  (N, 3)  9",
        "1    Residual                     (N, 3)",
        "1.0  Affine(d=3, m=3, bias=True)  (N, 3)  12",
        "1.1  Tanh()                       (N, 3)",
        "21 parameters",
    ]
    assert str(ap.Sequential(ap.Tanh())).splitlines()[1] == "0  Tanh()"
    assert eval(repr(net), vars(ap)) == net


def test_what_a_run_leaves_is_shown_in_one_line():
    result = fit(steps=2)
    first, last = (f"{loss:.4g}" for loss in result.history.losses)
    assert repr(result.history) == f"History(2 steps, 2 epochs, loss {first} to {last})"
    assert repr(result) == f"FitResult(17 parameters, {result.history!r})"
    assert repr(result._replace(interrupted=True)).endswith(", interrupted)")
    assert repr(ap.History()) == "History(0 steps)"


def test_an_optimizer_is_shown_by_what_differs_from_its_defaults():
    assert repr(ap.Adam()) == "Adam()"
    assert repr(ap.RMSProp(lr=0.01, centered=True)) == "RMSProp(lr=0.01, centered=True)"
    warm = ap.Adam(lr=schedules.Warmup(5, schedules.Constant(0.1)))
    assert repr(warm) == "Adam(lr=Warmup(steps=5, then=Constant(lr=0.1)))"
    rate = ap.SGD(lr=np.asarray(0.01))  # beside a default of the same value
    assert repr(rate) == "SGD(lr=array(0.01))"
