"""The book's shapes: step for step the article's algorithm, on every backend."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from anyprop import book

OPTIMIZERS = {
    "rmsprop": book.RMSProp(lr=0.01),
    "adagrad": book.AdaGrad(lr=0.05),
    "momentum": book.Momentum(lr=0.005),
    "sgd": book.SGD(lr=0.02),
}


class Article:
    """The article's network and optimizers, written out by hand for NumPy alone.

    Weights from the global generator, gradients of the sum over the batch, sqrt(h) + 1e-7, and a
    loss that is cut off by log(p + 1e-7).
    """

    def __init__(self, sizes, std=0.01):
        self.depth = len(sizes) - 1
        self.params = {}
        for i in range(self.depth):
            W = std * np.random.randn(sizes[i], sizes[i + 1])
            self.params[f"W{i + 1}"] = W
            self.params[f"b{i + 1}"] = np.zeros(sizes[i + 1])
        self.h = {name: np.zeros_like(p) for name, p in self.params.items()}

    def compute_loss(self, x, t):
        self.inputs = [x]
        for i in range(1, self.depth + 1):
            a = self.inputs[-1].dot(self.params[f"W{i}"]) + self.params[f"b{i}"]
            self.inputs.append(a if i == self.depth else np.where(a > 0, a, 0))
        e = np.exp(a - np.max(a, axis=1, keepdims=True))
        self.p = e / np.sum(e, axis=1, keepdims=True)
        return -np.mean(np.log(np.sum(self.p * t, axis=1) + 1e-7))

    def backward(self, t):
        self.grads = {}
        d = self.p - t
        for i in range(self.depth, 0, -1):
            x = self.inputs[i - 1]
            self.grads[f"W{i}"], self.grads[f"b{i}"] = x.T.dot(d), np.sum(d, axis=0)
            d = d.dot(self.params[f"W{i}"].T)
            d[x <= 0] = 0

    def sgd(self, lr):
        for name, g in self.grads.items():
            self.params[name] -= lr * g

    def momentum(self, lr, momentum=0.9):
        for name, g in self.grads.items():
            self.h[name] = momentum * self.h[name] - lr * g  # the book's v
            self.params[name] += self.h[name]

    def rmsprop(self, lr, decay_rate=0.99):
        for name, g in self.grads.items():
            self.h[name] *= decay_rate
            self.h[name] += (1 - decay_rate) * g * g
            self.params[name] -= lr * g / (np.sqrt(self.h[name]) + 1e-7)

    def adagrad(self, lr):
        for name, g in self.grads.items():
            self.h[name] += g * g
            self.params[name] -= lr * g / (np.sqrt(self.h[name]) + 1e-7)


def batches(rng, n_batches=50, n=20, d=12, k=5):
    """Batches of noisy copies of k patterns, with integer labels."""
    patterns = rng.uniform(size=(k, d))
    for _ in range(n_batches):
        t = rng.integers(0, k, n)
        yield patterns[t] + 0.2 * rng.standard_normal((n, d)), t


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_article_step_for_step(backend, rng, name, one_hot):
    np.random.seed(8)
    article = Article([12, 9, 9, 5], std=0.3)
    np.random.seed(8)
    place = {"xp": backend.xp, "device": backend.device, "dtype": "float64"}
    net = book.NeuralNetwork(12, 9, 5, 0.3, **place)
    optimizer = dataclasses.replace(OPTIMIZERS[name])
    assert list(net.params) == list(article.params)

    for x, labels in batches(rng):
        t = np.eye(5)[labels]
        expected = article.compute_loss(x, t)
        article.backward(t)
        getattr(article, name)(optimizer.lr)

        targets = backend.asarray(t if one_hot else labels)
        value = net.compute_loss(backend.asarray(x), targets)
        net.backward(targets)
        optimizer.update(net.params, net.grads)

        # the article's loss is that of p + 1e-7, which differs from ours by at most 1e-7 / p
        assert abs(value - expected) < 2e-7 / np.min(np.sum(article.p * t, axis=1))
        for key in article.params:
            np.testing.assert_allclose(
                backend.to_numpy(net.grads[key]), article.grads[key], rtol=0, atol=1e-12
            )
            if name in ("rmsprop", "adagrad"):
                np.testing.assert_allclose(
                    backend.to_numpy(optimizer.h[key]), article.h[key], rtol=0, atol=1e-12
                )
            np.testing.assert_allclose(
                backend.to_numpy(net.params[key]), article.params[key], rtol=0, atol=1e-12
            )
    assert expected < 0.8, "the comparison means little unless something was learnt"


def test_the_articles_literal_settings_on_mnist():
    """Its printed losses come from the cut in its logarithm; ours are the true ones."""
    (x, t), _ = book.load_mnist(dtype="float64")
    np.random.seed(8)
    article = Article([784, 200, 200, 10])
    np.random.seed(8)
    net, optimizer = book.NeuralNetwork(784, 200, 10, dtype="float64"), book.RMSProp(lr=0.1)
    cut, true = [], []
    for _ in range(4):
        mask = np.random.choice(60000, 100)
        one_hot = np.eye(10)[t[mask]]
        cut.append(article.compute_loss(x[mask], one_hot))
        article.backward(one_hot)
        article.rmsprop(0.1)
        true.append(net.compute_loss(x[mask], t[mask]))
        net.backward(t[mask])
        optimizer.update(net.params, net.grads)
    assert np.round(cut, 3).tolist() == [2.303, 14.829, 14.99, 13.862]
    assert np.round(true, 3)[0] == 2.303
    assert np.round(true[1:]).tolist() == [91187, 52175, 17796]
    np.testing.assert_allclose(net.params["W1"], article.params["W1"], rtol=0, atol=1e-9)


def small(backend, **options):
    settings = {"xp": backend.xp, "device": backend.device, "dtype": "float64", "seed": 8}
    return book.NeuralNetwork(6, [5], 4, 0.5, **settings | options)


@pytest.fixture
def batch(backend, rng):
    x, t = next(batches(rng, n=7, d=6, k=4))
    return backend.asarray(x), backend.asarray(t)


def test_grads_are_those_of_the_sum_over_the_batch(backend, batch):
    net = small(backend)
    x, t = batch
    net.compute_loss(x, t)
    net.backward(t)
    for name, g in net.grads.items():
        host, analytic = backend.to_numpy(net.params[name]), backend.to_numpy(g)
        for index in np.ndindex(*host.shape):
            sums = []
            for shift in (1e-5, -1e-5):
                moved = host.copy()
                moved[index] += shift
                other = small(backend)
                other.params[name] = backend.asarray(moved)
                sums.append(7 * other.compute_loss(x, t))
            assert abs((sums[0] - sums[1]) / 2e-5 - analytic[index]) < 1e-6


def test_what_it_returns_keeps_namespace_dtype_and_device(backend, batch):
    x, t = batch
    net, optimizer = small(backend), book.RMSProp()
    assert isinstance(net.compute_loss(x, t), float)
    net.backward(t)
    optimizer.update(net.params, net.grads)
    like = net.predict(x)
    assert like.shape == (7, 4)
    for array in (*net.params.values(), *net.grads.values(), *optimizer.h.values()):
        assert type(array) is type(x)
        assert array.dtype == x.dtype == like.dtype
        assert array.device == x.device


def test_an_update_changes_the_dict_and_the_network_sees_it(backend, batch):
    x, t = batch
    net, optimizer = small(backend), book.SGD(lr=0.1)
    arrays, params = dict(net.params), net.params
    before = net.compute_loss(x, t)
    net.backward(t)
    optimizer.update(net.params, net.grads)
    assert net.params is params
    assert net.compute_loss(x, t) < before
    if backend.name != "jax":
        assert all(net.params[name] is arrays[name] for name in arrays)
    else:
        assert all(net.params[name] is not arrays[name] for name in arrays)


def test_an_array_put_into_the_dict_by_hand_is_used(backend, batch):
    net = small(backend)
    net.params["W2"] = backend.asarray(np.zeros((5, 4)))
    assert abs(net.compute_loss(*batch) - np.log(4)) < 1e-12


def test_weights_of_whole_numbers_leave_x_its_fractions():
    net = book.TwoLayerNet(2, 2, 2, xp="numpy", dtype="float64", seed=8)
    x = np.asarray([[0.5, -1.25]])
    net.params["W1"] = np.asarray([[2.0, 1.0], [-1.0, 3.0]])
    y = net.predict(x)
    net.params["W1"] = net.params["W1"].astype("int64")
    np.testing.assert_array_equal(net.predict(x), y)


def test_x_of_any_dtype_is_computed_in_that_of_the_parameters(backend):
    net = small(backend, dtype="float32")
    for dtype in ("uint8", "float64"):  # the one would be refused, the other would spread
        pixels = backend.asarray([[0, 1, 2, 3, 4, 255]], dtype=dtype)
        assert net.predict(pixels).dtype == backend.xp.float32


def test_accuracy_between_loss_and_gradient_does_no_harm(backend, batch):
    x, t = batch
    net, other = small(backend), small(backend)
    for one in (net, other):
        one.compute_loss(x, t)
        if one is other:
            right = one.predict(x)  # of the same batch, so that only accuracy is another's
            one.accuracy(x[:3, :], t[:3])
        one.backward(t)
    expected = np.mean(np.argmax(backend.to_numpy(right), axis=1) == backend.to_numpy(t))
    assert net.accuracy(x, t) == expected
    assert net.accuracy(x[:0, :], t[:0]) == 0.0
    for name in net.grads:
        np.testing.assert_array_equal(
            backend.to_numpy(net.grads[name]), backend.to_numpy(other.grads[name])
        )


def test_layers_alone(backend, rng):
    """A gradient of sum(y * c), for a random c, by central differences."""
    W, b, x, c = (rng.standard_normal(s) for s in ((3, 2), 2, (4, 3), (4, 2)))

    def value(W, b, x):
        layer = book.Affine(backend.asarray(W), backend.asarray(b))
        y = book.ReLU().forward(layer.forward(backend.asarray(x)))
        return float(np.sum(backend.to_numpy(y) * c))

    layer, relu = book.Affine(backend.asarray(W), backend.asarray(b)), book.ReLU()
    relu.forward(layer.forward(backend.asarray(x)))
    dout = backend.asarray(c)
    dx = layer.backward(relu.backward(dout))
    np.testing.assert_array_equal(backend.to_numpy(dout), c)
    for i, analytic in enumerate((layer.dW, layer.db, dx)):
        for index in np.ndindex(*analytic.shape):
            ends = []
            for shift in (1e-6, -1e-6):
                arrays = [W.copy(), b.copy(), x.copy()]
                arrays[i][index] += shift
                ends.append(value(*arrays))
            assert abs((ends[0] - ends[1]) / 2e-6 - backend.to_numpy(analytic)[index]) < 1e-6


def test_the_loss_uses_dout_and_is_not_cut_off(backend):
    layer = book.SoftmaxCrossEntropy()
    y, t = backend.asarray([[0.0, 1e4], [0.0, 0.0]]), backend.asarray([0, 1])
    value = layer.forward(y, t)
    assert value.shape == ()
    assert abs(float(value) - (1e4 + np.log(2)) / 2) < 1e-8
    once, thrice = (backend.to_numpy(layer.backward(*dout)) for dout in ((), (3,)))
    np.testing.assert_allclose(once, [[-0.5, 0.5], [0.25, -0.25]])
    np.testing.assert_allclose(thrice, 3 * once)


def test_settings_may_change_between_updates(backend):
    params, grads = ({"p": backend.asarray([v, v])} for v in (1.0, 0.5))
    optimizer = book.SGD(lr=1.0)
    optimizer.update(params, grads)
    optimizer.lr = 0.5
    optimizer.update(params, grads)
    assert backend.to_numpy(params["p"]).tolist() == [0.25, 0.25]


def test_it_follows_anyprop_backend():
    code = (
        "from anyprop.book import NeuralNetwork\n"
        "print(type(NeuralNetwork(4, 3, 2).params['W1']).__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ANYPROP_BACKEND": "array_api_strict"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("array_api_strict")


def test_weights_are_those_after_the_legacy_seed():
    np.random.seed(8)
    first = 0.01 * np.random.randn(6, 5)
    second = 0.01 * np.random.randn(5, 4)
    net = book.NeuralNetwork(6, [5], 4, xp="numpy", dtype="float64", seed=8)
    np.testing.assert_array_equal(net.params["W1"], first)
    np.testing.assert_array_equal(net.params["W2"], second)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: book.Affine(np.ones(3), np.ones(3)), ValueError, r"W has shape \(3,\)"),
        (lambda: book.Affine(np.ones((3, 2)), np.ones(3)), ValueError, r"b has shape \(3,\)"),
        (lambda: book.ReLU().backward(np.ones(3)), RuntimeError, "forward before backward"),
        (lambda: book.NeuralNetwork(4, 3, 2).backward([1]), RuntimeError, "compute_loss"),
        (lambda: book.NeuralNetwork(4, 0, 2), ValueError, "at least 1"),
        (lambda: book.NeuralNetwork(4, 3, 2, -1.0), ValueError, "std must be a positive"),
        (lambda: book.NeuralNetwork(4, 3, 2, seed=-1), ValueError, "Seed"),
        (lambda: book.RMSProp(lr=-1), ValueError, "lr must be"),
        (lambda: book.RMSProp(decay_rate=1), ValueError, "rho must be in"),
        (
            lambda: book.SGD().update({"W1": np.ones(2)}, {"b1": np.ones(2)}),
            ValueError,
            "grads and params differ: there is no gradient of .W1.",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_the_state_is_none_before_the_first_update():
    optimizer = book.RMSProp()
    assert optimizer.h is None
    params = {"W1": np.ones(2)}
    optimizer.update(params, {"W1": np.ones(2)})
    assert set(optimizer.h) == {"W1"}
