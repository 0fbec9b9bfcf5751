"""Starting values of weight matrices, drawn on the host so that every backend gets the same bits.

An initializer maps (rng, (D, M)) to a float64 NumPy array; D is the fan in, M the fan out.

    normal(std)         W ~ N(0, std^2)
    lecun               Var W = 1 / D              LeCun et al. (1998)
    glorot              Var W = 2 / (D + M)        Glorot & Bengio (2010)
    he                  Var W = 2 / D              He et al. (2015)
    orthogonal(gain)    W^T W or W W^T = gain^2 I  Saxe et al. (2014)

The uniform forms draw from (-a, a) with a = sqrt(3 Var W), which has the same variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import choice, fields, positive, unknown
from anyprop._typing import Initializer, Rng, Shape
from anyprop._usage import Advising


@dataclass(frozen=True)
class Normal(Advising):
    """Draw from a normal distribution of a given standard deviation.

    Parameters
    ----------
    std : float > 0
        Standard deviation. The book starts with 0.01.

    Raises
    ------
    TypeError, ValueError
        std is not a number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> Normal(0.01)(np.random.default_rng(8), (784, 200)).shape
    (784, 200)
    """

    std: float = 0.01

    def __post_init__(self) -> None:
        fields(self, std=positive)

    def __call__(self, rng: Rng, shape: Shape) -> Any:
        return self.std * rng.standard_normal(shape)


@dataclass(frozen=True)
class Orthogonal(Advising):
    """Draw a matrix with orthonormal columns (or rows, if it has more columns), times a gain.

    Parameters
    ----------
    gain : float > 0
        Factor on the orthonormal matrix; sqrt(2) suits ReLU.

    Raises
    ------
    TypeError, ValueError
        gain is not a number above 0.

    References
    ----------
    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks", 2014.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        fields(self, gain=positive)

    def __call__(self, rng: Rng, shape: Shape) -> Any:
        fan_in, fan_out = _fans(shape)
        tall = (max(shape), min(shape))
        q, r = np.linalg.qr(rng.standard_normal(tall))
        # The signs of R's diagonal are the routine's choice; dividing them out makes Q uniform.
        q = q * np.sign(np.diagonal(r))
        return self.gain * (q if fan_in >= fan_out else q.T)


@dataclass(frozen=True)
class VarianceScaling(Advising):
    """Draw with variance `scale` over a fan: the family of LeCun, Glorot and He.

    Parameters
    ----------
    scale : float > 0
        Numerator of the variance.
    fan : {"in", "average"}
        Denominator: the number D of inputs, or (D + M) / 2 with that of outputs, M.
    distribution : {"normal", "uniform"}
        Shape of the distribution, with the mean 0.

    Raises
    ------
    TypeError, ValueError
        scale is not a number above 0, or fan or distribution is not one of those names.

    References
    ----------
    LeCun, Bottou, Orr & Müller, "Efficient BackProp", 1998; Glorot & Bengio, "Understanding the
    difficulty of training deep feedforward neural networks", 2010; He, Zhang, Ren & Sun, "Delving deep
    into rectifiers: surpassing human-level performance on ImageNet classification", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> W = VarianceScaling(2.0)(np.random.default_rng(8), (784, 200))
    >>> W.shape, round(float(784 * W.var()), 2)
    ((784, 200), 2.0)
    """

    scale: float
    fan: str = "in"
    distribution: str = "normal"

    def __post_init__(self) -> None:
        fields(self, scale=positive)
        choice("fan", self.fan, ("in", "average"))
        choice("distribution", self.distribution, ("normal", "uniform"))

    def __call__(self, rng: Rng, shape: Shape) -> Any:
        fan_in, fan_out = _fans(shape)
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        std = math.sqrt(self.scale / fan)
        if self.distribution == "normal":
            return std * rng.standard_normal(shape)
        limit = math.sqrt(3.0) * std
        return rng.uniform(-limit, limit, shape)


@dataclass(frozen=True)
class Zeros(Advising):
    """Start from 0, which suits a single layer: before others, its units would all stay equal."""

    def __call__(self, rng: Rng, shape: Shape) -> Any:
        return np.zeros(shape)


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(
            f"this initializer draws matrices (D, M), not shape {shape}; "
            "use 'normal:0.01', or set a fixed initial value for the array."
        )
    return shape[0], shape[1]


INITIALIZERS: dict[str, Initializer] = {
    "he_normal": VarianceScaling(2.0),
    "he_uniform": VarianceScaling(2.0, distribution="uniform"),
    "glorot_normal": VarianceScaling(1.0, "average"),
    "glorot_uniform": VarianceScaling(1.0, "average", "uniform"),
    "lecun_normal": VarianceScaling(1.0),
    "lecun_uniform": VarianceScaling(1.0, distribution="uniform"),
    "orthogonal": Orthogonal(),
    "zeros": Zeros(),
}


def get_initializer(name: str | Initializer) -> Initializer:
    """Get an initializer by name.

    Parameters
    ----------
    name : str or initializer
        A key of `INITIALIZERS`, or ``"normal:0.01"`` for a normal distribution of that standard
        deviation; an initializer passes through.

    Returns
    -------
    initializer
        Maps (rng, shape) to a float64 NumPy array.

    Raises
    ------
    ValueError
        The name is unknown, or the standard deviation is not a positive number.
    TypeError
        It is neither a name nor a function.

    Examples
    --------
    >>> get_initializer("normal:0.01")
    Normal(std=0.01)
    """
    if callable(name) and not isinstance(name, type):
        return name
    if not isinstance(name, str):
        raise TypeError(f"weights must be a name or a function (rng, shape), not {name!r}.")
    kind, colon, std = name.partition(":")
    if kind == "normal":
        try:
            return Normal(float(std)) if colon else Normal()
        except ValueError:
            raise ValueError(
                f"weights {name!r}: write a positive number, as in 'normal:0.01'."
            ) from None
    if name not in INITIALIZERS:
        raise unknown("initializer", name, [*INITIALIZERS, "normal:0.01"])
    return INITIALIZERS[name]
