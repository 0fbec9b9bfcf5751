"""Write a trained network for other programs.

ONNX models run in ONNX Runtime and wherever else ONNX is read. --torch writes a state dictionary:

    module.load_state_dict(safetensors.torch.load_file(FILE))
"""

from __future__ import annotations

import argparse

from anyprop.cli._files import check_apart
from anyprop.cli._model import add_model, load_network, model_file
from anyprop.cli._parser import Parser, WrongCallError, option, require_extras, wrong_calls
from anyprop.interchange.torch import save_torch
from anyprop.onnx import export_onnx


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    add_model(parser)
    option(parser, "--onnx", "FILE", str, None, "write an ONNX model, input x and output y")
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="make the ONNX model return probabilities instead of logits",
    )
    option(
        *(parser, "--torch", "FILE", str, None),
        "write a state dictionary of PyTorch, a safetensors file",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files."""
    with wrong_calls():
        if args.onnx is None and args.torch is None:
            raise WrongCallError("name an output: --onnx FILE, --torch FILE, or both")
        if args.softmax and args.onnx is None:
            raise WrongCallError("--softmax goes with --onnx; leave it out")
        files = [name for name in (args.onnx, args.torch) if name is not None]
        model = model_file(args.model)
        for i, name in enumerate(files):
            check_apart(name, [model], "reads")
            check_apart(name, files[:i], "writes already")
        if args.onnx is not None:
            require_extras("onnx", extra="onnx")
        net, found = load_network(model)
        if args.onnx is not None:
            # A model saved in float64 should also run where only float32 does, which is common.
            try:
                export_onnx(net, found.params, args.onnx, softmax=args.softmax, dtype="float32")
            except OverflowError:  # which advises another dtype
                raise WrongCallError(
                    f"{model} holds numbers that do not fit in float32, which --onnx writes; write the "
                    "model in Python by anyprop.export_onnx(net, params, path)"
                ) from None
            print(f"wrote {args.onnx}")
        if args.torch is not None:
            save_torch(args.torch, net, found.params)
            print(f"wrote {args.torch}")
    return 0
