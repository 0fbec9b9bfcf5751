"""From the arguments of `anyprop` to a subcommand, and from its errors to exit codes."""

from __future__ import annotations

import shutil
import sys
import textwrap

from anyprop._checks import unknown
from anyprop.cli import backends, check, compare, export, inspect, predict, train
from anyprop.cli._parser import Parser, VersionAction, WrongCallError, os_error
from anyprop.cli._printing import Console

COMMANDS = {
    "train": train,
    "compare": compare,
    "predict": predict,
    "inspect": inspect,
    "export": export,
    "backends": backends,
    "check": check,
}

_SHOWS = ("inspect", "backends")  # what they print is all of their work


def run(argv: list[str], out: Console) -> int:
    """Run a command; return its exit code, 1 too if what it shows is lost."""
    code = _run(argv)
    lost = bool(argv) and argv[0] in _SHOWS and out.refused()
    return code or int(lost)


def _run(argv: list[str]) -> int:
    try:
        if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
            raise WrongCallError(unknown("command", argv[0], COMMANDS))
        parser = make_parser()
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help()
            return 0
        return int(COMMANDS[args.command].run(args))
    except WrongCallError as error:
        print(f"anyprop: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the disk is full, for example
        print(f"anyprop: {os_error(error)}.", file=sys.stderr)
        return 1


def make_parser() -> Parser:
    """Return the parser of all subcommands."""
    parser = Parser(
        prog="anyprop",
        description="Train multilayer perceptrons on any Array API backend.",
        epilog="`anyprop COMMAND --help` explains a command.",
    )
    parser.add_argument(
        "--version", action=VersionAction, nargs=0, help="show the version and exit"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        line, _, text = (command.__doc__ or "").partition("\n\n")
        subparser = subparsers.add_parser(
            name,
            help=line[0].lower() + line[1:].rstrip("."),
            description=_filled(line),
            epilog=_filled(text),
        )
        command.add_options(subparser)
    return parser


def _filled(text: str) -> str:
    """Fill the paragraphs of a text to the terminal's width, as argparse does its own; not examples."""
    width = shutil.get_terminal_size().columns - 2
    return "\n\n".join(
        part if part.startswith(" ") else textwrap.fill(" ".join(part.split()), width)
        for part in text.rstrip().split("\n\n")
    )
