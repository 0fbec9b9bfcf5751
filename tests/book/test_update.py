"""`update`: what it takes, what it refuses, and that a refused one changes nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import anyprop as ap
from anyprop import book

KINDS = [
    book.SGD,
    book.Momentum,
    book.Nesterov,
    book.AdaGrad,
    book.RMSprop,
    book.Adam,
]
SLOTS = {
    "SGD": (),
    "Momentum": "v",
    "Nesterov": "v",
    "AdaGrad": "h",
    "RMSProp": "h",
    "Adam": "mv",
}
P = {"W1": np.asarray([[1.0, -2.0], [0.5, 3.0]]), "b1": np.asarray([0.25, -1.0])}
G = {"W1": np.asarray([[0.5, 1e-3], [-2.0, 1e-7]]), "b1": np.asarray([3.0, 0.0])}


def made(backend, host, dtype="float64"):
    return {name: backend.asarray(array, dtype=dtype) for name, array in host.items()}


def on_host(backend, tree):
    return {name: backend.to_numpy(array).copy() for name, array in tree.items()}


class Plain:
    """The book's six rules for one NumPy array, with gradients that may change in every step."""

    def __init__(self, kind, p, **settings):
        self.kind, self.p, self.settings = kind, p.copy(), settings
        self.a, self.c, self.t = np.zeros_like(p), np.zeros_like(p), 0

    def step(self, g):
        s, self.t = self.settings, self.t + 1
        if self.kind == "SGD":
            self.p = self.p - s["lr"] * g
        elif self.kind == "Momentum":
            self.a = 0.9 * self.a - s["lr"] * g
            self.p = self.p + self.a
        elif self.kind == "Nesterov":
            self.a = 0.9 * self.a - s["lr"] * g
            self.p = self.p + 0.9 * self.a - s["lr"] * g
        elif self.kind == "AdaGrad":
            self.a = self.a + g * g
            self.p = self.p - s["lr"] * g / (np.sqrt(self.a) + 1e-7)
        elif self.kind == "RMSProp":
            self.a = 0.99 * self.a + (1 - 0.99) * g * g
            self.p = self.p - s["lr"] * g / (np.sqrt(self.a) + 1e-7)
        else:
            rate = s["lr"] * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
            self.a = self.a + (1 - 0.9) * (g - self.a)
            self.c = self.c + (1 - 0.999) * (g * g - self.c)
            self.p = self.p - rate * self.a / (np.sqrt(self.c) + 1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_books_rules_step_for_step(backend, rng, kind):
    optimizer, params = kind(lr=0.1), made(backend, P)
    plain = {name: Plain(kind.__name__, p, lr=0.1) for name, p in P.items()}
    for step in range(20):
        if step == 10:  # velocities hold what the learning rate was
            optimizer.lr = 0.02
            for one in plain.values():
                one.settings["lr"] = 0.02
        grads = {n: 10.0 ** rng.uniform(-7, 1, g.shape) * np.sign(g) for n, g in G.items()}
        optimizer.update(params, made(backend, grads))
        for name, one in plain.items():
            one.step(grads[name])
            found = backend.to_numpy(params[name])
            np.testing.assert_allclose(found, one.p, rtol=1e-9, atol=1e-12)
    for name, one in plain.items():
        for slot, expected in zip(SLOTS[kind.__name__], (one.a, one.c), strict=False):
            found = backend.to_numpy(getattr(optimizer, slot)[name])
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
    if kind is book.Adam:
        assert optimizer.iter == 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_none_before_the_first_update(kind):
    assert all(getattr(kind(), slot) is None for slot in SLOTS[kind.__name__])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [float, np.float64, np.float32])
