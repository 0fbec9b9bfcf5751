"""Rescale: columns scaled and shifted by constants, for data as they are stored.

    forward    y = scale x + shift             one number each, or one for each column
    backward   dx = dy scale

The numbers belong to the layer: nothing trains them, and they are saved and exported with the network.
In 16 bits y and dx are computed in float32 and rounded once. Saved: x, to check dy; as x is given,
this takes no memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from anyprop._checks import check_rows, is_sequence, real
from anyprop._moments import moments
from anyprop._numerics import cast, is_floating, widened
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import create, dtype_name, namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters

_SHOWN = 4  # numbers of a column each, beyond which only their range is shown


@dataclass(frozen=True, repr=False)
class Rescale(Layer):
    """Scale and shift what comes in, y = scale x + shift, by constants.

    As first layer of a network it takes data as they are stored, so that `predict`, a file and an
    exported model scale them as training did.

    Parameters
    ----------
    scale : float or sequence of float, length D
        Factor, for all numbers of x or for each column.
    shift : float or sequence of float, length D
        What is added after that.

    Raises
    ------
    TypeError
        A factor is not a number.
    ValueError
        A factor is infinite or NaN, or the two sequences differ in length.

    Notes
    -----
    x must be in the dtype of the parameters; `fit`, `evaluate` and `predict` see to that.

    References
    ----------
    LeCun, Bottou, Orr & Müller, "Efficient BackProp", 1998, section 4.3.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> net = ap.Sequential(Rescale(1 / 255), ap.Affine(784, 10))
    >>> net.layers[0].forward(None, np.asarray([[0.0, 51.0, 255.0]]))[0]
    array([[0. , 0.2, 1. ]])
    >>> Rescale.standardizing(np.asarray([[1.0, 7.0], [3.0, 7.0]]))
    Rescale(scale=(1.0, 1.0), shift=(-2.0, -7.0))
    """

    scale: float | Sequence[float] = 1.0
    shift: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        widths = {len(given) for given in self._columns()}
        if len(widths) > 1:
            raise ValueError(
                f"Rescale: scale has {len(self._columns()[0])} numbers and shift "
                f"{len(self._columns()[1])}; they need one for each column, or one alone."
            )

    @classmethod
    def standardizing(cls, data: Any) -> Rescale:
        """Return the layer that gives each column of some data the mean 0 and the standard deviation 1.

        Parameters
        ----------
        data : array, shape (N, D), or Source
            The training examples, real numbers of any dtype, of any backend; of a `Source` its x, as
            they are stored. They are read once, some rows at a time.

        Returns
        -------
        Rescale
            scale is 1 / std and shift -mean / std, with std the root of the mean squared deviation
            (``ddof=0``). A column that holds one number only has no spread: its std counts as 1, so
            that this number becomes 0, as in scikit-learn's StandardScaler.

        Raises
        ------
        TypeError
            The data are something else.
        ValueError
            The data have no rows or are not (N, D), a number is infinite or NaN, or a column spreads
            too little or too far for its numbers to be divided.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).uniform(5.0, 9.0, (1000, 3)).astype("float32")
        >>> y, _ = Rescale.standardizing(x).forward(None, x)
        >>> (abs(y.mean(axis=0)) < 1e-6).all(), (abs(y.std(axis=0) - 1) < 1e-6).all()
        (np.True_, np.True_)
        """
        mean, std = moments("Rescale.standardizing", data)
        return cls(scale=(1.0 / std).tolist(), shift=(0.0 - mean / std).tolist())

    def _columns(self) -> list[Sequence[float]]:
        return [given for given in (self.scale, self.shift) if not isinstance(given, float)]

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={_short(value)}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        )
        return f"Rescale({', '.join(shown)})"

    @property
    def width_in(self) -> int | None:
        return next(map(len, self._columns()), None)

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        if (d := self.width_in) is not None:
            check_rows("x", x, d)
        xp = namespace(x)
        if not is_floating(xp, x.dtype):
            raise TypeError(
                f"Rescale: x is {dtype_name(x)}; cast x to the dtype of the parameters, as fit, "
                "evaluate and predict do."
            )
        y = widened(xp, x)
        if self.scale != 1.0:
            y = y * _beside(y, self.scale)
        if self.shift != 0.0:
            y = y + _beside(y, self.shift)
        return cast(xp, y, x.dtype), x

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        xp = check_dy(dy, residuals)
        dx = widened(xp, dy)
        return cast(xp, dx * _beside(dx, self.scale), dy.dtype), {}


def _numbers(name: str, given: Any) -> float | tuple[float, ...]:
    """Return a finite number, or several of them, as Python's own."""
    if not is_sequence(given):
        numbers = [real("Rescale", name, given)]
    elif getattr(given, "ndim", 1) == 1:
        numbers = [real("Rescale", name, number) for number in given]
    else:
        raise TypeError(f"Rescale: {name} must be a number or one for each column, (D,).")
    if not numbers:
        raise ValueError(f"Rescale: {name} is empty.")
    for column, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"Rescale: {name} must be finite, but number {column} is {number}.")
    return tuple(numbers) if is_sequence(given) else numbers[0]


def _short(given: float | tuple[float, ...]) -> str:
    if isinstance(given, float) or len(given) <= _SHOWN:
        return repr(given)
    return f"<{len(given)} numbers from {min(given):.4g} to {max(given):.4g}>"


def _beside(x: Array, given: float | Sequence[float]) -> Any:
    """Return a number as it is, one for each column as a vector beside x."""
    if isinstance(given, float):
        return given
    return create(namespace(x).asarray, list(given), like=x, dtype=x.dtype)
