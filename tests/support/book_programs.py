"""Main programs as readers of the book and of the article write them; all they use is the book's.

Each takes the data and where and in which dtype the network is to be, and returns what it would print.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from anyprop.book import (
    SGD,
    AdaGrad,
    Adam,
    Affine,
    BatchNormalization,
    Dropout,
    Momentum,
    MultiLayerNet,
    MultiLayerNetExtend,
    Nesterov,
    NeuralNetwork,
    ReLU,
    Relu,
    RMSProp,
    RMSprop,
    Sigmoid,
    SoftmaxCrossEntropy,
    SoftmaxWithLoss,
    Trainer,
    TwoLayerNet,
    cross_entropy_error,
    numerical_gradient,
    shuffle_dataset,
)


def article(data, place, optimizer=RMSProp, lr=0.001, steps=30):
    """The article: gradients are read from the layers."""
    (x_train, t_train), _ = data
    np.random.seed(8)
    network = NeuralNetwork(input_size=784, hidden_size=200, output_size=10, **place)
    optimizer = optimizer(lr=lr)
    losses = []
    for _ in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 100)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        losses.append(network.compute_loss(x_batch, t_batch))
        network.backward(t_batch)
        grads = {
            "W1": network.layers[0].dW,
            "b1": network.layers[0].db,
            "W2": network.layers[2].dW,
            "b2": network.layers[2].db,
            "W3": network.layers[4].dW,
            "b3": network.layers[4].db,
        }
        optimizer.update(network.params, grads)
    return losses


class ArticleNetwork:
    """The article's network written by hand: its layers keep the arrays of the dict."""

    def __init__(self, params):
        self.params = params
        self.layers = [
            Affine(params["W1"], params["b1"]),
            ReLU(),
            Affine(params["W2"], params["b2"]),
        ]
        self.loss_layer = SoftmaxCrossEntropy()

    def compute_loss(self, x, y_true):
        for layer in self.layers:
            x = layer.forward(x)
        return cross_entropy_error(self.loss_layer.forward(x), y_true)

    def backward(self, y_true):
        dout = self.loss_layer.backward(y_true)
        for layer in reversed(self.layers):
            dout = layer.backward(dout)


def article_by_hand(data, params, steps=30):
    (x_train, t_train), _ = data
    network, optimizer, losses = ArticleNetwork(params), AdaGrad(lr=0.01), []
    for i in range(steps):
        x_batch, t_batch = x_train[20 * i : 20 * i + 20, :], t_train[20 * i : 20 * i + 20, :]
        losses.append(float(network.compute_loss(x_batch, t_batch)))
        network.backward(t_batch)
        grads = {}
        for i, layer in enumerate((network.layers[0], network.layers[2]), start=1):
            grads |= {f"W{i}": layer.dW, f"b{i}": layer.db}
        optimizer.update(network.params, grads)
    return losses