def test_numbers_are_updated_as_numbers(kind, number):
    optimizer, params = kind(lr=0.1), {"x": number(-7.0), "y": number(-7.0)}
    plain = {name: Plain(kind.__name__, np.asarray(-7.0), lr=0.1) for name in params}
    for _ in range(3):
        grads = {"x": number(params["x"] / 10.0), "y": 2.0 * params["y"]}
        for name, one in plain.items():
            one.step(grads[name])
        optimizer.update(params, grads)
        history = dict(params)
    rtol = 1e-6 if number is np.float32 else 1e-12
    for name, one in plain.items():
        assert type(params[name]) is number
        np.testing.assert_allclose(params[name], one.p, rtol=rtol)
    optimizer.update(params, {"x": 1.0, "y": 1.0})
    assert history["x"] != params["x"], "a number is not written into"


def test_a_whole_number_becomes_a_float():
    params = {"x": -7}
    book.SGD(lr=0.5).update(params, {"x": 1})
    assert params == {"x": -7.5}
    assert type(params["x"]) is float


def test_numbers_take_gradients_that_are_arrays_and_the_other_way_round(backend):
    params = {"x": -7.0, "y": backend.asarray(2.0)}
    book.SGD(lr=0.5).update(params, {"x": backend.asarray(1.0), "y": 4.0})
    assert params["x"] == -7.5
    assert float(params["y"]) == 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("p", "g"), [("float64", "float32"), ("float32", "float64")])
