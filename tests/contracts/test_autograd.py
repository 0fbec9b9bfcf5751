"""PyTorch's autograd may be on: nothing is recorded, and no result requires gradients."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest

import anyprop as ap
from anyprop import _tree
from anyprop.parameters import Parameters
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES, K
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES
from anyprop.testing.place import Place

pytestmark = pytest.mark.needs("torch")
modes = pytest.mark.parametrize("mode", ["enable_grad", "no_grad", "inference_mode"])


@functools.cache
def place():
    """Where the tensors are; made by the tests, since the file is read where PyTorch is missing, too."""
    return Place("torch")


def tensors(results):
    """List all tensors in nested results."""
    if isinstance(results, Parameters):
        results = (results.flat, results.running)
    if isinstance(results, dict):
        results = tuple(results.values())
    if isinstance(results, (tuple, list)):
        return [tensor for result in results for tensor in tensors(result)]
    return [results] if hasattr(results, "requires_grad") else []


def leaf(values, dtype="float64"):
    return place().asarray(values, dtype).requires_grad_()


def in_mode(mode):
    import torch

    return contextlib.nullcontext() if mode == "enable_grad" else getattr(torch, mode)()


def assert_free(*results):
    found = tensors(results)
    assert found
    assert not any(tensor.requires_grad for tensor in found)


@modes
@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_layers(case, mode, rng):
    params = case.params(place(), "float64")
    params.flat.requires_grad_()
    x = leaf(rng.standard_normal((5, case.d)))
    with in_mode(mode):
        noise = ap.network.noise_beside(params, case.layer.noise(rng, (5, case.d)))
        assert_free(case.layer.forward(params, x)[0])
        y, residuals = case.layer.forward_train(params, x, noise)
        dx, grads = case.layer.backward(params, residuals, leaf(np.ones(tuple(y.shape))))
        assert_free(y, dx)
        assert not any(tensor.requires_grad and tensor.numel() for tensor in tensors(grads))
        running = case.layer.updated_running(params, residuals)
        assert not any(tensor.requires_grad for tensor in tensors(running))
    assert x.grad is None
    assert params.flat.grad is None


@modes
@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_losses(case, mode, rng):
    y, weights = leaf(rng.standard_normal((5, K))), leaf(np.ones(5))
    t = place().asarray(case.t(rng, 5, K))
    with in_mode(mode):
        value, residuals = case.loss.forward(y, t, sample_weight=weights)
        assert_free(value, case.loss.backward(residuals))
        assert_free(case.loss.total_weight(t, weights, dtype=y.dtype))
    assert y.grad is weights.grad is None


@modes
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)
def test_optimizers(opt, donate, mode):
    params = {"W": leaf(np.ones((2, 3))), "b": leaf(np.ones(3))}
    grads = {"W": leaf(np.ones((2, 3))), "b": leaf(np.ones(3))}
    with in_mode(mode):
        updated, state = opt.update(params, grads, opt.init(params), donate=donate)
    assert_free(updated)
    assert len(state.slots) == len([kept for kept in opt.slots().values() if kept is not None])
    for array in _tree.leaves(updated):
        assert array.is_leaf
    assert not any(tensor.requires_grad for tensor in tensors(state.slots))
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in params.values())


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_transforms_of_functions_see_through_layers(case, rng):
    import torch

    params, x = case.params(place()), place().asarray(rng.standard_normal((5, case.d)))
    noise = ap.network.noise_beside(params, case.layer.noise(rng, (5, case.d)))
    y, residuals = case.layer.forward_train(params, x, noise)
    dy = place().asarray(rng.standard_normal(tuple(y.shape)))
    dx, grads = case.layer.backward(params, residuals, dy)

    def forward(flat, x):
        return case.layer.forward_train(params.replace(flat=flat), x, noise)[0]

    by_torch = torch.func.vjp(forward, params.flat, x)[1](dy)
    torch.testing.assert_close(by_torch[1], dx)
    named = params.replace(flat=by_torch[0]).named()
    grads = grads.named() if isinstance(grads, Parameters) else grads
    for name, spec in case.layer.specs().items():
        if spec.trainable:
            torch.testing.assert_close(named[name], grads[name])


@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_transforms_of_functions_see_through_losses(case, rng):
    import torch

    y, t = place().asarray(rng.standard_normal((5, K))), place().asarray(case.t(rng, 5, K))
    by_torch = torch.func.grad(lambda y: case.loss.forward(y, t)[0])(y)
    torch.testing.assert_close(by_torch, case.loss.backward(case.loss.forward(y, t)[1]))


def test_a_hessian(rng):
    import torch

    net, loss = ap.MLP([3, 4, 2], activation="tanh"), ap.SoftmaxCrossEntropy()
    params = net.init(seed=8, xp="torch", dtype="float64")
    x, t = place().asarray(rng.standard_normal((6, 3))), place().asarray(np.asarray([0, 1] * 3))

    def gradient(flat):
        return ap.value_and_grad(net, loss)(params.replace(flat=flat), x, t)[1].flat

    step = 1e-6 * torch.eye(params.flat.shape[0], dtype=torch.float64)
    rows = [(gradient(params.flat + d) - gradient(params.flat - d)) / 2e-6 for d in step]
    hessian = torch.func.jacrev(gradient)(params.flat)
    torch.testing.assert_close(hessian, torch.stack(rows), rtol=0.0, atol=1e-8)


def test_a_training_step_evaluation_and_predictions(rng):
    net, loss, opt = ap.MLP([3, 4, 2], norm="batch"), ap.SoftmaxCrossEntropy(), ap.RMSProp()
    params = net.init(seed=8, xp="torch", dtype="float64")
    params.flat.requires_grad_()
    x, t = leaf(rng.standard_normal((6, 3))), place().asarray(np.asarray([0, 1] * 3))
    compute = ap.value_and_grad(net, loss, running=True)
    assert_free(*compute(params, x, t), ap.predict(net, params, x, batch_size=4))
    assert np.isfinite(ap.evaluate(net, params, (x, t), loss=loss).loss)
    for step in (
        ap.make_step(net, loss, opt),
        ap.make_step(net, loss, opt, accumulate=2, donate=True),
    ):
        new, state, value = step(params, opt.init(params), x, t)
        assert_free(new, value, state.slots)
    assert x.grad is params.flat.grad is None


def test_a_step_turns_recording_off_once_at_its_outermost_door(rng, monkeypatch):
    """What is called inside does not do it again, and a layer of its own is a door as well."""
    import torch

    net, loss, opt = ap.MLP([3, 4, 2], norm="batch"), ap.SoftmaxCrossEntropy(), ap.RMSProp()
    params = net.init(seed=8, xp="torch", dtype="float64")
    x, t = place().asarray(rng.standard_normal((6, 3))), place().asarray(np.asarray([0, 1] * 3))
    entered, no_grad = [], torch.no_grad
    monkeypatch.setattr(torch, "no_grad", lambda: entered.append(0) or no_grad())
    for door, takes in (
        (ap.make_step(net, loss, opt), (params, opt.init(params), x, t)),
        (ap.value_and_grad(net, loss, running=True), (params, x, t)),
        (net.forward_train, (params, x, None)),
    ):
        entered.clear()
        door(*takes)
        assert len(entered) == 1
    with pytest.raises(ValueError, match="one row per example"):
        net.forward(params, x[:, :2])
    entered.clear()
    net.forward(params, x)
    assert len(entered) == 1
