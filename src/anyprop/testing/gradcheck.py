"""`gradcheck`: do the gradients of a layer or a loss agree with central differences?

`differences` computes both; this module has the question and the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import kind, positive, whole
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.parameters import Parameters
from anyprop.testing.differences import Comparison, GradcheckError, compare_layer, compare_loss


@dataclass(frozen=True)
class GradcheckEntry:
    """One number of a gradient, computed twice.

    Parameters
    ----------
    name : str
        ``"x"``, ``"y"`` for the predictions that a loss takes, or a parameter such as ``"0.W"``.
    index : tuple of int
        Index in that array.
    source : str
        The call that returned `analytic`: ``"backward"``, ``"backward_params"`` or
        ``"value_and_grad"``.
    analytic, numeric : float
        The two values.
    error : float
        ``|analytic - numeric| / max(1, |numeric|)``.
    """

    name: str
    index: tuple[int, ...]
    source: str
    analytic: float
    numeric: float
    error: float

    def __str__(self) -> str:
        index = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return (
            f"{self.name}{index}: {self.source} says {self.analytic:.9g}, "
            f"differences say {self.numeric:.9g}"
        )


@dataclass(frozen=True)
class GradcheckReport:
    """What `gradcheck` found; its text is one line.

    Parameters
    ----------
    worst : GradcheckEntry
        The entry with the largest error.
    errors : dict of str to float
        Largest error of each array, by name.
    checked : int
        Number of numbers compared.
    """

    worst: GradcheckEntry
    errors: dict[str, float]
    checked: int

    def __str__(self) -> str:
        return (
            f"{self.checked} numbers compared; worst is {self.worst} (error {self.worst.error:.1e})"
        )


@usage("gradcheck(layer, x, params=...) or gradcheck(net, x, t=..., loss=...)")
def gradcheck(
    target: Layer | Loss,
    x: Array | None = None,
    *,
    params: Parameters | None = None,
    t: Array | None = None,
    loss: Loss | None = None,
    noise: Any = None,
    seed: int = 0,
    h: float = 1e-5,
    tol: float = 1e-6,
) -> GradcheckReport:
    """Check a layer's, network's or loss's backward pass against central differences.

    Every entry of x and of every trainable parameter is compared, which takes two forward passes
    each: make the network small. A layer that computes something else while training is checked in
    both ways. A loss is checked with and without sample weights.

    Parameters
    ----------
    target : Layer or Loss
        What to check.
    x : array, shape (N, D), float64, optional
        The point: rows that the layer takes, or the predictions y (N, K) that the loss takes. Its
        backend and device are used for everything. Drawn with NumPy by default, if the layer knows
        its D.
    params : Parameters, float64, optional
        Parameters of a layer; drawn by default, biases and gains included.
    t : array, optional
        Targets of a loss; drawn by default, as the loss's `check_targets` allows.
    loss : Loss, optional
        Check also what `value_and_grad` returns for the layer and this loss.
    noise : tree of numpy.ndarray, optional
        What a layer uses while training; drawn by the layer's `noise` by default.
    seed : int >= 0
        Seed of everything drawn.
    h : float > 0
        Half the step of the differences.
    tol : float > 0
        Largest error ``|analytic - numeric| / max(1, |numeric|)`` that passes.

    Returns
    -------
    GradcheckReport
        The worst entry and the largest error of each array.

    Raises
    ------
    GradcheckError
        An entry is off by more than `tol`, a gradient is missing or has the wrong shape or dtype, or
        forward or backward wrote into its arguments. It is an AssertionError.
    TypeError
        x or the parameters are not float64, the target is neither a layer nor a loss, or an
        argument is passed that does not apply to this kind of target.
    ValueError
        x or t is needed and cannot be guessed, there are no numbers to compare, or h or tol is not
        positive.

    Examples
    --------
    >>> import anyprop as ap
    >>> report = gradcheck(ap.MLP([3, 4, 2], "tanh", norm="layer"), loss=ap.SoftmaxCrossEntropy())
    >>> report.checked, report.worst.error < 1e-8
    (194, True)
    """
    h, tol = positive("gradcheck", "h", h), positive("gradcheck", "tol", tol)
    rng = np.random.default_rng(whole("seed", seed))
    for name, given, wanted in (("params", params, Parameters), ("loss", loss, Loss)):
        if given is not None and not isinstance(given, wanted):
            raise TypeError(f"{name} must be of the type {wanted.__name__}, not {kind(given)}.")
    if isinstance(target, Loss):
        if params is not None or loss is not None or noise is not None:
            raise TypeError("gradcheck of a loss takes x (the predictions) and t only.")
        comparisons = compare_loss(target, x, t, rng, h)
    elif isinstance(target, Layer):
        if t is not None and loss is None:
            raise TypeError("gradcheck of a layer uses t only with loss=...")
        comparisons = compare_layer(target, x, params, t, loss, noise, rng, h)
    else:
        raise TypeError(
            f"gradcheck takes a layer or a loss, not {target!r}; did you forget the ()?"
        )
    return _report(comparisons, tol)


def _report(comparisons: list[Comparison], tol: float) -> GradcheckReport:
    worst: GradcheckEntry | None = None
    errors: dict[str, float] = {}
    wrong = checked = 0
    for name, source, analytic, numeric in comparisons:
        if not analytic.size:
            continue
        error = np.abs(analytic - numeric) / np.maximum(1.0, np.abs(numeric))
        error = np.where(np.isnan(error), np.inf, error)
        index = np.unravel_index(int(np.argmax(error)), error.shape)
        largest = float(error[index])
        errors[name] = max(errors.get(name, 0.0), largest)
        checked += error.size
        wrong += int(np.sum(error > tol))
        if worst is None or largest > worst.error:
            place = tuple(int(i) for i in index)
            values = float(analytic[index]), float(numeric[index])
            worst = GradcheckEntry(name, place, source, *values, largest)
    if worst is None:
        raise ValueError("gradcheck has nothing to compare: x and the parameters are empty.")
    if wrong:
        raise GradcheckError(f"{worst} ({wrong} of {checked} numbers are wrong)")
    return GradcheckReport(worst, errors, checked)