class ReadersNet:
    """A reader's network out of the book's parts, with batch normalization."""

    def __init__(self, params):
        self.params = params
        self.layers = OrderedDict()
        self.layers["Affine1"] = Affine(params["W1"], params["b1"])
        self.layers["BatchNorm1"] = BatchNormalization(params["gamma1"], params["beta1"])
        self.layers["Sigmoid1"] = Sigmoid()
        self.layers["Affine2"] = Affine(params["W2"], params["b2"])
        self.lastLayer = SoftmaxWithLoss()

    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.lastLayer.forward(x, t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.lastLayer.backward(1)
        for layer in list(self.layers.values())[::-1]:
            dout = layer.backward(dout)
        first, norm = self.layers["Affine1"], self.layers["BatchNorm1"]
        last = self.layers["Affine2"]
        return {
            **{"W1": first.dW, "b1": first.db, "W2": last.dW, "b2": last.db},
            **{"gamma1": norm.dgamma, "beta1": norm.dbeta},
        }


def own_network(data, params, optimizer, steps=30):
    (x_train, t_train), _ = data
    network, losses = ReadersNet(params), []
    for i in range(steps):
        x_batch, t_batch = x_train[20 * i : 20 * i + 20, :], t_train[20 * i : 20 * i + 20, :]
        grads = network.gradient(x_batch, t_batch)
        losses.append(float(network.lastLayer.loss))
        optimizer.update(network.params, grads)
    return losses


def gradient_check(data, place):
    """Chapter 5: the gradient by backpropagation beside that by differences."""
    (x_train, t_train), _ = data
    np.random.seed(8)
    network = TwoLayerNet(input_size=784, hidden_size=3, output_size=10, **place)
    x_batch, t_batch = x_train[:3, :], t_train[:3, :]
    backprop = network.gradient(x_batch, t_batch)
    numeric = network.numerical_gradient(x_batch, t_batch)
    return backprop, numeric


def train_neuralnet(data, place, steps=60):
    """Chapter 5: the parameters are updated by the loop itself."""
    (x_train, t_train), (x_test, t_test) = data
    np.random.seed(8)
    network = TwoLayerNet(input_size=784, hidden_size=50, output_size=10, **place)
    losses, accuracies = [], []
    for i in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 100)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        grad = network.gradient(x_batch, t_batch)
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= 0.1 * grad[key]
        losses.append(network.loss(x_batch, t_batch))
        if i % 20 == 0:
            accuracies.append(network.accuracy(x_test, t_test))
    return losses, accuracies


def optimizer_compare_naive():
    """Chapter 6.1: numbers go down a valley."""
    optimizers = OrderedDict()
    optimizers["SGD"] = SGD(lr=0.95)
    optimizers["Momentum"] = Momentum(lr=0.1)
    optimizers["Nesterov"] = Nesterov(lr=0.1)
    optimizers["AdaGrad"] = AdaGrad(lr=1.5)
    optimizers["RMSprop"] = RMSprop(lr=0.1)
    optimizers["Adam"] = Adam(lr=0.3)
    paths = {}
    for key in optimizers:
        params, grads, history = {"x": -7.0, "y": 2.0}, {"x": 0, "y": 0}, []
        for _ in range(30):
            history.append((params["x"], params["y"]))
            grads["x"], grads["y"] = params["x"] / 10.0, 2.0 * params["y"]
            optimizers[key].update(params, grads)
        paths[key] = history
    return paths


def optimizer_compare_mnist(data, place, steps=15):
    """Chapter 6.1: one network for each optimizer."""
    (x_train, t_train), _ = data
    np.random.seed(8)
    kinds = {
        **{"SGD": SGD(), "Momentum": Momentum(), "Nesterov": Nesterov()},
        **{"AdaGrad": AdaGrad(), "RMSprop": RMSprop(), "Adam": Adam()},
    }
    networks = {
        key: MultiLayerNet(input_size=784, hidden_size_list=[20, 20], output_size=10, **place)
        for key in kinds
    }
    losses = {key: [] for key in kinds}
    for _ in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 64)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        for key in kinds:
            grads = networks[key].gradient(x_batch, t_batch)
            kinds[key].update(networks[key].params, grads)
            losses[key].append(networks[key].loss(x_batch, t_batch))
    return losses


WEIGHTS = {"std=0.01": 0.01, "Xavier": "sigmoid", "He": "relu"}


def weight_init_compare(data, place, steps=15):
    """Chapter 6.2: one optimizer without state serves three networks."""
    (x_train, t_train), _ = data
    np.random.seed(8)
    networks = {
        key: MultiLayerNet(784, [20, 20], 10, weight_init_std=std, **place)
        for key, std in WEIGHTS.items()
    }
    optimizer, losses = SGD(lr=0.1), {key: [] for key in WEIGHTS}
    for _ in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 64)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        for key, network in networks.items():
            optimizer.update(network.params, network.gradient(x_batch, t_batch))
            losses[key].append(network.loss(x_batch, t_batch))
    return losses


