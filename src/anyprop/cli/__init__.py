"""The command `anyprop`: one file for each subcommand; files with an underscore hold what they share.

A subcommand is a module whose docstring is its help, with `add_options(parser)` and `run(args)`, which
returns the exit code: 0, 1 if training failed, 2 for a wrong call, 130 for Ctrl-C, 143
for SIGTERM.
"""

from anyprop.cli._main import main

__all__ = ["main"]
