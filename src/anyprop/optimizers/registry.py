"""Optimizers by name, as a user writes them."""

from __future__ import annotations

from anyprop._checks import unknown
from anyprop.optimizers.adadelta import AdaDelta
from anyprop.optimizers.adagrad import AdaGrad
from anyprop.optimizers.adam import Adam
from anyprop.optimizers.adamax import Adamax
from anyprop.optimizers.adamw import AdamW
from anyprop.optimizers.amsgrad import AMSGrad
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.lion import Lion
from anyprop.optimizers.momentum import Momentum
from anyprop.optimizers.nadam import NAdam
from anyprop.optimizers.nesterov import Nesterov
from anyprop.optimizers.radam import RAdam
from anyprop.optimizers.rmsprop import RMSProp
from anyprop.optimizers.rprop import Rprop
from anyprop.optimizers.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adadelta": AdaDelta,
    "adam": Adam,
    "amsgrad": AMSGrad,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": RAdam,
    "adamax": Adamax,
    "lion": Lion,
    "rprop": Rprop,
}
"""Name -> class of every optimizer."""


def get_optimizer(name: str) -> type[Optimizer]:
    """Get the class of an optimizer by its name.

    Parameters
    ----------
    name : str
        A key of `OPTIMIZERS`.

    Returns
    -------
    type
        A subclass of `Optimizer`; every parameter of it has a default.

    Raises
    ------
    ValueError
        The name is unknown; the message shows the nearest one.

    Examples
    --------
    >>> get_optimizer("adam")(lr=0.01).lr
    0.01
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
