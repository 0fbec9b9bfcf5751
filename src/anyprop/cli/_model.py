"""The trained network that a command is given: a file, or the folder of the run that wrote it."""

from __future__ import annotations

from pathlib import Path

from anyprop._typing import Device, Namespace
from anyprop.checkpoint import Checkpoint, load
from anyprop.cli._parser import Parser, WrongCallError
from anyprop.layers.base import Layer
from anyprop.training.resume import checkpoints_in

MODEL, CHECKPOINTS = "model.safetensors", "checkpoints"
"""What `anyprop train` writes into the folder of a run."""

DEFAULT = "runs/train"
"""Where `anyprop train` writes unless it is told otherwise."""


def add_model(parser: Parser) -> None:
    """Add the argument that names a network."""
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT,
        metavar="MODEL",
        help="the folder that `anyprop train --out` wrote, or a file of a network "
        f"(default: {DEFAULT})",
    )


def model_file(name: str) -> str:
    """Find the file of a network, where a folder is named that of its run."""
    folder = Path(name)
    if name == DEFAULT and not folder.exists():
        raise WrongCallError(f"there is no {DEFAULT}; run `anyprop train` first, or name a MODEL")
    if not folder.is_dir():
        return name
    if (folder / MODEL).exists():
        return str(folder / MODEL)
    found = checkpoints_in(folder / CHECKPOINTS) or checkpoints_in(folder)
    hint = f"take its newest checkpoint, {found[0][1]}" if found else "name another"
    raise WrongCallError(
        f"{folder} is a folder without {MODEL}, which `anyprop train` writes; {hint}"
    )


def load_network(name: str, **place: Namespace | Device) -> tuple[Layer, Checkpoint]:
    """Load a file that must hold a network with its parameters."""
    found = load(name, **place)
    if found.net is None:
        raise WrongCallError(f"{name} holds parameters without their network")
    return found.net, found
