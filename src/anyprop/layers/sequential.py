"""Sequential: layers one after the other.

    forward    x_0 = x,  x_{i+1} = layer_i(x_i),  y = x_L
    backward   dx_L = dy,  dx_i = backward_i(dx_{i+1}),  dx = dx_0

Saved: the residuals of every layer. The gradients come back as one flat vector, laid out as the
parameters are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from anyprop._checks import check_shape, pair
from anyprop._text import table
from anyprop._typing import Array, Grads, Residuals, Shape
from anyprop._usage import usage
from anyprop.backend import reshaped
from anyprop.layers.base import Layer, layout_of
from anyprop.parameters import Parameters, check_kind


@dataclass(frozen=True, init=False, repr=False)
class Sequential(Layer):
    """Layers applied one after the other; itself a layer.

    Parameters
    ----------
    *layers : Layer
        At least one layer, each taking the output of the one before it.

    Raises
    ------
    TypeError
        One of them is not a layer.
    ValueError
        None are given, or two neighbours do not fit together.

    Examples
    --------
    >>> import anyprop as ap
    >>> net = ap.Sequential(ap.Affine(4, 3), ap.ReLU(), ap.Affine(3, 2))
    >>> net.init(seed=8)
    Parameters(23 numbers: 0.W (4, 3), 0.b (3,), 2.W (3, 2), 2.b (2,))
    >>> print(net)
       layer                       y       parameters
    0  Affine(d=4, m=3, bias=True) (N, 3)  15
    1  ReLU()                      (N, 3)
    2  Affine(d=3, m=2, bias=True) (N, 2)  8
    23 parameters
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            raise TypeError(
                "Sequential takes layers one by one, not in a list; write Sequential(*layers)."
            )
        if not layers:
            raise ValueError("Sequential needs at least one layer.")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential takes layers, not {layer!r}; did you forget the ()?")
        object.__setattr__(self, "layers", layers)
        self._check_widths()

    def _check_widths(self) -> None:
        width: int | None = None
        for i, layer in enumerate(self.layers):
            wanted = layer.width_in
            if width is not None and wanted is not None and wanted != width:
                raise ValueError(
                    f"layer {i}, {layer!r}, takes rows of {wanted} numbers, "
                    f"but the layers before it give {width}."
                )
            width = wanted if wanted is not None else width
            width = None if width is None else layer.output_shape((1, width))[1]

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def __str__(self) -> str:
        width = self.width_in
        rows = list(_rows("", "", self, None if width is None else (1, width)))
        return f"{table(('', 'layer', 'y', 'parameters'), rows)}\n{_count(self):,} parameters"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # for IPython

    def children(self) -> Mapping[str, Layer]:
        return {f"{i}.": layer for i, layer in enumerate(self.layers)}

    def with_children(self, children: Mapping[str, Layer]) -> Sequential:
        return Sequential(*children.values())

    @property
    def width_in(self) -> int | None:
        widths = (layer.width_in for layer in self.layers)
        return next((width for width in widths if width is not None), None)

    def output_shape(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    @usage("net(params, x)")
    def __call__(self, params: Parameters, x: Array) -> Array:
        # Without the residuals, an array is free for the next layers as soon as it has been read.
        check_kind(params)
        for i, layer in enumerate(self.layers):
            x = layer(params[i], x)
        return x

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        check_kind(params)
        residuals = []
        for i, layer in enumerate(self.layers):
            x, kept = pair(layer, "forward", layer.forward(params[i], x))
            residuals.append(kept)
        return x, residuals

    def forward_train(self, params: Parameters, x: Array, noise: Any) -> tuple[Array, Residuals]:
        if noise is None:
            noise = (None,) * len(self.layers)
        if not isinstance(noise, tuple) or len(noise) != len(self.layers):
            raise ValueError(
                f"noise must hold one entry for each of {len(self.layers)} layers; "
                "draw it by noise(rng, x.shape)."
            )
        residuals = []
        for i, layer in enumerate(self.layers):
            x, kept = pair(layer, "forward", layer.forward_train(params[i], x, noise[i]))
            residuals.append(kept)
        return x, residuals

    def backward(
        self, params: Parameters, residuals: Residuals, dy: Array
    ) -> tuple[Array, Parameters]:
        dx, pieces = self._backward(params, residuals, dy, down_to=0)
        return dx, params._joined(pieces)

    def backward_params(self, params: Parameters, residuals: Residuals, dy: Array) -> Parameters:
        first = self._first_trainable
        if first is None:
            return params._joined([])
        dy, pieces = self._backward(params, residuals, dy, down_to=first + 1)
        view = params[first]
        grads = self.layers[first].backward_params(view, residuals[first], dy)
        return params._joined(flat_pieces(view, grads) + pieces)

    def _backward(
        self, params: Parameters, residuals: Residuals, dy: Array, down_to: int
    ) -> tuple[Array, list[Array]]:
        pieces: list[Array] = []
        for i in range(len(self.layers) - 1, down_to - 1, -1):
            view, layer = params[i], self.layers[i]
            dy, grads = pair(layer, "backward", layer.backward(view, residuals[i], dy))
            pieces[:0] = flat_pieces(view, grads)
        return dy, pieces

    @cached_property
    def _first_trainable(self) -> int | None:
        for i, layer in enumerate(self.layers):
            if any(spec.trainable for spec in layer.specs().values()):
                return i
        return None

    def noise(self, rng: np.random.Generator, shape: Shape) -> Any:
        drawn = []
        for layer in self.layers:
            drawn.append(layer.noise(rng, shape))
            shape = layer.output_shape(shape)
        return tuple(drawn) if any(noise is not None for noise in drawn) else None

    def updated_running(self, params: Parameters, residuals: Residuals) -> Mapping[str, Array]:
        return {
            f"{i}.{name}": value
            for i, layer in enumerate(self.layers)
            for name, value in layer.updated_running(params[i], residuals[i]).items()
        }


def flat_pieces(params: Parameters, grads: Grads) -> list[Array]:
    """List a layer's gradients as vectors, in the order of the flat vector.

    Raises
    ------
    ValueError
        A gradient is missing, or its shape is not that of the parameter.
    """
    if isinstance(grads, Parameters):
        if params._parts is None:  # as it also is for a layer that has nothing to train
            return [grads.flat] if grads.layout.trainable else []
        parts = grads._split()
        return [reshaped(parts[e.name], (-1,)) for e in grads.layout.trainable]
    pieces = []
    for entry in params.layout.entries:
        if entry.trainable:
            if entry.name not in grads:
                raise ValueError(f"backward gave no gradient for the parameter {entry.name!r}.")
            g = grads[entry.name]
            if getattr(g, "shape", None) != entry.shape:
                check_shape(f"the gradient of {entry.name}", g, entry.shape)
            pieces.append(reshaped(g, (-1,)))
    return pieces


def _rows(
    prefix: str, name: str, layer: Layer, shape: Shape | None
) -> Iterator[tuple[str, str, str, str]]:
    """Describe a layer that takes x of `shape`, and those inside it, in rows of a table."""
    prefix += name
    children = layer.children()
    if name or not children:
        text = repr(layer) if not children else type(layer).__name__
        widths = () if shape is None else layer.output_shape(shape)[1:]
        y = f"(N, {', '.join(map(str, widths))})" if widths else ""
        count = 0 if children else _count(layer)
        yield prefix.rstrip("."), text, y, f"{count:,}" if count else ""
    for inner, child in children.items():
        yield from _rows(prefix, inner, child, shape)
        if shape is not None and isinstance(layer, Sequential):
            shape = child.output_shape(shape)


def _count(layer: Layer) -> int:
    return layout_of(layer).size()