def batch_norm_test(data, place, steps=15):
    """Chapter 6.3: with and without batch normalization."""
    (x_train, t_train), _ = data
    x_train, t_train = x_train[:500, :], t_train[:500, :]
    np.random.seed(8)
    settings = {"input_size": 784, "hidden_size_list": [20, 20, 20], "output_size": 10}
    settings |= {"weight_init_std": 0.1, **place}
    with_norm = MultiLayerNetExtend(**settings, use_batchnorm=True)
    without = MultiLayerNetExtend(**settings)
    optimizer, accuracies = SGD(lr=0.05), {"with": [], "without": []}
    for _ in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 50)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        for key, network in (("with", with_norm), ("without", without)):
            optimizer.update(network.params, network.gradient(x_batch, t_batch))
            accuracies[key].append(network.accuracy(x_train, t_train))
    return accuracies, with_norm.loss(x_train, t_train)


def overfit_weight_decay(data, place, steps=15):
    """Chapter 6.4.2: few examples, and a penalty on the weights."""
    (x_train, t_train), _ = data
    x_train, t_train = x_train[:300, :], t_train[:300, :]
    np.random.seed(8)
    network = MultiLayerNet(784, [20, 20], 10, weight_decay_lambda=0.1, **place)
    optimizer, losses = SGD(lr=0.05), []
    for _ in range(steps):
        batch_mask = np.random.choice(x_train.shape[0], 100)
        x_batch, t_batch = x_train[batch_mask], t_train[batch_mask]
        optimizer.update(network.params, network.gradient(x_batch, t_batch))
        losses.append(network.loss(x_batch, t_batch))
    return losses


def overfit_dropout(data, place):
    """Chapter 6.4.3: few examples, dropout, and the trainer."""
    (x_train, t_train), (x_test, t_test) = data
    x_train, t_train = x_train[:300, :], t_train[:300, :]
    np.random.seed(8)
    network = MultiLayerNetExtend(
        **{"input_size": 784, "hidden_size_list": [20, 20], "output_size": 10},
        **{"use_dropout": True, "dropout_ration": 0.2, **place},
    )
    trainer = Trainer(
        *(network, x_train, t_train, x_test, t_test),
        **{"epochs": 4, "mini_batch_size": 100, "optimizer": "sgd"},
        **{"optimizer_param": {"lr": 0.05}, "verbose": True},
    )
    trainer.train()
    return trainer.train_loss_list, trainer.train_acc_list, trainer.test_acc_list


def hyperparameter_optimization(data, place, trials=2):
    """Chapter 6.5: random settings, judged on examples that are held back."""
    (x_train, t_train), _ = data
    np.random.seed(8)
    x_train, t_train = shuffle_dataset(x_train[:200, :], t_train[:200, :])
    x_val, t_val = x_train[:40, :], t_train[:40, :]
    x_train, t_train = x_train[40:, :], t_train[40:, :]
    found = []
    for _ in range(trials):
        weight_decay, lr = 10 ** np.random.uniform(-8, -4), 10 ** np.random.uniform(-3, -1)
        network = MultiLayerNet(784, [20], 10, weight_decay_lambda=weight_decay, **place)
        trainer = Trainer(
            *(network, x_train, t_train, x_val, t_val),
            **{"epochs": 3, "mini_batch_size": 40, "optimizer": "adam"},
            **{"optimizer_param": {"lr": lr}, "verbose": False},
            evaluate_sample_num_per_epoch=30,
        )
        trainer.train()
        found.append((trainer.train_loss_list, trainer.test_acc_list))
    return found


def layers_on_a_function(place_array):
    """Chapter 4: a gradient by differences, of a network of single layers."""
    W, b = place_array(np.arange(6.0).reshape(3, 2)), place_array(np.ones(2))
    x, t = place_array(np.eye(3)), place_array(np.asarray([0, 1, 0]))
    affine, relu, drop, last = Affine(W, b), Relu(), Dropout(0.5), SoftmaxWithLoss()

    def loss(W):
        y = drop.forward(relu.forward(affine.forward(x)), train_flg=False)
        return last.forward(y, t)

    return numerical_gradient(loss, W), affine.W is W, W
