"""Paths of optimizers under given gradients: ours, and those of PyTorch and Optax."""

import numpy as np

START = np.asarray([1.0, -2.0, 3.0, -4.0])


def gradients(steps=50, seed=8):
    """Draw gradients (steps, 4); the four parameters see sizes from 0.001 to 100."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, 4)) * [1e-3, 1e-1, 1.0, 100.0]


def path(opt, grads):
    """Follow an optimizer of anyprop; row t holds the parameters after step t + 1."""
    p, state, rows = START, opt.init(START), []
    for g in grads:
        p, state = opt.update(p, g, state)
        rows.append(p)
    return np.stack(rows)


def torch_path(make, grads):
    """Follow an optimizer of PyTorch, in float64."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    p = torch.nn.Parameter(torch.tensor(START))
    opt, rows = make([p]), []
    for g in grads:
        p.grad = torch.tensor(g)
        opt.step()
        rows.append(p.detach().numpy().copy())
    torch.set_default_dtype(default)
    return np.stack(rows)


def optax_path(opt, grads):
    """Follow an optimizer of Optax, in float64."""
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    p = jax.numpy.asarray(START)
    state, rows = opt.init(p), []
    for g in grads:
        updates, state = opt.update(jax.numpy.asarray(g), state, p)
        p = optax.apply_updates(p, updates)
        rows.append(np.asarray(p))
    return np.stack(rows)


def distance(a, b):
    """Largest difference of two paths, relative to the parameters there."""
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b))))
