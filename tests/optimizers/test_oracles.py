"""Optimizers against torch.optim, optax and Keras, step for step in float64."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.schedules import Exponential, InverseTime

STEPS = 60
DERIVATIONS = Path(__file__).parents[2] / "docs" / "derivations" / "optimizers"
RTOL = 1e-12


def _gradients():
    """Gradients of two arrays: each entry has a scale of its own, which also changes by step."""
    rng = np.random.default_rng(7)
    scale = np.geomspace(1e-6, 1e3, 24)
    gradients = []
    for _ in range(STEPS):
        g = rng.permutation(scale) ** 0.5 * scale**0.5 * rng.standard_normal(24)
        g[rng.random(24) < 0.05] = 0.0
        gradients.append((g[:20].reshape(4, 5), g[20:]))
    return gradients


GRADIENTS = _gradients()
START = (2.0 + np.random.default_rng(3).random((4, 5)), -2.0 - np.random.default_rng(4).random(4))


def trajectory(opt):
    """Parameters after every step, by anyprop."""
    params, state, path = START, opt.init(START), []
    for grads in GRADIENTS:
        params, state = opt.update(params, grads, state)
        path.append(np.concatenate([p.reshape(-1) for p in params]))
    return np.stack(path)


def assert_same_path(ours, theirs, rtol=RTOL):
    assert ours.shape == theirs.shape == (STEPS, 24)
    assert np.abs(ours[-1] - ours[0]).min() > 0.0
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def test_the_gradients_cover_the_scales():
    sizes = np.abs(np.concatenate([g.reshape(-1) for pair in GRADIENTS for g in pair]))
    assert (sizes == 0.0).any()
    assert sizes[sizes > 0.0].min() < 1e-6
    assert sizes.max() > 1e3


# PyTorch


@pytest.fixture
def torch():
    import torch

    # Some of its optimizers keep scalar state in the default dtype.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(default)


def torch_trajectory(torch, make, *, lr=None, clip=None, groups=None):
    path, _ = torch_run(torch, make, lr=lr, clip=clip, groups=groups)
    return path


def torch_run(torch, make, *, lr=None, clip=None, groups=None, steps=STEPS):
    """Parameters after every step, and what the optimizer remembers of the first of them."""
    params = [torch.nn.Parameter(torch.tensor(p)) for p in START]
    opt = make(torch.optim, params if groups is None else groups(*params))
    path = []
    for step, grads in enumerate(GRADIENTS[:steps]):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g)
        if clip is not None:
            clip(torch.nn.utils, params)
        for group in opt.param_groups if lr is not None else ():
            group["lr"] = lr(step)
        opt.step()
        path.append(np.concatenate([p.detach().numpy().reshape(-1) for p in params]))
    return np.stack(path), opt.state[params[0]]


TORCH = {
    "sgd": (ap.SGD(lr=1e-3), lambda o, p: o.SGD(p)),
    "sgd-decay": (ap.SGD(lr=1e-3, weight_decay=0.1), lambda o, p: o.SGD(p, weight_decay=0.1)),
    "momentum": (ap.Momentum(lr=1e-3), lambda o, p: o.SGD(p, momentum=0.9)),
    "momentum-decay": (
        ap.Momentum(lr=1e-3, momentum=0.5, weight_decay=0.1),
        lambda o, p: o.SGD(p, momentum=0.5, weight_decay=0.1),
    ),
    "nesterov": (ap.Nesterov(lr=1e-3), lambda o, p: o.SGD(p, momentum=0.9, nesterov=True)),
    "adagrad": (ap.AdaGrad.like("torch"), lambda o, p: o.Adagrad(p)),
    "adagrad-options": (
        ap.AdaGrad.like("torch", initial_accumulator=0.5, eps=1e-3, weight_decay=0.1),
        lambda o, p: o.Adagrad(p, initial_accumulator_value=0.5, eps=1e-3, weight_decay=0.1),
    ),
    "adagrad-chainer": (ap.AdaGrad.like("chainer"), lambda o, p: o.Adagrad(p, 1e-3, eps=1e-8)),
    "adagrad-book": (ap.AdaGrad.like("book"), lambda o, p: o.Adagrad(p, 1e-2, eps=1e-7)),
    "adagrad-default": (ap.AdaGrad(), lambda o, p: o.Adagrad(p, 1e-2, eps=1e-7)),
    "rmsprop": (ap.RMSProp.like("torch"), lambda o, p: o.RMSprop(p)),
    "rmsprop-momentum": (
        ap.RMSProp.like("torch", momentum=0.9),
        lambda o, p: o.RMSprop(p, momentum=0.9),
    ),
    "rmsprop-centered": (
        ap.RMSProp.like("torch", centered=True),
        lambda o, p: o.RMSprop(p, centered=True),
    ),
    "rmsprop-all": (
        ap.RMSProp.like("torch", 1e-3, rho=0.9, momentum=0.8, centered=True, weight_decay=0.1),
        lambda o, p: o.RMSprop(p, 1e-3, 0.9, momentum=0.8, centered=True, weight_decay=0.1),
    ),
    "rmsprop-chainer": (ap.RMSProp.like("chainer"), lambda o, p: o.RMSprop(p, 1e-2, 0.99, 1e-8)),
    "rmsprop-book": (ap.RMSProp.like("book"), lambda o, p: o.RMSprop(p, 1e-2, 0.99, 1e-7)),
    "rmsprop-default": (ap.RMSProp(), lambda o, p: o.RMSprop(p, 1e-3, 0.99, 1e-7)),
    "adadelta": (ap.AdaDelta(), lambda o, p: o.Adadelta(p)),
    "adadelta-options": (
        ap.AdaDelta(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1),
        lambda o, p: o.Adadelta(p, 0.5, 0.8, 1e-4, weight_decay=0.1),
    ),
    "adam": (ap.Adam(), lambda o, p: o.Adam(p)),
    "adam-options": (
        ap.Adam(beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.1),
        lambda o, p: o.Adam(p, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    ),
    "amsgrad": (ap.AMSGrad(), lambda o, p: o.Adam(p, amsgrad=True)),
    "amsgrad-options": (
        ap.AMSGrad(beta1=0.8, beta2=0.5, eps=1e-4, weight_decay=0.1),
        lambda o, p: o.Adam(p, amsgrad=True, betas=(0.8, 0.5), eps=1e-4, weight_decay=0.1),
    ),
    "adamw": (ap.AdamW(), lambda o, p: o.AdamW(p)),
    "adamw-options": (
        ap.AdamW(lr=0.01, weight_decay=0.5, beta1=0.8, beta2=0.9, eps=1e-4),
        lambda o, p: o.AdamW(p, 0.01, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.5),
    ),
    "nadam": (ap.NAdam(), lambda o, p: o.NAdam(p)),
    "nadam-options": (
        ap.NAdam(beta1=0.8, beta2=0.9, eps=1e-4, momentum_decay=0.5, weight_decay=0.1),
        lambda o, p: o.NAdam(p, betas=(0.8, 0.9), eps=1e-4, momentum_decay=0.5, weight_decay=0.1),
    ),
    "nadam-constant": (ap.NAdam(momentum_decay=0.0), lambda o, p: o.NAdam(p, momentum_decay=0.0)),
    "radam": (ap.RAdam(), lambda o, p: o.RAdam(p)),
    "radam-options": (
        ap.RAdam(beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.1),
        lambda o, p: o.RAdam(p, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    ),
    "radam-never-rectified": (ap.RAdam(beta2=0.6), lambda o, p: o.RAdam(p, betas=(0.9, 0.6))),
    "radam-barely-rectified": (ap.RAdam(beta2=0.7), lambda o, p: o.RAdam(p, betas=(0.9, 0.7))),
    "adamax": (ap.Adamax(), lambda o, p: o.Adamax(p)),
    "adamax-options": (
        ap.Adamax(beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.1),
        lambda o, p: o.Adamax(p, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    ),
    "rprop": (ap.Rprop(), lambda o, p: o.Rprop(p)),
    "rprop-options": (
        ap.Rprop(lr=0.1, eta_minus=0.4, eta_plus=1.5, step_min=1e-2, step_max=0.2),
        lambda o, p: o.Rprop(p, lr=0.1, etas=(0.4, 1.5), step_sizes=(1e-2, 0.2)),
    ),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
def test_torch(torch, ours, theirs):
    assert_same_path(trajectory(ours), torch_trajectory(torch, theirs))


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [case for name, case in TORCH.items() if not name.startswith("rprop")],
    ids=[name for name in TORCH if not name.startswith("rprop")],
)
def test_torch_with_a_schedule(torch, ours, theirs):
    schedule = Exponential(ours.lr, factor=0.9)
    path = trajectory(dataclasses.replace(ours, lr=schedule))
    assert_same_path(path, torch_trajectory(torch, theirs, lr=schedule))


TORCH_NAMES = {
    "a": ["grad_avg"],
    "d": ["acc_delta", "step_size"],
    "h": ["sum", "square_avg"],
    "m": ["exp_avg"],
    "prev": ["prev"],
    "u": ["exp_inf"],
    "v": ["exp_avg_sq", "momentum_buffer"],
    "w": ["max_exp_avg_sq"],
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize(("ours", "theirs"), TORCH.values(), ids=TORCH)
def test_torch_remembers_the_same(torch, ours, theirs):
    """Also the signs of numbers of which only squares are used."""
    _, remembered = torch_run(torch, theirs, steps=3)
    params, state = START, ours.init(START)
    for grads in GRADIENTS[:3]:
        params, state = ours.update(params, grads, state)
    for slot, (array, _) in state.slots.items():
        (name,) = (name for name in TORCH_NAMES[slot] if name in remembered)
        np.testing.assert_allclose(array, remembered[name].numpy(), rtol=RTOL)


@pytest.mark.needs("torch")
def test_torch_decay_of_adagrad_is_a_schedule(torch):
    ours = ap.AdaGrad.like("torch", InverseTime(0.01, decay=0.1))
    assert_same_path(
        trajectory(ours), torch_trajectory(torch, lambda o, p: o.Adagrad(p, lr_decay=0.1))
    )


@pytest.mark.needs("torch")
@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_torch_with_decay_of_matrices_only(torch, kind):
    ours = getattr(ap, kind)(lr=0.01, weight_decay=0.5, decay_biases=False)
    theirs = torch_trajectory(
        torch,
        lambda o, groups: getattr(o, kind)(groups, 0.01),
        groups=lambda w, b: [
            {"params": [w], "weight_decay": 0.5},
            {"params": [b], "weight_decay": 0.0},
        ],
    )
    assert_same_path(trajectory(ours), theirs)


@pytest.mark.needs("torch")
def test_torch_clipping(torch):
    ours = ap.Momentum(lr=1e-3, clip_value=2.0)
    theirs = torch_trajectory(
        torch,
        lambda o, p: o.SGD(p, momentum=0.9),
        clip=lambda utils, params: utils.clip_grad_value_(params, 2.0),
    )
    assert_same_path(trajectory(ours), theirs)

    # PyTorch adds 1e-6 to the norm, which here is far above 1.
    ours = ap.Momentum(lr=1e-3, clip_global_norm=2.0)
    theirs = torch_trajectory(
        torch,
        lambda o, p: o.SGD(p, momentum=0.9),
        clip=lambda utils, params: utils.clip_grad_norm_(params, 2.0),
    )
    assert_same_path(trajectory(ours), theirs, rtol=1e-8)

    ours = ap.Momentum(lr=1e-3, clip_norm=2.0)
    theirs = torch_trajectory(
        torch,
        lambda o, p: o.SGD(p, momentum=0.9),
        clip=lambda utils, params: [utils.clip_grad_norm_([p], 2.0) for p in params],
    )
    assert_same_path(trajectory(ours), theirs, rtol=1e-7)


# optax


def optax_trajectory(make):
    import jax.numpy as jnp
    import optax

    opt = make(optax)
    params = tuple(jnp.asarray(p) for p in START)
    state, path = opt.init(params), []
    for grads in GRADIENTS:
        updates, state = opt.update(tuple(jnp.asarray(g) for g in grads), state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.concatenate([np.asarray(p).reshape(-1) for p in params]))
    return np.stack(path)


def _optax_rmsprops():
    """Every combination of its options, except those with which it returns NaN."""
    for in_sqrt, centered, corrected, momentum, scale in itertools.product(
        (True, False), (False, True), (False, True), ("none", "heavy ball", "nesterov"), (0.0, 0.5)
    ):
        # The first corrected variance is 0 but for rounding: eps alone divides, and without it inside
        # the root, optax takes the root of a negative number.
        uncertain = centered and corrected and scale == 0.0
        if uncertain and not in_sqrt:
            continue
        eps = 1e-2 if uncertain else 1e-8
        theirs = {
            "decay": 0.95,
            "eps": eps,
            "initial_scale": scale,
            "eps_in_sqrt": in_sqrt,
            "centered": centered,
            "bias_correction": corrected,
            "momentum": None if momentum == "none" else 0.8,
            "nesterov": momentum == "nesterov",
        }
        ours = theirs | {"rho": 0.95, "momentum": 0.0 if momentum == "none" else 0.8}
        del ours["decay"]
        words = [
            *("in sqrt",) * in_sqrt,
            *("centered",) * centered,
            *("corrected",) * corrected,
            momentum,
            str(scale),
        ]
        yield pytest.param(ours, theirs, id=" ".join(words))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "schedule"])
@pytest.mark.parametrize(("ours", "theirs"), list(_optax_rmsprops()))
def test_optax_rmsprop(ours, theirs, scheduled):
    lr = Exponential(1e-3, factor=0.9) if scheduled else 1e-3
    path = trajectory(ap.RMSProp.like("optax", lr, **ours))
    rtol = 1e-10 if theirs["eps"] == 1e-2 else RTOL
    assert_same_path(path, optax_trajectory(lambda o: o.rmsprop(lr, **theirs)), rtol=rtol)


OPTAX = {
    "sgd": (ap.SGD, {}, lambda o, lr: o.sgd(lr)),
    "momentum": (ap.Momentum, {}, lambda o, lr: o.sgd(lr, momentum=0.9)),
    "nesterov": (ap.Nesterov, {}, lambda o, lr: o.sgd(lr, momentum=0.9, nesterov=True)),
    "adagrad": (ap.AdaGrad.like, {"library": "optax"}, lambda o, lr: o.adagrad(lr)),
    "rmsprop": (ap.RMSProp.like, {"library": "optax"}, lambda o, lr: o.rmsprop(lr)),
    "adadelta": (
        ap.AdaDelta,
        {"rho": 0.8, "eps": 1e-4},
        lambda o, lr: o.adadelta(lr, rho=0.8, eps=1e-4),
    ),
    "adam": (ap.Adam, {}, lambda o, lr: o.adam(lr)),
    "adamw": (ap.AdamW, {"weight_decay": 0.5}, lambda o, lr: o.adamw(lr, weight_decay=0.5)),
    "lion": (ap.Lion, {}, lambda o, lr: o.lion(lr)),
    "lion-options": (
        ap.Lion,
        {"beta1": 0.5, "beta2": 0.8, "weight_decay": 0.5},
        lambda o, lr: o.lion(lr, b1=0.5, b2=0.8, weight_decay=0.5),
    ),
    "value": (ap.SGD, {"clip_value": 2.0}, lambda o, lr: o.chain(o.clip(2.0), o.sgd(lr))),
    "global-norm": (
        ap.SGD,
        {"clip_global_norm": 2.0},
        lambda o, lr: o.chain(o.clip_by_global_norm(2.0), o.sgd(lr)),
    ),
}


@pytest.mark.needs("jax")
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "schedule"])
@pytest.mark.parametrize(("make", "options", "theirs"), OPTAX.values(), ids=OPTAX)
def test_optax(make, options, theirs, scheduled):
    lr = Exponential(1e-3, factor=0.9) if scheduled else 1e-3
    assert_same_path(trajectory(make(lr=lr, **options)), optax_trajectory(lambda o: theirs(o, lr)))


# Keras


@pytest.fixture(scope="module")
def keras():
    chosen = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    default = keras.config.floatx()
    keras.config.set_floatx("float64")  # the dtype of its learning rates
    yield keras
    keras.config.set_floatx(default)
    if chosen is None:
        del os.environ["KERAS_BACKEND"]
    else:
        os.environ["KERAS_BACKEND"] = chosen


def keras_trajectory(keras, make, *, lr=None):
    params = [keras.Variable(p, dtype="float64") for p in START]
    opt = make(keras.optimizers)
    path = []
    for step, grads in enumerate(GRADIENTS):
        if lr is not None:
            opt.learning_rate = lr(step)
        opt.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in grads], params)
        path.append(np.concatenate([np.asarray(p.value).reshape(-1) for p in params]))
    return np.stack(path)


KERAS = {
    "rmsprop": (ap.RMSProp.like("keras"), lambda o: o.RMSprop()),
    "rmsprop-momentum": (
        ap.RMSProp.like("keras", momentum=0.8),
        lambda o: o.RMSprop(momentum=0.8),
    ),
    "rmsprop-centered": (
        ap.RMSProp.like("keras", centered=True),
        lambda o: o.RMSprop(centered=True),
    ),
    "rmsprop-all": (
        ap.RMSProp.like("keras", 0.01, rho=0.8, eps=1e-4, momentum=0.8, centered=True),
        lambda o: o.RMSprop(0.01, rho=0.8, epsilon=1e-4, momentum=0.8, centered=True),
    ),
    "adagrad": (ap.AdaGrad.like("keras"), lambda o: o.Adagrad()),
    "adagrad-options": (
        ap.AdaGrad.like("keras", 0.1, eps=1e-4, initial_accumulator=0.5),
        lambda o: o.Adagrad(0.1, epsilon=1e-4, initial_accumulator_value=0.5),
    ),
    "rmsprop-decay": (
        ap.RMSProp.like("keras", weight_decay=0.1, momentum=0.8, clip_norm=2.0),
        lambda o: o.RMSprop(weight_decay=0.1, momentum=0.8, clipnorm=2.0),
    ),
    "adagrad-decay": (
        ap.AdaGrad.like("keras", 0.1, weight_decay=0.1, clip_global_norm=2.0),
        lambda o: o.Adagrad(0.1, weight_decay=0.1, global_clipnorm=2.0),
    ),
    "adadelta": (
        ap.AdaDelta(lr=1e-3, rho=0.95, eps=1e-7),
        lambda o: o.Adadelta(),
    ),
    "momentum": (
        ap.Momentum(lr=1e-3, lr_in_velocity=True),
        lambda o: o.SGD(1e-3, momentum=0.9),
    ),
    "nesterov": (
        ap.Nesterov(lr=1e-3, momentum=0.8, lr_in_velocity=True),
        lambda o: o.SGD(1e-3, momentum=0.8, nesterov=True),
    ),
    "adam": (ap.Adam(eps=1e-7, eps_before_correction=True), lambda o: o.Adam()),
    "adam-options": (
        ap.Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-2, eps_before_correction=True),
        lambda o: o.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-2),
    ),
    "adamw": (
        ap.AdamW(lr=0.01, weight_decay=0.1, eps=2.0, eps_before_correction=True),
        lambda o: o.AdamW(0.01, weight_decay=0.1, epsilon=2.0),
    ),
    "amsgrad": (
        ap.AMSGrad(beta2=0.9, eps=1e-2, eps_before_correction=True),
        lambda o: o.Adam(beta_2=0.9, epsilon=1e-2, amsgrad=True),
    ),
    "lion": (ap.Lion(lr=1e-3, weight_decay=0.0), lambda o: o.Lion()),
    "value": (ap.SGD(lr=1e-3, clip_value=2.0), lambda o: o.SGD(1e-3, clipvalue=2.0)),
    "norm": (ap.SGD(lr=1e-3, clip_norm=2.0), lambda o: o.SGD(1e-3, clipnorm=2.0)),
    "global-norm": (
        ap.SGD(lr=1e-3, clip_global_norm=2.0),
        lambda o: o.SGD(1e-3, global_clipnorm=2.0),
    ),
}


@pytest.mark.needs("jax")
@pytest.mark.parametrize(("ours", "theirs"), KERAS.values(), ids=KERAS)
def test_keras(keras, ours, theirs):
    assert_same_path(trajectory(ours), keras_trajectory(keras, theirs))


@pytest.mark.needs("jax")
@pytest.mark.parametrize(("ours", "theirs"), KERAS.values(), ids=KERAS)
def test_keras_with_a_schedule(keras, ours, theirs):
    schedule = Exponential(ours.lr, factor=0.9)
    path = trajectory(dataclasses.replace(ours, lr=schedule))
    assert_same_path(path, keras_trajectory(keras, theirs, lr=schedule))


def test_every_optimizer_has_an_oracle():
    compared = {type(ours) for ours, _ in (*TORCH.values(), *KERAS.values())}
    for name, optimizer in OPTIMIZERS.items():
        page = (DERIVATIONS / f"{name}.md").read_text(encoding="utf-8")
        assert optimizer in compared or "optax_path(" in page, f"{name} is compared with nothing"


# What depends on the step alone


@pytest.mark.parametrize("momentum_decay", [0.0, 4e-3, 1.0, 1e6])
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.999])
def test_the_closed_product_of_nadam_equals_the_running_product(momentum_decay, beta1):
    opt = ap.NAdam(beta1=beta1, momentum_decay=momentum_decay)
    product = 1.0
    for t in range(1, 2001):
        product *= opt._mu(t)
        assert opt._product(t) == pytest.approx(product, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_scalars_stay_finite_for_a_million_steps(make):
    opt = make()
    late = [opt.scalars(t, 0.1) for t in (10**5, 10**5 + 1, 10**6)]
    for scalars in late:
        assert all(np.isfinite(value) and type(value) is float for value in scalars.values())
    assert late[0] == pytest.approx(late[1], rel=1e-3)