def test_another_dtype_of_gradients_is_taken(backend, kind, p, g):
    params, expected = made(backend, P, p), made(backend, P, p)
    kind(lr=0.1).update(params, made(backend, G, g))
    kind(lr=0.1).update(expected, made(backend, {n: a.astype(g) for n, a in G.items()}, p))
    for name in P:
        assert params[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(*(backend.to_numpy(d[name]) for d in (params, expected)))


def test_whole_gradients_are_taken(backend):
    params = {"p": backend.asarray([1.0, 2.0])}
    book.SGD(lr=0.5).update(params, {"p": backend.asarray([1, 2], dtype="int64")})
    assert backend.to_numpy(params["p"]).tolist() == [0.5, 1.0]


def test_other_names_among_the_gradients_are_not_read(backend):
    params = made(backend, P)
    book.SGD(lr=1.0).update(params, made(backend, G) | {"W9": "nothing", "x": None})
    assert list(params) == list(P)
    np.testing.assert_allclose(backend.to_numpy(params["b1"]), P["b1"] - G["b1"])


WRONG = {
    "missing": (lambda g, backend: {"W1": g["W1"]}, ValueError, "no gradient of 'b1'"),
    "shape": (
        lambda g, backend: g | {"b1": backend.asarray(np.ones(3))},
        ValueError,
        r"grads\['b1'\] has shape \(3,\), expected \(2,\)",
    ),
    "broadcast": (
        lambda g, backend: g | {"b1": backend.asarray(np.ones(1))},
        ValueError,
        r"grads\['b1'\] has shape \(1,\)",
    ),
    "number": (lambda g, backend: g | {"b1": 1.0}, ValueError, r"grads\['b1'\] has shape \(\)"),
    "none": (lambda g, backend: g | {"b1": None}, TypeError, "call backward before update"),
    "string": (lambda g, backend: g | {"b1": "1"}, TypeError, "not an Array API array"),
    "bool": (
        lambda g, backend: g | {"b1": backend.asarray([True, False])},
        TypeError,
        r"grads\['b1'\] must be of a real dtype",
    ),
    "complex": (
        lambda g, backend: g | {"b1": backend.asarray([1j, 2.0])},
        TypeError,
        r"grads\['b1'\] must be of a real dtype",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_refused_update_changes_nothing(backend, kind, after, wrong):
    spoil, error, message = WRONG[wrong]
    optimizer, params, grads = kind(lr=0.1), made(backend, P), made(backend, G)
    layer = book.Affine(params["W1"], params["b1"])
    for _ in range(after):
        optimizer.update(params, grads)
    objects, before, twin = dict(params), on_host(backend, params), copy.deepcopy(optimizer)

    with pytest.raises(error, match=message):
        optimizer.update(params, spoil(dict(grads), backend))
    assert list(params) == list(objects)
    assert all(params[name] is objects[name] for name in objects)
    assert layer.W is params["W1"]
    for name, expected in before.items():
        np.testing.assert_array_equal(backend.to_numpy(params[name]), expected)
    for slot in SLOTS[kind.__name__]:
        assert (getattr(optimizer, slot) is None) == (after == 0)

    other = made(backend, before)
    optimizer.update(params, grads)
    twin.update(other, grads)
    for name in P:
        np.testing.assert_array_equal(*(backend.to_numpy(d[name]) for d in (params, other)))


@pytest.mark.parametrize("kind", KINDS)
def test_refused_parameters(backend, kind):
    optimizer = kind()
    for bad in ([1, 2], [True, False]):
        params = {"W1": backend.asarray(P["W1"]), "b1": backend.asarray(bad)}
        with pytest.raises(TypeError, match=r"params\['b1'\] must be of a floating dtype"):
            optimizer.update(params, made(backend, G))
        np.testing.assert_array_equal(backend.to_numpy(params["W1"]), P["W1"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if SLOTS[kind.__name__]])
def test_the_parameters_of_another_network_are_refused(backend, kind):
    optimizer, params = kind(), made(backend, P)
    optimizer.update(params, made(backend, G))
    smaller = {name: array[:1] for name, array in P.items()}
    for host, dtype in ((P, "float32"), (smaller, "float64")):
        others = made(backend, {"W1": P["W1"], "b1": host["b1"]}, "float64") | {
            "b1": backend.asarray(host["b1"], dtype=dtype)
        }
        grads = {name: 0.0 * p + 1.0 for name, p in others.items()}
        with pytest.raises(ValueError, match="make an optimizer for each network"):
            optimizer.update(others, grads)
        np.testing.assert_array_equal(backend.to_numpy(others["W1"]), P["W1"])


@pytest.mark.needs("torch")
def test_arrays_of_two_libraries_are_refused():
    import torch

    params, grads = {"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": torch.ones(2)}
    with pytest.raises(TypeError, match=r"params\['b'\] belongs to numpy"):
        book.SGD().update(params, grads)
    assert params["a"].tolist() == [1.0, 1.0]


def test_a_setting_that_is_wrong_by_then_is_refused(backend):
    optimizer, params = book.SGD(), made(backend, P)
    optimizer.lr = -1.0
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.update(params, made(backend, G))
    np.testing.assert_array_equal(backend.to_numpy(params["W1"]), P["W1"])


DECAY = {"weight_decay": 0.1, "decay_biases": False}
TABLE = {
    "SGD": (book.SGD(0.1), ap.SGD(0.1, **DECAY)),
    "RMSprop": (book.RMSprop(0.01, 0.9), ap.RMSProp.like("book", 0.01, rho=0.9, **DECAY)),
    "AdaGrad": (book.AdaGrad(0.01), ap.AdaGrad.like("book", 0.01, **DECAY)),
    "Adam": (book.Adam(0.01), ap.Adam(0.01, eps=1e-7, eps_before_correction=True, **DECAY)),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_the_page_writes_for_a_books_optimizer_with_weight_decay_is_the_same(name):
    theirs, ours = TABLE[name]
    rng = np.random.default_rng(8)
    x, t = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    place = {"xp": "numpy", "dtype": "float64"}
    shaped = book.MultiLayerNet(4, [5], 3, weight_decay_lambda=0.1, **place)
    net = ap.MLP([4, 5, 3])
    vector = np.concatenate([p.ravel() for p in shaped.params.values()])
    params = net.init(dtype="float64").replace(flat=vector)
    state, gradient = ours.init(params), ap.value_and_grad(net, ap.SoftmaxCrossEntropy())
    for _ in range(5):
        theirs.update(shaped.params, shaped.gradient(x, t))
        params, state = ours.update(params, gradient(params, x, t)[1], state)
    vector = np.concatenate([p.ravel() for p in shaped.params.values()])
    np.testing.assert_allclose(params.flat, vector, rtol=1e-12)
