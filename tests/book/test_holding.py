"""Whoever holds an array that an update replaces holds the new one, on every backend."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

from anyprop import book

RNG = np.random.default_rng(8)
W, B, C = RNG.standard_normal((3, 2)), RNG.standard_normal(2), RNG.standard_normal((3, 2))
X, T = RNG.standard_normal((5, 3)), np.asarray([0, 1, 1, 0, 1])
LR = 0.5


def arrays(backend):
    return {"W": backend.asarray(W), "b": backend.asarray(B)}


def step(backend, layer, params, optimizer):
    """One update of a hand-made network of one layer; the loss before it."""
    last = book.SoftmaxWithLoss()
    loss = float(last.forward(layer.forward(backend.asarray(X)), backend.asarray(T)))
    layer.backward(last.backward())
    optimizer.update(params, {"W": layer.dW, "b": layer.db})
    return loss


def losses(W, b, steps):
    """The same network with gradients by hand, in plain NumPy."""
    W, b, found = W.copy(), b.copy(), []
    for _ in range(steps):
        y = X @ W + b
        p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        found.append(-np.log(p[np.arange(5), T]).mean())
        d = (p - np.eye(2)[T]) / 5
        W, b = W - LR * X.T @ d, b - LR * d.sum(axis=0)
    return found


def train(backend, layer, params, steps=4):
    optimizer = book.SGD(lr=LR)
    return [step(backend, layer, params, optimizer) for _ in range(steps)]


def same(backend, array, expected):
    np.testing.assert_allclose(backend.to_numpy(array), expected, rtol=0, atol=1e-12)


def made(backend):
    params = arrays(backend)
    return book.Affine(params["W"], params["b"]), params


def copied_together(backend):
    return copy.deepcopy(made(backend))


def pickled_together(backend):
    layer, params = made(backend)
    host = {name: backend.to_numpy(p) for name, p in params.items()}
    layer, host = pickle.loads(pickle.dumps((book.Affine(host["W"], host["b"]), host)))
    params = {name: backend.asarray(p) for name, p in host.items()}
    layer.W, layer.b = params["W"], params["b"]
    return layer, params


def set_by_hand(backend):
    layer = book.Affine(backend.asarray(C), backend.asarray(B))
    params = arrays(backend)
    layer.W, layer.b = params["W"], params["b"]
    return layer, params


def dict_of_the_layer(backend):
    layer = book.Affine(backend.asarray(W), backend.asarray(B))
    return layer, {"W": layer.W, "b": layer.b}


class OwnAffine(book.Affine):
    """A user's layer that adds something to the book's."""

    def forward(self, x):
        self.seen = x
        return super().forward(x)


def of_a_subclass(backend):
    params = arrays(backend)
    return OwnAffine(params["W"], params["b"]), params


MAKERS = [
    made,
    copied_together,
    pickled_together,
    set_by_hand,
    dict_of_the_layer,
    of_a_subclass,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_network_made_by_hand_trains(backend, make):
    layer, params = make(backend)
    np.testing.assert_allclose(train(backend, layer, params), losses(W, B, 4), atol=1e-12)
    assert layer.W is params["W"]
    assert layer.b is params["b"]


def test_a_dict_made_after_an_update_is_the_layers_too(backend):
    layer, params = made(backend)
    optimizer = book.SGD(lr=LR)
    found = []
    for _ in range(4):
        found.append(step(backend, layer, params, optimizer))
        params = {"W": layer.W, "b": layer.b}
    np.testing.assert_allclose(found, losses(W, B, 4), atol=1e-12)


def test_two_layers_that_share_an_array_both_follow(backend):
    params = arrays(backend)
    first, second = (book.Affine(params["W"], params["b"]) for _ in range(2))
    book.SGD(lr=1.0).update(params, {"W": backend.asarray(C), "b": backend.asarray(B)})
    assert first.W is second.W is params["W"]
    same(backend, first.W, W - C)


def test_an_array_under_two_names_gets_both_gradients(backend):
    shared = backend.asarray(W)
    layer, params = book.Affine(shared, backend.asarray(B)), {"W1": shared, "W2": shared}
    grads = {"W1": backend.asarray(C), "W2": backend.asarray(2 * C)}
    book.SGD(lr=1.0).update(params, grads)
    assert params["W1"] is params["W2"] is layer.W
    same(backend, layer.W, W - 3 * C)


def test_networks_apart_stay_apart(backend):
    (one, params), (other, _) = made(backend), made(backend)
    apart = copy.deepcopy(one)
    train(backend, one, params)
    for layer in (other, apart):
        same(backend, layer.W, W)
        assert layer.W is not params["W"]


def test_an_array_set_by_hand_is_not_the_optimizers(backend):
    layer, params = made(backend)
    layer.W = backend.asarray(C)
    book.SGD(lr=1.0).update(params, {"W": backend.asarray(W), "b": backend.asarray(B)})
    same(backend, layer.W, C)
    same(backend, layer.b, 0 * B)


def test_gamma_and_beta_follow(backend):
    params = {"gamma1": backend.asarray(B), "beta1": backend.asarray(2 * B)}
    layer = book.BatchNormalization(params["gamma1"], params["beta1"])
    half = {name: backend.asarray(0.5 * B) for name in params}
    book.SGD(lr=1.0).update(params, half)
    assert layer.gamma is params["gamma1"]
    assert layer.beta is params["beta1"]
    same(backend, layer.gamma, 0.5 * B)
    same(backend, layer.beta, 1.5 * B)


def test_layers_that_are_gone_are_forgotten(backend):
    from anyprop.book import holding

    gc.collect()
    before = len(holding._living)
    layers = [made(backend)[0] for _ in range(50)]
    assert len(holding._living) == before + 50
    del layers
    gc.collect()
    assert len(holding._living) <= before


def test_threads_train_networks_of_their_own(backend):
    found, errors = {}, []

    def work(i):
        try:
            for _ in range(5):
                layer, params = made(backend)
                found[i] = train(backend, layer, params)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for i in range(4):
        np.testing.assert_allclose(found[i], losses(W, B, 4), atol=1e-12)


NETWORKS = {
    "article": lambda **place: book.NeuralNetwork(3, [4], 2, 0.5, **place),
    "two": lambda **place: book.TwoLayerNet(3, 4, 2, 0.5, **place),
    "multi": lambda **place: book.MultiLayerNet(3, [4], 2, **place),
    "extend": lambda **place: book.MultiLayerNetExtend(3, [4], 2, use_batchnorm=True, **place),
}


def first_affine(net):
    return net.layers[0] if isinstance(net.layers, list) else net.layers["Affine1"]


@pytest.fixture(params=NETWORKS)
def net(request, backend):
    place = {"xp": backend.xp, "device": backend.device, "dtype": "float64", "seed": 8}
    return NETWORKS[request.param](**place)


def test_a_networks_layers_hold_what_its_dict_holds(backend, net):
    x, t = backend.asarray(X), backend.asarray(T)
    layer = first_affine(net)
    assert layer.W is net.params["W1"]
    before = net.loss(x, t)

    net.params["W1"] = backend.asarray(np.zeros((3, 4)))
    assert layer.W is net.params["W1"]
    assert net.loss(x, t) != before

    layer.b = backend.asarray(np.ones(4))
    assert layer.b is net.params["b1"]

    book.Momentum(lr=0.1).update(net.params, net.gradient(x, t))
    assert layer.W is net.params["W1"]

    whole = {name: backend.asarray(0.0 * backend.to_numpy(p)) for name, p in net.params.items()}
    net.params = whole
    assert net.params is whole
    assert layer.W is whole["W1"]
    assert abs(net.loss(x, t) - np.log(2)) < 1e-12


def test_an_update_of_a_copy_of_the_dict_is_an_update_of_the_network(backend, net):
    x, t = backend.asarray(X), backend.asarray(T)
    before = backend.to_numpy(net.params["W1"]).copy()
    params = dict(net.params)
    grads = net.gradient(x, t)
    book.SGD(lr=1.0).update(params, grads)
    assert net.params["W1"] is params["W1"] is first_affine(net).W
    same(backend, net.params["W1"], before - backend.to_numpy(grads["W1"]))


def test_a_copy_of_a_network_is_a_network_of_its_own(backend, net):
    x, t = backend.asarray(X), backend.asarray(T)
    other = copy.deepcopy(net)
    assert first_affine(other).W is other.params["W1"]
    before = net.loss(x, t)
    optimizer = book.SGD(lr=0.1)
    for _ in range(3):
        optimizer.update(other.params, other.gradient(x, t))
    assert net.loss(x, t) == before
    assert first_affine(other).W is other.params["W1"]
    assert other.loss(x, t) != before


def test_params_that_lack_a_name_are_refused(backend, net):
    params = net.params
    with pytest.raises(ValueError, match=r"params lacks 'b2'"):
        net.params = {name: p for name, p in params.items() if name != "b2"}
    assert net.params is params
