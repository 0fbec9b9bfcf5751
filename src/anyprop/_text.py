"""Plain text for a terminal: tables, and a curve in one line."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-~=+*#"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], wrap: Mapping[int, int] | None = None
) -> str:
    """Lay out rows under a header, each column as wide as its widest cell.

    The cells of a column in `wrap` are broken into lines of the width that stands there.

    Examples
    --------
    >>> print(table(["name", "lr"], [["sgd", "0.1"], ["rmsprop", "0.001"]]))
    name     lr
    sgd      0.1
    rmsprop  0.001
    """
    wrap = wrap or {}
    broken = [
        [textwrap.wrap(cell, wrap.get(i, sys.maxsize)) or [""] for i, cell in enumerate(row)]
        for row in (header, *rows)
    ]
    widths = [
        max(len(line) for cell in column for line in cell) for column in zip(*broken, strict=True)
    ]
    lines = []
    for row in broken:
        for cells in zip_longest(*row, fillvalue=""):
            line = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  ".join(line).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    r"""Replace whatever would not be printed as it is by escapes, except line breaks.

    Examples
    --------
    >>> print(printable("a name\x1b[2J"))
    a name\x1b[2J
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def curve(values: Sequence[float], width: int = 60, characters: str = _BLOCKS) -> str:
    """Draw positive numbers as one line of blocks, the smallest the first, on a logarithmic scale.

    Neighbours are averaged where there are more numbers than `width`.

    Examples
    --------
    >>> curve([8, 4, 2, 1], characters="_-=#")
    '#=-_'
    """
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    # A loss may reach exactly 0, whose logarithm would flatten all the others.
    logs = [math.log(max(mean, 1e-12)) for mean in means]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    top = len(characters) - 1
    return "".join(characters[round((value - low) / span * top)] for value in logs)


def block_characters(encoding: str | None) -> str:
    """Choose the characters of `curve` that an output of this encoding can show."""
    try:
        _BLOCKS.encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return _ASCII
    return _BLOCKS


def tell(line: str) -> None:
    """Show what happens in the last line of a terminal; nothing if stderr is not a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
