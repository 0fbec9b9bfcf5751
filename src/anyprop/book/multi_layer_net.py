"""The networks of chapter 6: any depth, weight decay, batch normalization and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyprop._checks import choice, flag, is_sequence, kind, non_negative, unknown
from anyprop._typing import Array, Device, Initializer, Namespace
from anyprop.backend import namespace
from anyprop.book.activations import ReLU, Sigmoid
from anyprop.book.losses import SoftmaxWithLoss
from anyprop.book.network import Network
from anyprop.initializers import Normal, get_initializer

_ACTIVATIONS: dict[str, type[ReLU | Sigmoid]] = {"relu": ReLU, "sigmoid": Sigmoid}
_WEIGHTS = {
    "relu": "he_normal",
    "he": "he_normal",
    "sigmoid": "lecun_normal",
    "xavier": "lecun_normal",
}


class MultiLayerNet(Network):
    """Affine and activation in turn, ended by Affine and softmax with loss.

    Parameters
    ----------
    input_size : int >= 1
        Width of the input.
    hidden_size_list : sequence of int >= 1
        Units of the hidden layers.
    output_size : int >= 1
        Classes.
    activation : {"relu", "sigmoid"}
        Between the layers.
    weight_init_std : float > 0, or {"relu", "he", "sigmoid", "xavier"}
        Standard deviation of the weights at the start; the first two names mean sqrt(2 / n), the
        others sqrt(1 / n), n the width of a layer's input.
    weight_decay_lambda : float >= 0
        lambda in the term lambda / 2 sum W^2, which is part of the loss.
    xp, device, dtype, seed
        As for `NeuralNetwork`.

    Attributes
    ----------
    params : dict of str to array
        ``W1, b1, W2, b2, ...``; the layers look their arrays up here at every call.
    layers : dict of str to layer
        ``Affine1``, ``Activation_function1``, ``Affine2``, ...
    last_layer : SoftmaxWithLoss
        The last layer.

    Raises
    ------
    TypeError, ValueError
        A size is not a whole number of at least 1, or a name is unknown.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, sections 6.2 and 6.4.2.

    Examples
    --------
    >>> import numpy as np
    >>> net = MultiLayerNet(4, [5, 5], 3, weight_decay_lambda=0.1, xp="numpy", seed=8)
    >>> sorted(net.gradient(np.eye(4), np.asarray([0, 1, 2, 0])))
    ['W1', 'W2', 'W3', 'b1', 'b2', 'b3']
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: str | float = "relu",
        weight_decay_lambda: float = 0,
        *,
        xp: Namespace | str | None = None,
        device: str | Device | None = None,
        dtype: str = "float32",
        seed: int | None = None,
    ) -> None:
        sizes = (input_size, hidden_size_list, output_size)
        place = {"xp": xp, "device": device, "dtype": dtype, "seed": seed}
        self._make(sizes, activation, weight_init_std, weight_decay_lambda, **place)

    def _make(
        self, sizes: Any, activation: str, std: str | float, decay: float, **options: Any
    ) -> None:
        self.weight_decay_lambda = non_negative(type(self).__name__, "weight_decay_lambda", decay)
        self.last_layer = SoftmaxWithLoss()
        input_size, hidden, output_size = sizes
        if not is_sequence(hidden):
            raise TypeError(
                f"hidden_size_list must be a sequence such as [100, 100], not {kind(hidden)}."
            )
        choice("activation", activation, _ACTIVATIONS)
        self.layers = self._build(
            [input_size, *hidden, output_size],
            _weights(std),
            _ACTIVATIONS[activation],
            "Activation_function",
            **options,
        )

    def _loss_of(self, y: Array, t: Array) -> float:
        loss = super()._loss_of(y, t)
        if self.weight_decay_lambda:
            squares = [W * W for name, W in self.params.items() if name.startswith("W")]
            total = sum(float(namespace(square).sum(square)) for square in squares)
            loss += 0.5 * self.weight_decay_lambda * total
        return loss

    def _backward(self, dout: Array) -> dict[str, Array]:
        grads = super()._backward(dout)
        if not self.weight_decay_lambda:
            return grads
        return {
            name: g + self.weight_decay_lambda * self.params[name] if name.startswith("W") else g
            for name, g in grads.items()
        }


