"""What the book's networks have in common: parameters, and layers that look them up."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from anyprop._checks import count, few, kind
from anyprop._numerics import cast, is_floating
from anyprop._typing import Array, Device, Initializer, Namespace
from anyprop._usage import Advising
from anyprop.backend import check_floating, from_host, namespace
from anyprop.book.activations import ReLU, Sigmoid
from anyprop.book.affine import Affine
from anyprop.book.batch_normalization import BatchNormalization
from anyprop.book.dropout import Dropout
from anyprop.book.gradient import numerical_gradient
from anyprop.book.holding import HoldsArrays
from anyprop.book.losses import SoftmaxWithLoss, check_targets
from anyprop.losses.base import check_real
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.xp import xp as chosen_xp


class Network(Advising):
    """Affine layers with an activation between them, softmax and cross entropy at the end.

    A subclass draws the parameters and makes the layers by `_build`.
    """

    layers: Any
    """The layers in order, under their names."""
    last_layer: SoftmaxWithLoss
    _params: dict[str, Array]
    _holding: list[HoldsArrays]

    @property
    def params(self) -> dict[str, Array]:
        """``W1, b1, W2, b2, ...``; the layers look their arrays up here at every call."""
        return self._params

    @params.setter
    def params(self, params: dict[str, Array]) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be a dict of arrays by name, not {kind(params)}.")
        if missing := self._params.keys() - params.keys():
            raise ValueError(f"{type(self).__name__}: params lacks {few(sorted(missing))}.")
        self._params = params
        for layer in self._holding:
            layer.look_up_in(params, layer.suffix)

    def _build(
        self,
        sizes: Sequence[Any],
        weights: Initializer,
        activation: type[ReLU | Sigmoid],
        name: str,
        *,
        xp: Namespace | str | None,
        device: str | Device | None,
        dtype: str,
        seed: int | None,
        norms: bool = False,
        dropout_ratio: float | None = None,
    ) -> dict[str, Any]:
        """Draw the parameters and make the layers; those of activation are called `name`."""
        check_floating(dtype)
        widths = [count(type(self).__name__, "size", size) for size in sizes]
        try:
            rng: Any = np.random if seed is None else np.random.RandomState(seed)
        except TypeError:
            raise TypeError(f"seed must be a whole number of at least 0, not {seed!r}.") from None
        self._params, self._holding = {}, []
        layers: dict[str, Any] = {}

        def hold(layer_name: str, kind: type[HoldsArrays], i: int, **host: Any) -> None:
            arrays = {
                key: from_host(array, target, dtype=dtype, device=device)
                for key, array in host.items()
            }
            layers[f"{layer_name}{i}"] = layer = kind(**arrays)
            self._params.update({f"{key}{i}": array for key, array in arrays.items()})
            layer.look_up_in(self._params, str(i))
            self._holding.append(layer)

        target = chosen_xp if xp is None else xp
        for i, (d, m) in enumerate(itertools.pairwise(widths), start=1):
            hold("Affine", Affine, i, W=weights(rng, (d, m)), b=np.zeros(m))
            if i == len(widths) - 1:
                break
            if norms:
                hold("BatchNorm", BatchNormalization, i, gamma=np.ones(m), beta=np.zeros(m))
            layers[f"{name}{i}"] = activation()
            if dropout_ratio is not None:
                layers[f"Dropout{i}"] = Dropout(dropout_ratio)
        return layers

    def predict(self, x: Array) -> Array:
        """Compute the logits, (N, output_size), of x, (N, input_size)."""
        return self._through(self._in_order(), x)

    def loss(self, x: Array, t: Array) -> float:
        """Compute the mean loss over a batch, in nats, and the part of a weight decay if there is one.

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs, of any real dtype of the network's namespace.
        t : array, shape (N,) int or (N, output_size)
            Labels, or one-hot rows.

        Returns
        -------
        float
            The loss, read from the device so that a plot or a format can take it.
        """
        return self._loss_of(self.predict(x), t)

    def _loss_of(self, y: Array, t: Array) -> float:
        """Read the loss from the device; ValueError if it is NaN because a label is not a class."""
        value = float(self.last_layer.forward(y, t))
        if math.isnan(value) and isinstance(self.last_layer, SoftmaxWithLoss):
            check_targets(t, y.shape[1])
        return value

    def accuracy(self, x: Array, t: Array) -> float:
        """Compute the share of right predictions; a pending `backward` is not affected.

        Parameters
        ----------
        x : array, shape (N, input_size)
            Inputs.
        t : array, shape (N,) int or (N, output_size)
            Labels, or one-hot rows.
        """
        y = self._through([copy.copy(layer) for layer in self._in_order()], x)
        xp = namespace(y)
        right = SoftmaxCrossEntropy().correct(y, t)
        check_targets(t, y.shape[1])
        return int(xp.sum(xp.astype(right, xp.int32))) / max(int(y.shape[0]), 1)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute the gradients of the loss by backpropagation.

        Parameters
        ----------
        x, t : array
            A batch, as `loss` takes it.

        Returns
        -------
        dict of str to array
            Gradients under the names of `params`.
        """
        self._training_loss(x, t)
        return self._backward(self.last_layer.backward())

    def numerical_gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute the gradients of the loss by central differences, one parameter at a time.

        Parameters
        ----------
        x, t : array
            A batch, as `loss` takes it.

        Returns
        -------
        dict of str to array
            Gradients under the names of `params`, as exact as the dtype lets them be: make the
            network with ``dtype="float64"`` to check a gradient.
        """

        def value(array: Array) -> float:
            return self._training_loss(x, t)

        return {name: numerical_gradient(value, p) for name, p in list(self.params.items())}

    def _training_loss(self, x: Array, t: Array) -> float:
        return self.loss(x, t)

    def _backward(self, dout: Array) -> dict[str, Array]:
        layers, first = self._in_order(), self._holding
        # Those of now: a layer may have been put in the place of another.
        now = [layer for layer in layers if isinstance(layer, HoldsArrays)]
        if [layer.held_names() for layer in now] != [layer.held_names() for layer in first]:
            raise ValueError(
                f"{type(self).__name__}: layers has {few(type(layer).__name__ for layer in now)}, but "
                f"params has the arrays of {few(type(layer).__name__ for layer in first)}."
            )
        for layer in reversed(layers):
            dout = layer.backward(dout)
        return {
            f"{name}{of.suffix}": getattr(layer, f"d{name}")
            for of, layer in zip(first, now, strict=True)
            for name in layer.held_names()
        }

    def _in_order(self) -> list[Any]:
        return list(self.layers.values())

    def _through(self, layers: Iterable[Any], x: Array, train_flg: bool = False) -> Array:
        W = self.params["W1"]
        xp = namespace(x, W)
        check_real("x", x)
        if is_floating(xp, W.dtype):  # not to a whole number that was put there by hand
            x = cast(xp, x, W.dtype)
        for layer in layers:
            if isinstance(layer, (BatchNormalization, Dropout)):
                x = layer.forward(x, train_flg)
            else:
                x = layer.forward(x)
        return x
