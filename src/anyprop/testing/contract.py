"""What is checked: every layer, loss and optimizer with its options, and training.

A check computes some arrays at a place, in a dtype; it passes if they are there, have that dtype
and equal NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.layers.base import Layer
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.network import MLP, noise_beside
from anyprop.optimizers.adam import Adam
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.momentum import Momentum
from anyprop.optimizers.rmsprop import RMSProp
from anyprop.optimizers.sgd import SGD
from anyprop.parameters import Parameters
from anyprop.schedules.cosine import Cosine
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.testing.loss_cases import LOSS_CASES, K, LossCase
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from anyprop.testing.place import Place
from anyprop.training.fit import fit

Results = Mapping[str, Array]


@dataclass(frozen=True)
class Check:
    """One thing to check.

    Its numbers may be off by `limit` units in the last place of an array's largest number, or of 1
    where that is larger.
    """

    group: str
    name: str
    run: Callable[[Place, str], Results]  # (place, dtype) -> the arrays computed, by name
    watched: bool = True  # whether each of its calls is judged even if its results are right
    observable: bool = True  # whether its calls can be judged; a compiled step makes other calls
    limit: float = 64.0

    @property
    def id(self) -> str:
        """The group and the name, as `--only` takes them."""
        return f"{self.group}/{self.name}"


def _named(prefix: str, grads: Any) -> dict[str, Array]:
    named = grads.named() if isinstance(grads, Parameters) else grads
    return {f"{prefix} {name}": array for name, array in named.items()}


def _layer(case: LayerCase, rows: tuple[int, ...], gaps: bool, place: Place, dtype: str) -> Results:
    rng = np.random.default_rng(1)
    params = case.params(place, dtype)
    results: dict[str, Array] = {}
    for n in rows:
        host = case.x(rng, n)
        dy_host = rng.standard_normal(case.layer.output_shape(host.shape))
        x, dy = (_array(place, a, dtype, gaps) for a in (host, dy_host))
        noise = noise_beside(params, case.layer.noise(rng, host.shape))
        y, residuals = case.layer.forward_train(params, x, noise)
        dx, grads = case.layer.backward(params, residuals, dy)
        running = case.layer.updated_running(params, residuals)
        found = {"y": y, "dx": dx, **_named("d", grads), **_named("running", running)}
        if type(case.layer).forward_train is not Layer.forward_train:
            found["y at inference"], _ = case.layer.forward(params, x)
        results |= {f"{name} of {n} rows": array for name, array in found.items()}
    return results


def _array(place: Place, host: Any, dtype: str, gaps: bool) -> Array:
    if not gaps:
        return place.asarray(host, dtype)
    spread = np.zeros(tuple(2 * n for n in host.shape))
    spread[::2, ::2] = host
    return place.asarray(spread, dtype)[::2, ::2]


def _loss(case: LossCase, rows: tuple[int, ...], place: Place, dtype: str) -> Results:
    rng = np.random.default_rng(1)
    results: dict[str, Array] = {}
    for n in rows:
        y = place.asarray(rng.standard_normal((n, K)), dtype)
        t = case.t(rng, n, K)
        targets = place.asarray(t, dtype if t.dtype.kind == "f" else None)
        weights = place.asarray(rng.uniform(0.5, 2.0, n), dtype)
        for kind, w in (("plain", None), ("weighted", weights)):
            value, residuals = case.loss.forward(y, targets, sample_weight=w)
            found = {"value": value, "dy": case.loss.backward(residuals, 1.5)}
            right = case.loss.correct(y, targets)
            found |= {} if right is None else {"correct": right}
            results |= {f"{kind}, {n} rows: {name}": array for name, array in found.items()}
    return results


# Gradients of all sizes, zero among them, and some that change sign.
_P = np.asarray([[1.5, -2.0, 0.5], [0.25, 3.0, -1.0]])
_GRADS = [
    np.asarray([[1e-6, -3.0, 0.0], [1e3, 2.0, -1e-2]]),
    np.asarray([[-2e-6, -1.0, 0.0], [-500.0, 0.1, -1e-3]]),
]


def _optimizer(opt: Optimizer, place: Place, dtype: str) -> Results:
    results: dict[str, Array] = {}
    for how, donate in (("", False), (", donated", True)):
        params = place.asarray(_P, dtype)
        state = opt.init(params)
        for host in _GRADS:
            params, state = opt.update(params, place.asarray(host, dtype), state, donate=donate)
        results |= {f"{slot}{how}": array for slot, array in {"p": params, **state.slots}.items()}
    return results


def _fit(net: Layer, opt: Optimizer, compiled: bool, place: Place, dtype: str) -> Results:
    rng = np.random.default_rng(1)
    x = place.asarray(rng.standard_normal((20, 4)), dtype)
    t = place.asarray(rng.integers(0, 3, 20))
    result = fit(
        net,
        net.init(8, xp=place.xp, dtype=dtype, device=place.device),
        (x, t),
        loss=SoftmaxCrossEntropy(),
        optimizer=opt,
        steps=3,
        batch_size=8,
        validation=(x, t),
        compile=compiled,
    )
    params, state = result.params, result.state
    results = {"parameters": params.flat, "y": net.forward(params, x)[0]}
    results |= {} if params.running is None else {"running statistics": params.running}
    return results | {name: slot.flat for name, slot in state.slots.items()}


_NETWORKS = {
    "relu-rmsprop": (MLP([4, 6, 3]), RMSProp(lr=0.01)),
    "norms-dropout-adam": (
        MLP([4, 6, 6, 3], "gelu", norm="batch", dropout=0.2, residual=True),
        Adam(lr=0.01),
    ),
    "decay-clipping-momentum": (
        MLP([4, 6, 3], "tanh", norm="layer"),
        Momentum(lr=0.1, weight_decay=0.01, decay_biases=False, clip_global_norm=0.5),
    ),
}

_OPTIONS = {
    "weight_decay": Adam(weight_decay=0.1),
    "weight_decay of matrices": SGD(lr=0.1, weight_decay=0.1, decay_biases=False),
    "clip_value": SGD(lr=0.1, clip_value=2.0),
    "clip_norm": SGD(lr=0.1, clip_norm=2.0),
    "clip_global_norm": SGD(lr=0.1, clip_global_norm=2.0),
    "schedule": Adam(lr=Cosine(0.1, 10)),
}


def _all() -> Iterator[Check]:
    for case in LAYER_CASES:
        yield Check("layers", case.id, partial(_layer, case, (5,), False))
    for case in LAYER_CASES:
        run = partial(_layer, case, (5,), True)
        yield Check("layers on slices", case.id, run, watched=False)
    for case in LAYER_CASES:
        run = partial(_layer, case, (1, 0), False)
        yield Check("layers of few rows", case.id, run, watched=False)
    for loss in LOSS_CASES:
        yield Check("losses", loss.id, partial(_loss, loss, (5,)))
    for loss in LOSS_CASES:
        yield Check("losses of few rows", loss.id, partial(_loss, loss, (1, 0)), watched=False)
    for name, opt in (OPTIMIZER_CASES | _OPTIONS).items():
        yield Check("optimizers", name, partial(_optimizer, opt))
    for name, (net, opt) in _NETWORKS.items():
        yield Check("training", name, partial(_fit, net, opt, False), limit=4096.0)
    for name, (net, opt) in _NETWORKS.items():
        run = partial(_fit, net, opt, True)
        yield Check("compiled training", name, run, watched=False, observable=False, limit=4096.0)


CHECKS = list(_all())