class MultiLayerNetExtend(MultiLayerNet):
    """`MultiLayerNet` with batch normalization before and dropout behind each activation.

    Parameters
    ----------
    input_size, hidden_size_list, output_size, activation, weight_init_std, weight_decay_lambda
        As for `MultiLayerNet`.
    use_dropout : bool
        Whether a Dropout follows each activation.
    dropout_ration : float in [0, 1)
        Its ratio, in the book's spelling.
    use_batchnorm : bool
        Whether a BatchNormalization precedes each activation.
    xp, device, dtype, seed
        As for `NeuralNetwork`.

    Attributes
    ----------
    params : dict of str to array
        ``W1, b1, gamma1, beta1, ...``; the layers look their arrays up here at every call.
    layers : dict of str to layer
        ``Affine1``, ``BatchNorm1``, ``Activation_function1``, ``Dropout1``, ``Affine2``, ...
    last_layer : SoftmaxWithLoss
        The last layer.

    Raises
    ------
    TypeError, ValueError
        A size is not a whole number of at least 1, a name is unknown, or a ratio is out of its
        range.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, sections 6.3 and 6.4.3.

    Examples
    --------
    >>> net = MultiLayerNetExtend(4, [5], 3, use_dropout=True, use_batchnorm=True, xp="numpy")
    >>> list(net.layers)
    ['Affine1', 'BatchNorm1', 'Activation_function1', 'Dropout1', 'Affine2']
    """

    def __init__(
        self,
        input_size: int,
        hidden_size_list: Sequence[int],
        output_size: int,
        activation: str = "relu",
        weight_init_std: str | float = "relu",
        weight_decay_lambda: float = 0,
        use_dropout: bool = False,
        dropout_ration: float = 0.5,
        use_batchnorm: bool = False,
        *,
        xp: Namespace | str | None = None,
        device: str | Device | None = None,
        dtype: str = "float32",
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        self.use_dropout = flag(owner, "use_dropout", use_dropout)
        self.use_batchnorm = flag(owner, "use_batchnorm", use_batchnorm)
        sizes = (input_size, hidden_size_list, output_size)
        place = {"xp": xp, "device": device, "dtype": dtype, "seed": seed}
        self._make(
            sizes,
            activation,
            weight_init_std,
            weight_decay_lambda,
            norms=self.use_batchnorm,
            dropout_ratio=dropout_ration if self.use_dropout else None,
            **place,
        )

    def predict(self, x: Array, train_flg: bool = False) -> Array:
        """Compute the logits, (N, output_size), of x, (N, input_size).

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs, of any real dtype of the network's namespace.
        train_flg : bool
            Whether numbers are dropped, and normalized by the statistics of the batch.
        """
        return self._through(self._in_order(), x, train_flg)

    def loss(self, x: Array, t: Array, train_flg: bool = False) -> float:
        """Compute the mean loss over a batch, in nats, and the weight decay's part.

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs, of any real dtype of the network's namespace.
        t : array, shape (N,) int or (N, output_size)
            Labels, or one-hot rows.
        train_flg : bool
            As for `predict`.

        Returns
        -------
        float
            The loss.
        """
        return self._loss_of(self.predict(x, train_flg), t)

    def _training_loss(self, x: Array, t: Array) -> float:
        return self.loss(x, t, train_flg=True)


def _weights(std: str | float) -> Initializer:
    if not isinstance(std, str):
        return Normal(std)
    if std.lower() not in _WEIGHTS:
        raise unknown("weight_init_std", std, _WEIGHTS)
    return get_initializer(_WEIGHTS[std.lower()])
