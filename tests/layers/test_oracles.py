"""Layers and networks against torch.nn and jax.nn, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.testing.place import Place
from oracles import MaskedDropout, flat_masks, jax_activation, torch_gradients, torch_module

NUMPY = Place("numpy")
every_layer = pytest.mark.parametrize("case", LAYER_CASES, ids=str)
EXTREME = np.asarray(
    [[0.0, -0.0, 1e-9, -1e-9], [1e4, -1e4, 30.0, -30.0], [700.0, -700.0, 1.0, -1.0], [1e4] * 4]
)


def _named(grads) -> dict:
    return grads.named() if hasattr(grads, "named") else grads


def _close(ours, theirs) -> None:
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-10, atol=1e-12)


def _inputs(case: LayerCase, rng: np.random.Generator) -> list[np.ndarray]:
    inputs = [case.x(rng)]
    if not case.layer.specs():
        inputs.append(EXTREME)
    return inputs


@pytest.mark.needs("torch")
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@every_layer
def test_forward_and_backward_are_those_of_torch(case, training, rng):
    import torch

    params = case.params(NUMPY)
    for x in _inputs(case, rng):
        noise = case.layer.noise(rng, x.shape)
        MaskedDropout.masks = flat_masks(noise)
        module = torch_module(case.layer, params.named()).train(training)
        if training:
            y, residuals = case.layer.forward_train(params, x, noise_beside(params, noise))
        else:
            y, residuals = case.layer.forward(params, x)
        dy = rng.standard_normal(y.shape)
        dx, grads = case.layer.backward(params, residuals, dy)

        their_x = torch.tensor(x, requires_grad=True)
        their_y = module(their_x)
        their_y.backward(torch.tensor(dy))
        _close(y, their_y.detach())
        _close(dx, their_x.grad)
        theirs = torch_gradients(module, params.named())
        for g, expected in zip(_named(grads).values(), theirs, strict=True):
            _close(g, expected)


@pytest.mark.needs("torch")
@every_layer
def test_running_statistics_are_those_of_torch_over_several_steps(case, rng):
    """Gradient steps in between, so that the statistics belong to changing weights."""
    import torch

    params = case.params(NUMPY)
    module = torch_module(case.layer, params.named()).train()
    compute = ap.value_and_grad(case.layer, ap.MeanSquaredError(), running=True)
    opt = ap.SGD(lr=0.05)
    state = opt.init(params)
    theirs_opt = torch.optim.SGD(module.parameters(), lr=0.05) if params.size else None
    for n in (5, 2, 9, 5):
        x = case.x(rng, n)
        t = rng.standard_normal(case.layer.output_shape(x.shape))
        noise = case.layer.noise(rng, x.shape)
        MaskedDropout.masks = flat_masks(noise)
        value, grads, running = compute(params, x, t, noise=noise_beside(params, noise))
        params, state = opt.update(params, grads, state)
        params = params.replace(running=running)

        module.zero_grad()
        their_value = torch.nn.functional.mse_loss(module(torch.tensor(x)), torch.tensor(t))
        _close(value, their_value.detach())
        if theirs_opt is not None:
            their_value.backward()
            theirs_opt.step()
    x = case.x(rng)
    _close(case.layer.forward(params, x)[0], module.eval()(torch.tensor(x)).detach())
    running = [b for b in module.buffers() if b.ndim]
    ours = [a for n, a in params.named().items() if n.endswith(("mean", "var"))]
    for a, b in zip(ours, running, strict=True):
        _close(a, b)


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    "case", [c for c in LAYER_CASES if type(c.layer).__name__ not in
             ("Affine", "BatchNorm", "LayerNorm", "Dropout", "Residual", "Sequential")], ids=str
)  # fmt: skip
def test_activations_are_those_of_jax(case, rng):
    import jax

    function = jax_activation(case.layer)
    # at x = 0 itself jax takes another of the possible derivatives of LeakyReLU
    for x in (case.x(rng), EXTREME[1:]):
        y, residuals = case.layer.forward(None, x)
        dy = rng.standard_normal(y.shape)
        their_y, pull_back = jax.vjp(function, jax.numpy.asarray(x))
        _close(y, their_y)
        _close(case.layer.backward(None, residuals, dy)[0], pull_back(jax.numpy.asarray(dy))[0])


@pytest.mark.needs("jax")
@every_layer
def test_backward_is_the_transposed_derivative_that_jax_finds_of_forward(case, rng):
    """jax differentiates our own forward pass; that needs no second implementation of it."""
    import jax

    backend = Place("jax")
    params, x = case.params(backend), backend.asarray(case.x(rng))
    noise = noise_beside(params, case.layer.noise(rng, tuple(x.shape)))
    y, residuals = case.layer.forward_train(params, x, noise)
    dy = backend.asarray(rng.standard_normal(tuple(y.shape)))
    dx, grads = case.layer.backward(params, residuals, dy)

    def function(flat, x):
        return case.layer.forward_train(params.replace(flat=flat), x, noise)[0]

    d_flat, their_dx = jax.vjp(function, params.flat, x)[1](dy)
    _close(dx, their_dx)
    ours = [np.ravel(g) for g in _named(grads).values()]
    _close(np.concatenate([*ours, np.zeros(0)]), d_flat)
