"""Show what is in a file, without trusting it.

The file is verified before anything of it is shown: its checksum, and that its arrays are those of its
network. Safetensors files of other programs can be shown too; they have no checksum.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anyprop._text import printable, table
from anyprop.checkpoint import Checkpoint, is_ours, load
from anyprop.checkpoint.tensors import Reader
from anyprop.cli._model import model_file
from anyprop.cli._parser import Parser, wrong_calls
from anyprop.layers.base import Layer
from anyprop.layers.sequential import Sequential

_WIDTH = 60


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "file", metavar="FILE", help="a safetensors file, or the folder of a run that has one"
    )


def run(args: argparse.Namespace) -> int:
    """Print what the file holds."""
    with wrong_calls():
        name = model_file(args.file)
        with Reader(name) as file:
            checksum, ours = file.checksum, is_ours(file)
            arrays = {name: (entry.dtype, entry.shape) for name, entry in file.arrays.items()}
        found = load(name) if ours else None
    if found is None:
        print("a safetensors file of another program, without a checksum\n")
        rows = [[name, str(dtype), _size(shape)] for name, (dtype, shape) in arrays.items()]
        print(printable(table(["array", "dtype", "shape"], rows)))
        return 0
    print(f"written by anyprop; SHA-256 {checksum}, verified\n")
    print(printable(_layers(found)))
    print()
    print(printable(table(["", ""], _facts(found), wrap={1: 80}).lstrip("\n")))
    return 0


def _layers(found: Checkpoint) -> str:
    """Return the network's layers as a table, or its arrays where there is no network."""
    entries = found.params.layout.entries
    if not isinstance(found.net, Sequential):
        what = "parameters" if found.net is None else repr(found.net)
        layers: dict[str, Layer | str] = {"": what}
    else:
        layers = {f"{i}.": layer for i, layer in enumerate(found.net.layers)}
    rows = []
    for prefix, layer in layers.items():
        own = [e for e in entries if e.name.startswith(prefix)]
        shapes = ", ".join(f"{e.name.removeprefix(prefix)} {_size(e.shape)}" for e in own)
        count = sum(math.prod(e.shape) for e in own)
        rows.append([prefix.rstrip("."), str(layer), f"{count:,}", shapes])
    return table(["", "layer", "numbers", "arrays"], rows, wrap={1: _WIDTH, 3: _WIDTH})


def _facts(found: Checkpoint) -> list[list[str]]:
    params, running = found.params, found.params.running
    statistics = 0 if running is None else running.size
    vectors = [params.flat] if running is None else [params.flat, running]
    facts = [["parameters", f"{params.size:,} to train and {statistics:,} running statistics"]]
    facts += [["dtype", str(params.flat.dtype)]]
    if found.optimizer is not None:
        facts.append(["optimizer", _settings(found.optimizer)])
    if found.state is not None:
        vectors += [slot.flat for slot in found.state.slots.values()]
        remembers = ", ".join(found.state.slots) or "nothing"
        facts.append(["state", f"{remembers}; learning rate times {found.state.lr_scale:g}"])
    if found.step is not None:
        facts.append(["step", f"{found.step:,}"])
    if found.history is not None and found.history.losses:
        losses = found.history.losses
        facts.append(
            ["history", f"{len(losses):,} losses, from {losses[0]:.4g} to {losses[-1]:.4g}"]
        )
        for record in found.history.epochs[-1:]:
            if record.validation_accuracy is not None:
                facts.append(["validation accuracy", f"{record.validation_accuracy:.4f}"])
    final = found.config.get("final")
    if isinstance(final, Mapping) and isinstance(final.get("test_accuracy"), float):
        facts.append(["test accuracy", f"{final['test_accuracy']:.4f}"])
    settings = found.config.get("settings", found.config)
    if settings:
        text = json.dumps(settings)
        facts.append(["config", text if len(text) < 2000 else f"{text[:2000]} ..."])
    bad = sum(int(np.sum(~np.isfinite(vector))) for vector in vectors)
    if bad:
        facts.append(["not finite", f"{bad:,} numbers"])
    return facts


def _settings(settings: Mapping[str, Any]) -> str:
    """Write settings as the call that makes them."""
    values = {key: value for key, value in settings.items() if key != "kind" and value is not None}
    inside = ", ".join(
        f"{key}={_settings(value) if isinstance(value, Mapping) else repr(value)}"
        for key, value in values.items()
    )
    return f"{settings.get('kind')}({inside})"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"
