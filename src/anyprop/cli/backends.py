"""Show which backends can be used here, and why the others cannot."""

from __future__ import annotations

import argparse

from anyprop._text import table
from anyprop.backend import available_backends
from anyprop.cli._parser import Parser

_DEVICES, _REASON = 20, 35  # widths that keep the table within 100 columns


def add_options(parser: Parser) -> None:
    """Add the command's options, of which there are none."""


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    rows = [
        [b.name, "yes" if b.available else "no", b.version, ", ".join(b.devices), b.reason]
        for b in available_backends()
    ]
    header = ["backend", "available", "version", "devices", "reason"]
    print(table(header, rows, wrap={3: _DEVICES, 4: _REASON}))
    return 0
