"""From the user's options to arrays, a network and an optimizer."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from typing import Any, NamedTuple

from anyprop._checks import positive
from anyprop._typing import Device, Namespace
from anyprop.backend import device_of, dtype_name, get_device, get_namespace, name_of
from anyprop.cli._data import Data, load_data
from anyprop.cli._parser import WrongCallError, version
from anyprop.layers.rescale import Rescale
from anyprop.layers.sequential import Sequential
from anyprop.network import MLP
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.registry import get_optimizer
from anyprop.parameters import Parameters
from anyprop.schedules.constant import Constant
from anyprop.schedules.registry import schedule_by_name
from anyprop.sources import Source
from anyprop.training.batches import batches_of

# For optimizers whose own default suits other problems than this one.
_LR = {"sgd": 0.1, "momentum": 0.1, "nesterov": 0.1}


class Task(NamedTuple):
    """What is trained, on which data and where."""

    xp: Namespace
    device: Device
    data: Data
    net: Sequential

    def shape(self) -> str:
        """Describe the network by its widths."""
        shapes = [spec.shape for spec in self.net.specs().values()]
        sizes = [self.data.width, *(shape[1] for shape in shapes if len(shape) == 2)]
        return f"{'-'.join(map(str, sizes))} network"

    def describe(self, params: Parameters) -> str:
        """Describe it in one line."""
        p = params.flat
        return f"{self.shape()}, {dtype_name(p)} on {name_of(self.xp)} ({device_of(p)})"


def make_task(args: argparse.Namespace) -> Task:
    """Load the data and build the network that fits them."""
    xp, device = get_place(args)
    data = load_data(args.data, xp, device, args.dtype)
    net: Sequential = MLP(
        [data.width, *args.hidden, data.classes],
        args.activation,
        norm=args.norm,
        dropout=args.dropout,
        residual=args.residual,
    )
    if args.standardize:
        x = data.train if isinstance(data.train, Source) else data.train[0]
        net = Sequential(Rescale.standardizing(x), *net.layers)
    return Task(xp, device, data, net)


def get_place(args: argparse.Namespace) -> tuple[Namespace, Device]:
    """Return the namespace and the device that `--backend` and `--device` name."""
    xp = get_namespace(args.backend)
    if args.backend == "jax":
        # JAX would otherwise refuse float64; float32 arrays stay float32.
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return xp, get_device(xp, args.device)


def default_lr(name: str) -> float:
    """Return a learning rate for the optimizer of a name."""
    kind = get_optimizer(name)
    return float(_LR.get(name, kind.lr))


def make_optimizer(
    args: argparse.Namespace, name: str, lr: float, steps: int, **options: Any
) -> Optimizer:
    """Return the optimizer of a name; an option of None keeps its default."""
    kind = get_optimizer(name)
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in {field.name for field in dataclasses.fields(kind)}:
            raise WrongCallError(f"{name} does not take --{option}; leave it out")
    schedule = schedule_by_name(args.schedule, positive(name, "lr", lr), steps)
    return kind(
        lr=lr if isinstance(schedule, Constant) else schedule,  # Rprop takes no schedule
        weight_decay=args.weight_decay,
        decay_biases=False,
        clip_global_norm=args.clip_norm,
        **given,
    )


def total_steps(args: argparse.Namespace, examples: int) -> int:
    """Return the number of updates that `--steps` or `--epochs` ask for."""
    if args.epochs is None:
        return int(args.steps)
    return int(args.epochs) * batches_of(examples, args.batch_size)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the user chose and the defaults of the rest, as JSON holds it."""
    checkpoints = ("checkpoint_every", "resume", "or_start", "allow_changes")
    left_out = ("out", "no_progress", "distributed", *checkpoints)
    chosen = {name: value for name, value in vars(args).items() if name not in left_out}
    return {"anyprop": version(), **chosen}
