"""The network of chapter 5."""

from __future__ import annotations

from typing import Any

from anyprop._typing import Device, Namespace
from anyprop.book.activations import ReLU
from anyprop.book.losses import SoftmaxWithLoss
from anyprop.book.network import Network
from anyprop.initializers import Normal


class TwoLayerNet(Network):
    """Affine, ReLU, Affine and softmax with loss: the network of chapter 5.

    Parameters
    ----------
    input_size, hidden_size, output_size : int >= 1
        Width of the input, units of the hidden layer, classes.
    weight_init_std : float > 0
        Standard deviation of the weights at the start; biases start at 0.
    xp, device, dtype, seed
        As for `NeuralNetwork`.

    Attributes
    ----------
    params : dict of str to array
        ``W1, b1, W2, b2``; the layers look their arrays up here at every call.
    layers : dict of str to layer
        ``Affine1``, ``Relu1``, ``Affine2``.
    lastLayer : SoftmaxWithLoss
        The last layer, which is `last_layer` too.

    Raises
    ------
    TypeError, ValueError
        A size is not a whole number of at least 1, or `weight_init_std` is not positive.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.7.2.

    Examples
    --------
    >>> import numpy as np
    >>> net = TwoLayerNet(4, 3, 2, xp="numpy", dtype="float64", seed=8)
    >>> x, t = np.eye(4), np.asarray([0, 1, 1, 0])
    >>> exact, numeric = net.gradient(x, t), net.numerical_gradient(x, t)
    >>> all(np.abs(exact[name] - numeric[name]).max() < 1e-9 for name in net.params)
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float = 0.01,
        *,
        xp: Namespace | str | None = None,
        device: str | Device | None = None,
        dtype: str = "float32",
        seed: int | None = None,
    ) -> None:
        sizes = [input_size, hidden_size, output_size]
        weights = Normal(weight_init_std)
        place: Any = {"xp": xp, "device": device, "dtype": dtype, "seed": seed}
        self.layers = self._build(sizes, weights, ReLU, "Relu", **place)
        self.last_layer = self.lastLayer = SoftmaxWithLoss()
