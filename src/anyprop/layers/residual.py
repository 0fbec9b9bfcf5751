"""Residual: a block and a way around it.

    forward    y = x + block(x)
    backward   dx = dy + dx_block

The parameters are those of the block, under the block's own names. Saved: what the block saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import check_shape, pair
from anyprop._typing import Array, Grads, Residuals, Shape
from anyprop._usage import usage
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Residual(Layer):
    """Add a block's output to x, so that gradients also pass around the block.

    Parameters
    ----------
    block : Layer
        A layer, often a `Sequential`, whose y has the shape of its x.

    Raises
    ------
    TypeError
        The block is not a layer.
    ValueError
        The block changes the width of its rows; detected by the first `forward` where the block
        takes rows of any width.

    References
    ----------
    He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2016.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> y, residuals = Residual(ap.ReLU()).forward(None, np.asarray([-1.0, 2.0]))
    >>> y
    array([-1.,  4.])
    """

    block: Layer

    def __post_init__(self) -> None:
        if not isinstance(self.block, Layer):
            raise TypeError(f"Residual takes a layer, not {self.block!r}; did you forget the ()?")
        d = self.block.width_in
        if d is not None:
            m = self.block.output_shape((1, d))[-1]
            if m != d:
                raise ValueError(
                    f"Residual adds x to block(x), but {self.block!r} makes rows of {m} numbers "
                    f"out of rows of {d}; pass a block that keeps the width."
                )

    def children(self) -> Mapping[str, Layer]:
        return {"": self.block}

    def with_children(self, children: Mapping[str, Layer]) -> Residual:
        return Residual(children[""])

    @property
    def width_in(self) -> int | None:
        return self.block.width_in

    @usage("net(params, x)")
    def __call__(self, params: Parameters, x: Array) -> Array:
        return self._added(x, (self.block(params, x), None))[0]

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        return self._added(x, self.block.forward(params, x))

    def forward_train(self, params: Parameters, x: Array, noise: Any) -> tuple[Array, Residuals]:
        return self._added(x, self.block.forward_train(params, x, noise))

    def _added(self, x: Array, of_block: tuple[Array, Residuals]) -> tuple[Array, Residuals]:
        y, residuals = pair(self.block, "forward", of_block)
        check_shape("block(x)", y, x.shape)
        return x + y, residuals

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        of_block = self.block.backward(params, residuals, dy)
        dx_block, grads = pair(self.block, "backward", of_block)
        return dy + dx_block, grads

    def backward_params(self, params: Parameters, residuals: Residuals, dy: Array) -> Grads:
        return self.block.backward_params(params, residuals, dy)

    def noise(self, rng: np.random.Generator, shape: Shape) -> Any:
        return self.block.noise(rng, shape)

    def updated_running(self, params: Parameters, residuals: Residuals) -> Mapping[str, Array]:
        return self.block.updated_running(params, residuals)
