"""The article's network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anyprop._typing import Array, Device, Namespace
from anyprop.book.activations import ReLU
from anyprop.book.losses import SoftmaxCrossEntropy, SoftmaxWithLoss, check_targets
from anyprop.book.network import Network
from anyprop.initializers import Normal


class NeuralNetwork(Network):
    """Affine and ReLU in turn, ended by Affine and softmax with cross entropy: the article's network.

    Parameters
    ----------
    input_size : int >= 1
        Width of the input.
    hidden_size : int >= 1 or sequence of int >= 1
        Units of the hidden layers. A single number means two layers of that width, as in the
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
        ``W1, b1, W2, b2, ...``; the layers look their arrays up here at every call.
    grads : dict of str to array
        Gradients under the same names; empty before the first `backward`.
    layers : list
        Affine, ReLU, Affine, ...; their W, b, dW and db belong to `params` and `grads`.
    loss_layer : SoftmaxCrossEntropy
        The last layer.

    Raises
    ------
    TypeError, ValueError
        A size is not a whole number of at least 1, or `weight_init_std` is not positive.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.7.

    Examples
    --------
    >>> import numpy as np
    >>> from anyprop.book import AdaGrad
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
        hidden: Any = hidden_size if is_list else [hidden_size, hidden_size]
        sizes = [input_size, *hidden, output_size]
        weights = Normal(weight_init_std)
        place: Any = {"xp": xp, "device": device, "dtype": dtype, "seed": seed}
        self.layers = list(self._build(sizes, weights, ReLU, "ReLU", **place).values())
        self.last_layer = SoftmaxWithLoss()
        self.loss_layer = SoftmaxCrossEntropy()
        self.grads: dict[str, Array] = {}
        self._checked: Array | None = None  # the targets of the logits that were seen last

    def predict(self, x: Array) -> Array:
        """Compute the logits, (N, output_size), of x, (N, input_size)."""
        y = super().predict(x)
        self.loss_layer.see(y)
        self._checked = None
        return y

    def compute_loss(self, x: Array, t: Array) -> float:
        """Compute `loss`, under the article's name."""
        return self.loss(x, t)

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
        TypeError, ValueError
            The targets do not fit: another shape, or labels that are no class.
        """
        if not self.loss_layer.has_seen:
            raise RuntimeError("NeuralNetwork: call compute_loss(x, t) before backward(t).")
        dout = self.loss_layer.backward(t)
        loss: Any = self.loss_layer.loss
        # Only where no `compute_loss` has looked at them: to read the loss is to wait for the device.
        if t is not self._checked and math.isnan(float(loss)):
            check_targets(t, dout.shape[1])
        self.grads = self._backward(dout)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute `grads` and return them.

        Parameters
        ----------
        x, t : array
            A batch, as `compute_loss` takes it.

        Returns
        -------
        dict of str to array
            Gradients of the loss summed over the batch, under the names of `params`.
        """
        self.predict(x)
        self.backward(t)
        return self.grads

    def _loss_of(self, y: Array, t: Array) -> float:
        value = super()._loss_of(y, t)
        self._checked = t
        return value

    def _in_order(self) -> list[Any]:
        return list(self.layers)
