"""The shapes of the book "Deep Learning from Scratch": layers that remember, a dict of parameters.

    net, optimizer = NeuralNetwork(784, 200, 10), RMSProp(lr=0.001)
    net.compute_loss(x, t)
    net.backward(t)
    optimizer.update(net.params, net.grads)

Everything is computed by the functional layers, losses and optimizers of the library; the classes
here only keep what those return until the next call. A script that was written for the book's
classes runs on them with its imports changed, on the backend that the environment variable
``ANYPROP_BACKEND`` names, or that `xp=` asks for. Where arrays can be written to, an update changes
them in place, as the book's does; on JAX it puts new arrays into the dict, which the network reads
at every call.

What differs from the book's classes, on purpose:

- The loss is not cut off. The mean of -log(p + 1e-7) cannot pass 16.1, however wrong the network
  is. With the article's literal settings (RMSProp, lr 0.1, legacy seed 8) that form reads 2.303,
  14.83, 14.99, 13.86, and in truth the loss is 2.303, 91187, 52175, 17796: h starts at 0, so the
  first step moves every weight by lr / sqrt(1 - decay_rate) = 1. The gradients are the same.
- `ReLU.backward` leaves `dout` as it was.
- `SoftmaxCrossEntropy.backward` uses `dout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anyprop import data
from anyprop._checks import check_shape
from anyprop._typing import Array, Device, Namespace, Residuals
from anyprop.backend import namespace
from anyprop.initializers import Normal
from anyprop.layers import affine, relu
from anyprop.losses import softmax_cross_entropy
from anyprop.network import MLP
from anyprop.optimizers import adagrad, momentum, rmsprop, sgd
from anyprop.optimizers.base import Optimizer, OptimizerState
from anyprop.xp import xp as chosen_xp

__all__ = [
    "AdaGrad",
    "Affine",
    "Momentum",
    "NeuralNetwork",
    "RMSProp",
    "ReLU",
    "SGD",
    "SoftmaxCrossEntropy",
    "load_mnist",
]


class Affine:
    """Affine map y = x W + b that remembers x, dW and db.

    Parameters
    ----------
    W : array, shape (D, M), float
        Weights.
    b : array, shape (M,), float
        Shift.

    Attributes
    ----------
    dW, db : array or None
        Gradients with respect to W and b, of their shapes; None before the first `backward`.

    Raises
    ------
    ValueError
        The shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Affine(np.ones((3, 2)), np.zeros(2))
    >>> layer.forward(np.asarray([[1.0, 2.0, 3.0]]))
    array([[6., 6.]])
    >>> layer.backward(np.asarray([[1.0, 0.0]])), layer.db
    (array([[1., 1., 1.]]), array([1., 0.]))
    """

    def __init__(self, W: Array, b: Array) -> None:
        if W.ndim != 2:
            raise ValueError(f"W has shape {tuple(W.shape)}, expected (D, M).")
        check_shape("b", b, (W.shape[1],))
        self.W, self.b = W, b
        self.dW: Array | None = None
        self.db: Array | None = None
        self._layer = affine.Affine(*W.shape)
        self._residuals: Residuals = None

    def forward(self, x: Array) -> Array:
        """Compute y, (N, M), from x, (N, D)."""
        arrays: Any = self  # the layer looks for W and b, and here they are
        y, self._residuals = self._layer.forward(arrays, x)
        return y

    def backward(self, dout: Array) -> Array:
        """Compute dx, (N, D), from `dout`, (N, M), and store dW and db."""
        arrays: Any = self
        dx, grads = self._layer.backward(arrays, _kept(self, self._residuals), dout)
        self.dW, self.db = grads["W"], grads["b"]
        return dx


class ReLU:
    """Rectified linear unit, y = max(x, 0), that remembers where y > 0.

    Examples
    --------
    >>> import numpy as np
    >>> layer = ReLU()
    >>> layer.forward(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    >>> layer.backward(np.asarray([5.0, 5.0]))
    array([0., 5.])
    """

    def __init__(self) -> None:
        self._layer = relu.ReLU()
        self._residuals: Residuals = None

    def forward(self, x: Array) -> Array:
        """Compute y from x, of any shape."""
        arrays: Any = None
        y, self._residuals = self._layer.forward(arrays, x)
        return y

    def backward(self, dout: Array) -> Array:
        """Compute dx from `dout`, of the same shape."""
        arrays: Any = None
        return self._layer.backward(arrays, _kept(self, self._residuals), dout)[0]


class SoftmaxCrossEntropy:
    """Softmax and cross entropy, mean over the batch, in nats, as a last layer.

    Examples
    --------
    >>> import numpy as np
    >>> layer = SoftmaxCrossEntropy()
    >>> round(float(layer.forward(np.zeros((1, 4)), np.asarray([2]))), 6)  # log 4
    1.386294
    >>> layer.backward()
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def __init__(self) -> None:
        self._loss = softmax_cross_entropy.SoftmaxCrossEntropy()
        self._residuals: Residuals = None

    def forward(self, x: Array, t: Array) -> Array:
        """Compute the mean loss, shape ().

        Parameters
        ----------
        x : array, shape (N, K), float
            Logits.
        t : array, shape (N,) int or (N, K)
            Labels, or one-hot rows.
        """
        value, self._residuals = self._loss.forward(x, t)
        return value

    def backward(self, dout: Any = 1.0) -> Array:
        """Compute dx, (N, K), from the gradient `dout` with respect to the mean loss.

        ``dout=N`` gives the gradient of the sum over the batch, which the article works with.
        """
        return self._loss.backward(_kept(self, self._residuals), dout)


def _kept(layer: object, residuals: Residuals) -> Residuals:
    if residuals is None:
        raise RuntimeError(f"{type(layer).__name__}: call forward before backward.")
    return residuals


class NeuralNetwork:
    """Affine and ReLU in turn, ended by Affine and softmax with cross entropy.

    Parameters
    ----------
    input_size : int >= 1
        Numbers in.
    hidden_size : int >= 1 or sequence of int >= 1
        Units of the hidden layers. A single number stands for two layers of that width, as in the
        article: 200 for ``[200, 200]``.
    output_size : int >= 1
        Classes.
    weight_init_std : float > 0
        Standard deviation of the weights at the start; biases start at 0.
    xp : namespace or str, optional
        Backend of the parameters; by default the one that ``ANYPROP_BACKEND`` names.
    device : str or device, optional
        Device of the parameters; the backend's default by default.
    dtype : {"float32", "float64"}
        Dtype of the parameters, in which everything is computed.
    seed : int >= 0, optional
        Seed of the weights, which are then those that follow ``np.random.seed(seed)``; by default
        they are drawn from NumPy's global generator, as the book's are.

    Attributes
    ----------
    params : dict of str to array
        ``W1, b1, W2, b2, ...``, read at every call.
    grads : dict of str to array
        Gradients under the same names; empty before the first `backward`.

    Raises
    ------
    TypeError, ValueError
        A size is no whole number of at least 1, or `weight_init_std` is not positive.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.7.

    Examples
    --------
    >>> import numpy as np
    >>> net, optimizer = NeuralNetwork(2, [8], 2, 0.5, xp="numpy", seed=8), AdaGrad(lr=0.1)
    >>> x, t = np.asarray([[0.0, 1.0], [1.0, 0.0]]), np.asarray([0, 1])
    >>> for _ in range(50):
    ...     loss = net.compute_loss(x, t)
    ...     net.backward(t)
    ...     optimizer.update(net.params, net.grads)
    >>> list(net.params), net.accuracy(x, t)
    (['W1', 'b1', 'W2', 'b2'], 1.0)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        output_size: int,
        weight_init_std: float = 0.01,
        *,
        xp: Namespace | str | None = None,
        device: str | Device | None = None,
        dtype: str = "float32",
        seed: int | None = None,
    ) -> None:
        is_list = hasattr(hidden_size, "__iter__")
        hidden = list(hidden_size) if is_list else [hidden_size, hidden_size]  # type: ignore[arg-type]
        net = MLP([input_size, *hidden, output_size])
        rng: Any = np.random if seed is None else np.random.RandomState(seed)
        drawn = net.init(
            rng,
            xp=chosen_xp if xp is None else xp,
            dtype=dtype,
            device=device,
            weights=Normal(weight_init_std),
        )
        self._depth = len(hidden) + 1
        self.params: dict[str, Array] = {}
        for i in range(self._depth):
            layer = drawn[2 * i]  # a ReLU stands between two Affine layers
            self.params |= {f"W{i + 1}": layer.W, f"b{i + 1}": layer.b}
        self.grads: dict[str, Array] = {}
        self._layers: list[Affine | ReLU] = []
        self._y: Array = None

    def predict(self, x: Array) -> Array:
        """Compute the logits, (N, output_size), of x, (N, input_size)."""
        self._layers = self._make_layers()
        self._y = self._through(self._layers, x)
        return self._y

    def compute_loss(self, x: Array, t: Array) -> float:
        """Compute the mean loss over a batch, in nats.

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs, of any dtype of the network's namespace.
        t : array, shape (N,) int or (N, output_size)
            Labels, or one-hot rows.

        Returns
        -------
        float
            The loss, read from the device so that a plot or a format can take it.
        """
        return float(SoftmaxCrossEntropy().forward(self.predict(x), t))

    def backward(self, t: Array) -> None:
        """Compute `grads`: the gradients of the loss summed, not averaged, over the batch.

        Parameters
        ----------
        t : array, shape (N,) int or (N, output_size)
            Targets of the batch that `compute_loss` or `predict` saw last.

        Raises
        ------
        RuntimeError
            Neither of them was called before.
        """
        if self._y is None:
            raise RuntimeError("NeuralNetwork: call compute_loss(x, t) before backward(t).")
        last = SoftmaxCrossEntropy()
        last.forward(self._y, t)
        dout = last.backward(float(self._y.shape[0]))
        for layer in reversed(self._layers):
            dout = layer.backward(dout)
        affines = [layer for layer in self._layers if isinstance(layer, Affine)]
        for i, layer in enumerate(affines, start=1):
            self.grads |= {f"W{i}": layer.dW, f"b{i}": layer.db}

    def accuracy(self, x: Array, t: Array) -> float:
        """Compute the share of right predictions; a `backward` that is still to come is kept apart.

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs.
        t : array, shape (N,) int or (N, output_size)
            Labels, or one-hot rows.
        """
        y = self._through(self._make_layers(), x)
        xp = namespace(y)
        right = softmax_cross_entropy.SoftmaxCrossEntropy().correct(y, t)
        count = float(xp.sum(xp.astype(right, y.dtype)))
        return count / max(int(y.shape[0]), 1)

    def _make_layers(self) -> list[Affine | ReLU]:
        layers: list[Affine | ReLU] = []
        for i in range(1, self._depth + 1):
            layers += [Affine(self.params[f"W{i}"], self.params[f"b{i}"]), ReLU()]
        return layers[:-1]

    def _through(self, layers: list[Affine | ReLU], x: Array) -> Array:
        W = self.params["W1"]
        x = namespace(x, W).astype(x, W.dtype, copy=False)
        for layer in layers:
            x = layer.forward(x)
        return x


@dataclass
class _BookOptimizer:
    """An optimizer that remembers its state; its settings may be changed between updates."""

    _state: OptimizerState | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._optimizer()

    def _optimizer(self) -> Optimizer:
        raise NotImplementedError

    def update(self, params: dict[str, Array], grads: dict[str, Array]) -> None:
        """Do one update.

        Parameters
        ----------
        params : dict of str to array, float
            Parameters; they change in place where arrays can be written to, and otherwise the dict
            gets new ones.
        grads : dict of str to array
            Gradients under the same names.

        Raises
        ------
        TypeError, ValueError
            Names, shapes, dtypes or namespaces differ.
        """
        optimizer = self._optimizer()
        if self._state is None:
            self._state = optimizer.init(params)
        updated, self._state = optimizer.update(params, grads, self._state, donate=True)
        params.update(updated)

    def _slot(self, name: str) -> dict[str, Array] | None:
        if self._state is None:
            return None
        slot: dict[str, Array] = self._state.slots[name]
        return slot


@dataclass
class SGD(_BookOptimizer):
    """Stochastic gradient descent, p <- p - lr g.

    Parameters
    ----------
    lr : float > 0
        Learning rate.
    """

    lr: float = 0.01

    def _optimizer(self) -> Optimizer:
        return sgd.SGD(self.lr)


@dataclass
class Momentum(_BookOptimizer):
    """Gradient descent with momentum, v <- momentum v + g, p <- p - lr v.

    The book's v holds -lr v; the steps are the same as long as lr stays as it is.

    Parameters
    ----------
    lr : float > 0
        Learning rate.
    momentum : float in [0, 1)
        Share of the velocity that stays.
    """

    lr: float = 0.01
    momentum: float = 0.9

    def _optimizer(self) -> Optimizer:
        return momentum.Momentum(self.lr, momentum=self.momentum)


@dataclass
class AdaGrad(_BookOptimizer):
    """AdaGrad, h <- h + g^2, p <- p - lr g / (sqrt(h) + 1e-7).

    Parameters
    ----------
    lr : float > 0
        Learning rate.

    Attributes
    ----------
    h : dict of str to array, or None
        Sums of squared gradients; None before the first update.
    """

    lr: float = 0.01

    @property
    def h(self) -> dict[str, Array] | None:
        return self._slot("h")

    def _optimizer(self) -> Optimizer:
        return adagrad.AdaGrad.like("book", self.lr)


@dataclass
class RMSProp(_BookOptimizer):
    """RMSProp, h <- rho h + (1 - rho) g^2, p <- p - lr g / (sqrt(h) + 1e-7).

    Parameters
    ----------
    lr : float > 0
        Learning rate. At 0.1 the first step moves every weight by 1 and the network hardly
        recovers; 0.001 works.
    decay_rate : float in [0, 1)
        rho, the share of h that stays.

    Attributes
    ----------
    h : dict of str to array, or None
        Running means of squared gradients; None before the first update.
    """

    lr: float = 0.01
    decay_rate: float = 0.99

    @property
    def h(self) -> dict[str, Array] | None:
        return self._slot("h")

    def _optimizer(self) -> Optimizer:
        return rmsprop.RMSProp.like("book", self.lr, rho=self.decay_rate)


def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    xp: Namespace | str | None = None,
    dtype: str = "float32",
    device: str | Device | None = None,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Load MNIST as `anyprop.load_mnist` does, onto the backend that ``ANYPROP_BACKEND`` names.

    Parameters
    ----------
    normalize, flatten, one_hot_label : bool
        The book's switches: pixels in [0, 1], images as rows, labels as one-hot rows.
    xp, dtype, device
        As for `anyprop.load_mnist`, except for the default of `xp`.

    Returns
    -------
    (x, t), (xv, tv)
        60000 images and labels for training, 10000 for testing.
    """
    return data.load_mnist(
        normalize,
        flatten,
        one_hot_label,
        xp=chosen_xp if xp is None else xp,
        dtype=dtype,
        device=device,
    )
