"""The same layers, losses and networks written in other libraries, as functions and modules.

Nothing here is derived from this library: torch's are the modules of `torch.nn`, jax's the functions of
`jax.nn`, and their gradients come from autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import anyprop as ap


def torch_module(layer: Any, params: dict[str, np.ndarray]) -> Any:
    """Build the `torch.nn` module of a layer in float64 and copy its parameters there."""
    import torch
    from torch import nn

    def filled(module: Any, **arrays: str) -> Any:
        for attribute, name in arrays.items():
            if name in params:
                value = torch.tensor(params[name].T if name == "W" else params[name])
                getattr(module, attribute).data = value
        return module

    def child(i: int, block: Any) -> Any:
        prefix = f"{i}."
        own = {n.removeprefix(prefix): a for n, a in params.items() if n.startswith(prefix)}
        return torch_module(block, own)

    class Skip(nn.Module):
        def __init__(self, block: Any) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Any) -> Any:
            return x + self.block(x)

    norms = {"weight": "gamma", "bias": "beta"}
    match layer:
        case ap.Affine():
            module = nn.Linear(layer.d, layer.m, bias=layer.bias, dtype=torch.float64)
            return filled(module, weight="W", bias="b")
        case ap.BatchNorm():
            module = nn.BatchNorm1d(
                layer.d, eps=layer.eps, momentum=layer.momentum, dtype=torch.float64
            )
            return filled(module, **norms, running_mean="mean", running_var="var")
        case ap.LayerNorm():
            return filled(nn.LayerNorm(layer.d, eps=layer.eps, dtype=torch.float64), **norms)
        case ap.Sequential():
            return nn.Sequential(*(child(i, block) for i, block in enumerate(layer.layers)))
        case ap.Residual():
            return Skip(torch_module(layer.block, params))
        case ap.LeakyReLU():
            return nn.LeakyReLU(layer.slope)
        case ap.ELU():
            return nn.ELU(layer.alpha)
        case ap.Rescale():
            return scaling(layer.scale, layer.shift)
        case ap.Dropout():
            return MaskedDropout.module(layer.rate)
    return {
        ap.ReLU: nn.ReLU,
        ap.GELU: lambda: nn.GELU(approximate="tanh"),
        ap.SiLU: nn.SiLU,
        ap.Sigmoid: nn.Sigmoid,
        ap.Tanh: nn.Tanh,
        ap.Softplus: nn.Softplus,
        ap.Softmax: lambda: nn.Softmax(dim=-1),
        ap.Identity: nn.Identity,
    }[type(layer)]()


def scaling(scale: Any, shift: Any) -> Any:
    """Return a module of torch that scales and shifts by constants."""
    import torch

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            factor, added = (torch.tensor(number, dtype=x.dtype) for number in (scale, shift))
            return torch.addcmul(added, factor, x)

    return Module()


class MaskedDropout:
    """torch's dropout draws its own mask; this one takes ours, in the order of the layers."""

    masks: list[np.ndarray]

    @staticmethod
    def module(rate: float) -> Any:
        import torch

        class Module(torch.nn.Module):
            def forward(self, x: Any) -> Any:
                if not self.training:
                    return x
                return x * torch.tensor(MaskedDropout.masks.pop(0)) / (1 - rate)

        return Module()


def flat_masks(noise: Any) -> list[np.ndarray]:
    """List the masks that a network's `noise` holds, in the order of its layers."""
    if noise is None:
        return []
    if isinstance(noise, tuple):
        return [mask for part in noise for mask in flat_masks(part)]
    return [noise]


def torch_gradients(module: Any, params: dict[str, np.ndarray]) -> list[np.ndarray]:
    """List the gradients of a module's parameters in the order and shapes of `params`."""
    grads = [p.grad.numpy() for p in module.parameters()]
    names = [n for n in params if not n.endswith(("mean", "var"))]
    return [g.T if n.endswith("W") else g for n, g in zip(names, grads, strict=True)]


def jax_activation(layer: Any) -> Callable[[Any], Any] | None:
    """Return the function of `jax.nn` for an activation; None for other layers."""
    import jax

    match layer:
        case ap.LeakyReLU():
            return lambda x: jax.nn.leaky_relu(x, layer.slope)
        case ap.ELU():
            return lambda x: jax.nn.elu(x, layer.alpha)
        case ap.Rescale():
            coefficients = [jax.numpy.asarray(layer.scale), jax.numpy.asarray(layer.shift)]
            return lambda x: jax.numpy.polyval(
                jax.numpy.stack(jax.numpy.broadcast_arrays(*coefficients)), x
            )
        case ap.GELU():
            return lambda x: jax.nn.gelu(x, approximate=True)
    functions = {
        ap.ReLU: jax.nn.relu,
        ap.SiLU: jax.nn.silu,
        ap.Sigmoid: jax.nn.sigmoid,
        ap.Tanh: jax.numpy.tanh,
        ap.Softplus: jax.nn.softplus,
        ap.Softmax: jax.nn.softmax,
        ap.Identity: jax.nn.identity,
    }
    return functions.get(type(layer))
