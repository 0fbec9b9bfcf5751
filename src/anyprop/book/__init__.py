"""The shapes of the book "Deep Learning from Scratch": layers that remember, a dict of parameters.

    net, optimizer = TwoLayerNet(784, 50, 10), SGD(lr=0.1)
    grads = net.gradient(x, t)
    optimizer.update(net.params, grads)

Everything is computed by the functional layers, losses and optimizers of the library; the classes
here only keep what those return until the next call. A script that was written for the classes of the
book's chapters 4 to 6, or for the article's, runs on them with its imports changed, on the backend
that the environment variable ``ANYPROP_BACKEND`` names, or that `xp=` asks for. Where arrays can be
written to, an update changes them in place, as the book's does. On JAX it makes new arrays, which take
the places of the old ones in the dict, and in every layer of this module that held one of them; so
your own networks train there, too.

What differs from the book's classes, on purpose:

- The losses of layers and networks are not cut off. The mean of -log(p + 1e-7) cannot pass 16.12,
  however wrong the network is. With the article's literal settings (RMSProp, lr 0.1, legacy seed 8)
  that form reads 2.303, 14.83, 14.99, 13.86, and in truth the loss is 2.303, 91187, 52175, 17796: h
  starts at 0, so the first step moves every weight by lr / sqrt(1 - decay_rate) = 1. The gradients
  are the same. `cross_entropy_error` is the book's.
- `TwoLayerNet` is chapter 5's. That of section 4.5, which has a sigmoid between its layers, is
  ``MultiLayerNet(784, [50], 10, "sigmoid", 0.01)``; its probabilities, which `predict` returned there,
  are ``net.last_layer.y`` after `loss`.
- Parameters are float32 unless `dtype` says otherwise.
- `Relu.backward` leaves `dout` as it was.
- `SoftmaxWithLoss.backward` uses `dout`.
- A `Trainer` measures at the start of each epoch, also where the batches do not divide the examples.
- A network's layers look their arrays up in its `params`, so ``net.params["W1"] = W`` is seen by them.
"""

from anyprop.book.activations import ReLU, Relu, Sigmoid
from anyprop.book.affine import Affine
from anyprop.book.batch_normalization import BatchNormalization
from anyprop.book.dropout import Dropout
from anyprop.book.gradient import numerical_gradient
from anyprop.book.losses import SoftmaxCrossEntropy, SoftmaxWithLoss, cross_entropy_error
from anyprop.book.mnist import load_mnist
from anyprop.book.multi_layer_net import MultiLayerNet, MultiLayerNetExtend
from anyprop.book.neural_network import NeuralNetwork
from anyprop.book.optimizers import (
    SGD,
    AdaGrad,
    Adam,
    Momentum,
    Nesterov,
    RMSProp,
    RMSprop,
)
from anyprop.book.trainer import Trainer
from anyprop.book.two_layer_net import TwoLayerNet
from anyprop.book.util import shuffle_dataset, smooth_curve

__all__ = [
    "AdaGrad",
    "Adam",
    "Affine",
    "BatchNormalization",
    "Dropout",
    "Momentum",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Nesterov",
    "NeuralNetwork",
    "RMSProp",
    "RMSprop",
    "ReLU",
    "Relu",
    "SGD",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "SoftmaxWithLoss",
    "Trainer",
    "TwoLayerNet",
    "cross_entropy_error",
    "load_mnist",
    "numerical_gradient",
    "shuffle_dataset",
    "smooth_curve",
]
