"""Run anyprop's contract on an array library, and compare it with NumPy.

NAMESPACE is a backend's name or any module that follows the Array API standard, such as dask.array or
marray.numpy; anyprop need not know it. Every layer, loss and optimizer is run, networks are trained,
and each call that they make is judged on its own. What fails is shown with the smallest program in
plain Array API calls that fails.

    anyprop check torch --device cuda --json torch.json
    anyprop check my_library --only 'layers/*'

It computes in a process of its own: a library that ends the process ends one check; the others go
on. Ctrl-C shows what was found until then.

It ends with exit code 0 if all passed, 1 if something failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from anyprop._text import tell
from anyprop.cli._files import check_writable, write_text
from anyprop.cli._parser import Parser, option, wrong_calls
from anyprop.testing.apart import Apart
from anyprop.testing.check_backend import choose, report_on


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "namespace",
        nargs="?",
        default="numpy",
        metavar="NAMESPACE",
        help="a backend, or any module, such as dask.array (default: numpy)",
    )
    option(parser, "--device", "NAME", str, None, "one of its devices (default: the library's own)")
    parser.add_argument(
        "--only",
        default="*",
        metavar="PATTERN",
        help="checks to run, such as 'optimizers/sgd*' (default: all)",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the checks that --only chooses, and run none"
    )
    option(parser, "--json", "FILE", Path, None, "also write everything that was found")
    parser.add_argument(
        "--no-speed", action="store_true", help="skip timing a training step, which takes seconds"
    )


def run(args: argparse.Namespace) -> int:
    """Check, print the table, write the file."""
    with wrong_calls():
        chosen = choose(args.only)
        if args.json is not None:
            check_writable(args.json)
    if args.list:
        print(*(check.id for check in chosen), sep="\n")
        return 0
    with wrong_calls():
        runner = Apart(args.namespace, args.device)
    with runner:
        report = report_on(runner, only=args.only, speed=not args.no_speed, tell=tell)
    tell("")
    print(report)
    if args.json is not None:
        write_text(args.json, json.dumps(report.to_dict(), indent=1) + "\n")
    if report.interrupted:
        print("anyprop: interrupted.", file=sys.stderr)
        return 130
    return 0 if report.passed else 1
