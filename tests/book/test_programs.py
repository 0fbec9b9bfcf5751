"""Main programs on the book's classes: their numbers are those of plain NumPy in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import book_in_numpy as plain
import book_programs as programs
from anyprop import book
from anyprop.backend import from_host, get_namespace, name_of, to_host

NAMES = ["numpy", "torch", "jax"]  # on which x[rows] takes rows, as the programs do


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in NAMES])
def xp(request):
    return get_namespace(request.param)


@pytest.fixture(scope="module")
def mnist():
    (x, t), (xv, tv) = book.load_mnist(one_hot_label=True, xp="numpy", dtype="float64")
    return (x[:2000], t[:2000]), (xv[:200], tv[:200])


@pytest.fixture
def data(mnist, xp):
    return tuple(tuple(from_host(a, xp) for a in part) for part in mnist)


@pytest.fixture
def place(xp):
    return {"xp": xp, "dtype": "float64"}


def close(found, expected, rtol=1e-8):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12)


def he(n):
    return np.sqrt(2.0 / n)


def lecun(n):
    return np.sqrt(1.0 / n)


@pytest.mark.parametrize(
    ("kind", "rule", "lr"), [(book.RMSProp, "RMSprop", 0.001), (book.AdaGrad, "AdaGrad", 0.01)]
)
def test_the_article(mnist, data, place, kind, rule, lr):
    (x, t), _ = mnist
    np.random.seed(8)
    net = plain.Net([784, 200, 200, 10], 0.01, summed=True)
    optimizer, losses = plain.Rule(rule, lr), []
    for _ in range(30):
        rows = np.random.choice(2000, 100)
        losses.append(net.loss(x[rows], t[rows]))
        optimizer.update(net.params, net.gradient(x[rows], t[rows]))
    assert losses[-1] < 0.8 * losses[0]
    close(programs.article(data, place, kind, lr), losses, rtol=1e-6)


def by_hand(sizes, std, norms=False):
    np.random.seed(8)
    return plain.Net(sizes, std, norm=norms, relu=not norms)


def beside(net, xp):
    return {name: from_host(p.copy(), xp) for name, p in net.params.items()}


def test_the_articles_network_by_hand(mnist, data, xp):
    (x, t), _ = mnist
    net = by_hand([784, 20, 10], he)
    net.summed = True
    params, optimizer, losses = beside(net, xp), plain.Rule("AdaGrad", 0.01), []
    for i in range(30):
        rows = slice(20 * i, 20 * i + 20)
        grads = net.gradient(x[rows], t[rows])
        losses.append(-np.log((net.p * t[rows]).sum(axis=1) + 1e-7).mean())
        optimizer.update(net.params, grads)
    assert losses[-1] < 0.7 * losses[0]
    close(programs.article_by_hand(data, params), losses)


@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"])
def test_a_network_of_ones_own(mnist, data, xp, rule):
    (x, t), _ = mnist
    net = by_hand([784, 20, 10], 0.1, norms=True)
    params, optimizer, losses = beside(net, xp), plain.Rule(rule, 0.02), []
    for i in range(30):
        rows = slice(20 * i, 20 * i + 20)
        grads = net.gradient(x[rows], t[rows])
        losses.append(net.loss(x[rows], t[rows], train=True))
        optimizer.update(net.params, grads)
    assert losses[-1] < losses[0]
    close(programs.own_network(data, params, getattr(book, rule)(lr=0.02)), losses, rtol=1e-6)


def test_gradient_check(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    expected = plain.Net([784, 3, 10], 0.01).gradient(x[:3], t[:3])
    backprop, numeric = programs.gradient_check(data, place)
    for name, g in expected.items():
        close(to_host(backprop[name]), g)
        np.testing.assert_allclose(to_host(numeric[name]), g, rtol=0, atol=1e-8)


def test_train_neuralnet(mnist, data, place):
    (x, t), test = mnist
    np.random.seed(8)
    net = plain.Net([784, 50, 10], 0.01)
    optimizer, losses, accuracies = plain.Rule("SGD", 0.1), [], []
    for i in range(60):
        rows = np.random.choice(2000, 100)
        optimizer.update(net.params, net.gradient(x[rows], t[rows]))
        losses.append(net.loss(x[rows], t[rows]))
        if i % 20 == 0:
            accuracies.append(net.accuracy(*test))
    found, found_accuracies = programs.train_neuralnet(data, place)
    close(found, losses)
    assert found_accuracies == pytest.approx(accuracies, abs=1e-6)
    assert losses[-1] < 2.2


def test_the_network_of_section_4_5(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    net = plain.Net([784, 50, 10], 0.01, relu=False)
    np.random.seed(8)
    found = book.MultiLayerNet(784, [50], 10, "sigmoid", 0.01, **place)
    x_batch, t_batch = (a[:100] for a in data[0])
    for _ in range(3):
        expected = net.gradient(x[:100], t[:100])
        close(found.loss(x_batch, t_batch), net.loss(x[:100], t[:100]))
        close(to_host(found.last_layer.y), net.p)
        grads = found.gradient(x_batch, t_batch)
        for name, g in expected.items():
            close(to_host(grads[name]), g)
        book.SGD(0.1).update(found.params, grads)
        plain.Rule("SGD", 0.1).update(net.params, expected)


@pytest.mark.needs("numpy")
def test_optimizer_compare_naive():
    rates = {"SGD": 0.95, "Momentum": 0.1, "Nesterov": 0.1}
    rates |= {"AdaGrad": 1.5, "RMSprop": 0.1, "Adam": 0.3}
    paths = programs.optimizer_compare_naive()
    assert paths["SGD"][1] == pytest.approx((-6.335, -1.8))
    for name, lr in rates.items():
        optimizer, params, path = plain.Rule(name, lr), {"x": -7.0, "y": 2.0}, []
        for _ in range(30):
            path.append((params["x"], params["y"]))
            optimizer.update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
        close(paths[name], path)


def test_optimizer_compare_mnist(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    rates = {"SGD": 0.01, "Momentum": 0.01, "Nesterov": 0.01}
    rates |= {"AdaGrad": 0.01, "RMSprop": 0.01, "Adam": 0.001}
    nets = {name: plain.Net([784, 20, 20, 10], he) for name in rates}
    rules = {name: plain.Rule(name, lr) for name, lr in rates.items()}
    losses = {name: [] for name in rates}
    for _ in range(15):
        rows = np.random.choice(2000, 64)
        for name, net in nets.items():
            rules[name].update(net.params, net.gradient(x[rows], t[rows]))
            losses[name].append(net.loss(x[rows], t[rows]))
    found = programs.optimizer_compare_mnist(data, place)
    for name in rates:
        close(found[name], losses[name], rtol=1e-6)


def test_weight_init_compare(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    nets = {
        name: plain.Net([784, 20, 20, 10], std)
        for name, std in (("std=0.01", 0.01), ("Xavier", lecun), ("He", he))
    }
    losses = {name: [] for name in nets}
    for _ in range(15):
        rows = np.random.choice(2000, 64)
        for name, net in nets.items():
            plain.Rule("SGD", 0.1).update(net.params, net.gradient(x[rows], t[rows]))
            losses[name].append(net.loss(x[rows], t[rows]))
    found = programs.weight_init_compare(data, place)
    for name in nets:
        close(found[name], losses[name])


def test_batch_norm_test(mnist, data, place):
    (x, t), _ = mnist
    x, t = x[:500], t[:500]
    np.random.seed(8)
    nets = {
        "with": plain.Net([784, 20, 20, 20, 10], 0.1, norm=True),
        "without": plain.Net([784, 20, 20, 20, 10], 0.1),
    }
    accuracies = {name: [] for name in nets}
    for _ in range(15):
        rows = np.random.choice(500, 50)
        for name, net in nets.items():
            plain.Rule("SGD", 0.05).update(net.params, net.gradient(x[rows], t[rows]))
            accuracies[name].append(net.accuracy(x, t))
    found, loss = programs.batch_norm_test(data, place)
    close(loss, nets["with"].loss(x, t), rtol=1e-6)  # by the running statistics
    for name in nets:
        assert found[name] == pytest.approx(accuracies[name], abs=1e-6)


def test_overfit_weight_decay(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    net, losses = plain.Net([784, 20, 20, 10], he, decay=0.1), []
    for _ in range(15):
        rows = np.random.choice(300, 100)
        plain.Rule("SGD", 0.05).update(net.params, net.gradient(x[rows], t[rows]))
        losses.append(net.loss(x[rows], t[rows]))
    close(programs.overfit_weight_decay(data, place), losses)


def trained(net, rule, examples, test, iterations, batch, per_epoch, evaluated=None):
    (x, t), losses, accuracies = examples, [], ([], [])
    for i in range(iterations):
        rows = np.random.choice(len(x), batch)
        rule.update(net.params, net.gradient(x[rows], t[rows]))
        losses.append(net.loss(x[rows], t[rows]))
        if i % per_epoch == 0:
            for found, part in zip(accuracies, (examples, test), strict=True):
                found.append(net.accuracy(*(a[:evaluated] for a in part)))
    return losses, *accuracies


def test_overfit_dropout(mnist, data, place, capsys):
    (x, t), test = mnist
    np.random.seed(8)
    net = plain.Net([784, 20, 20, 10], he, ratio=0.2)
    expected = trained(net, plain.Rule("SGD", 0.05), (x[:300], t[:300]), test, 12, 100, 3)
    losses, train_acc, test_acc = programs.overfit_dropout(data, place)
    close(losses, expected[0])
    assert train_acc == pytest.approx(expected[1], abs=1e-6)
    assert test_acc == pytest.approx(expected[2], abs=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 + 4 + 1
    assert float(lines[0].removeprefix("train loss: ")) == losses[0]
    assert lines[-1].startswith("final test accuracy: ")


def test_hyperparameter_optimization(mnist, data, place):
    (x, t), _ = mnist
    np.random.seed(8)
    order = np.random.permutation(200)
    x, t = x[:200][order], t[:200][order]
    found = iter(programs.hyperparameter_optimization(data, place))
    np.random.seed(8)
    np.random.permutation(200)
    for _ in range(2):
        decay, lr = 10 ** np.random.uniform(-8, -4), 10 ** np.random.uniform(-3, -1)
        net = plain.Net([784, 20, 10], he, decay=decay)
        parts = (x[40:], t[40:]), (x[:40], t[:40])
        expected = trained(net, plain.Rule("Adam", lr), *parts, 12, 40, 4, 30)
        losses, accuracies = next(found)
        close(losses, expected[0], rtol=1e-6)
        assert accuracies == pytest.approx(expected[2], abs=1e-6)


def test_a_function_that_ignores_its_argument_is_differentiated(xp):
    def beside_it(values):
        return from_host(values, xp)

    gradient, is_held, W = programs.layers_on_a_function(beside_it)
    assert is_held, "the array that was given is in its place again"
    assert to_host(W).tolist() == np.arange(6.0).reshape(3, 2).tolist()
    y = 0.5 * np.maximum(np.arange(6.0).reshape(3, 2) + 1.0, 0.0)
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(to_host(gradient), (p - np.eye(2)[[0, 1, 0]]) / 6, atol=1e-8)


@pytest.mark.parametrize(("batch", "epochs"), [(3, 4), (4, 3), (5, 2), (10, 2), (20, 3)])
def test_a_trainer_measures_at_the_start_of_each_epoch(batch, epochs):
    x, t = np.eye(10), np.arange(10) % 2
    net = book.TwoLayerNet(10, 4, 2, xp="numpy", seed=8)
    trainer = book.Trainer(net, x, t, x, t, epochs, batch, verbose=False)
    drawn = []
    while trainer.current_iter < trainer.max_iter:
        before = trainer.current_epoch
        trainer.train_step()
        if trainer.current_epoch > before:
            drawn.append((trainer.current_iter - 1) * batch)
    assert len(trainer.train_acc_list) == len(trainer.test_acc_list) == epochs
    late = [n - 10 * epoch for epoch, n in enumerate(drawn)]
    assert batch > 10 or all(0 <= n < batch for n in late)


def test_a_trainer_trains_on_when_it_is_called_again():
    x, t = np.eye(10), np.arange(10) % 2
    shaped = {"xp": "numpy", "dtype": "float64", "seed": 8}
    once, twice = (
        book.Trainer(book.TwoLayerNet(10, 4, 2, **shaped), x, t, x, t, epochs, 5, verbose=False)
        for epochs in (6, 3)
    )
    np.random.seed(3)
    once.train()
    np.random.seed(3)
    twice.train()
    twice.train()
    assert len(once.train_loss_list) == 12
    assert twice.train_loss_list == once.train_loss_list
    assert twice.test_acc_list == once.test_acc_list


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import book_programs as programs
from anyprop.book import load_mnist
(x, t), test = load_mnist(normalize=True, one_hot_label=True)
for loss in programs.article(((x[:2000], t[:2000]), test), {{}}, steps=10):
    print(loss)
"""


def test_a_script_runs_where_the_environment_says(mnist, xp):
    """Nothing but the imports is ours: float32, and the backend that ANYPROP_BACKEND names."""
    (x, t), _ = mnist
    np.random.seed(8)
    net = plain.Net([784, 200, 200, 10], 0.01, summed=True)
    optimizer, losses = plain.Rule("RMSprop", 0.001), []
    for _ in range(10):
        rows = np.random.choice(2000, 100)
        losses.append(net.loss(x[rows], t[rows]))
        optimizer.update(net.params, net.gradient(x[rows], t[rows]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(Path(programs.__file__).parent))],
        env=os.environ | {"ANYPROP_BACKEND": name_of(xp)},
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], losses, rtol=5e-3)
