"""The command `anyprop`: one file for each subcommand; files with an underscore hold what they share.

A subcommand is a module whose docstring is its help, with `add_options(parser)` and `run(args)`, which
returns the exit code: 0, 1 if training failed, 2 for a wrong call, 130 for Ctrl-C, 143
for SIGTERM.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from anyprop.cli._printing import safe_printing
from anyprop.cli._termination import EXIT_CODE, Terminated

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after `anyprop`; the process's own by default.

    Returns
    -------
    int
        Exit code: 0, 1 if a run failed, 2 for a wrong call, 130 if Ctrl-C ended it, 143 if SIGTERM did.

    Examples
    --------
    >>> main(["train", "--steps", "0"])
    2
    """
    with safe_printing() as out:
        try:
            # Here, as loading the commands takes a while, in which Ctrl-C may come too.
            commands = importlib.import_module("anyprop.cli._main")
            return int(commands.run(sys.argv[1:] if argv is None else list(argv), out))
        except KeyboardInterrupt as error:
            print("anyprop: interrupted.", file=sys.stderr)
            return EXIT_CODE if isinstance(error, Terminated) else 130
