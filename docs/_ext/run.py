"""Code that runs while the site is built: `{run}` blocks and `{value}` roles.

    ```{run}
    :alt: what the figure shows, for those who cannot see it

    print(1 + 1)
    ```

A page has one namespace, and its blocks run in it from top to bottom. A block shows its code
(`:hide-code:` leaves it out), then what it printed (`:markdown:` takes that as part of the page, so that
a block can write a table), then its figures: pyplot's, and a `Figure` that is its last expression.
The role `{value}` puts the value of an expression into a sentence; `math` and `np` are available.
An error fails the build.

Figures are drawn as SVG inside the page, without a background, and take black and white from the page's
text and ground, so that one drawing is legible on a light page and on a dark one.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import html
import io
import math
import re
import traceback
import warnings
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

# Okabe and Ito's colours, without black and yellow: each is legible on white and on near-black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
WIDEST = 7.2  # inches, of a page's text
STYLE = {
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.color": "black",
    "grid.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.figsize": (7.0, 3.6),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "font.size": 10.5,
}


class Run(SphinxDirective):
    """Run a block of Python and show its output."""

    has_content = True
    option_spec: ClassVar = {
        "hide-code": directives.flag,
        "markdown": directives.flag,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        where = f"{self.env.docname}, the block at line {self.lineno}"
        result: list[nodes.Node] = []
        if "hide-code" not in self.options:
            code = nodes.literal_block(source, source, language="python")
            self.set_source_info(code)
            result.append(code)
        try:
            printed, figures = execute(source, namespace_of(self.env), where)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            at = [frame.lineno or 1 for frame in frames if frame.filename == where]
            line = f", in: {self.content[at[-1] - 1].strip()}" if at else ""
            raise self.error(f"{type(error).__name__}: {error}{line}") from error
        if printed and "markdown" in self.options:
            result += self.parse_text_to_nodes(printed)
        elif printed:
            result.append(
                nodes.literal_block(printed, printed, language="none", classes=["run-output"])
            )
        if figures and "alt" not in self.options:
            raise self.error("a block that draws needs :alt:, the figure described in words.")
        for figure in figures:
            svg = inline_svg(figure, self.options["alt"], salt=f"{where} {len(result)}")
            result.append(nodes.raw("", f'<div class="run-figure">{svg}</div>', format="html"))
        return result


class Value(SphinxRole):
    """Evaluate an expression in the page's namespace."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            value = str(eval(self.text, namespace_of(self.env)))
            self.env.temp_data.setdefault("run_values", []).append((self.text, value))
            return [nodes.Text(value)], []
        except Exception as error:
            message = f"{{value}} of {self.text}: {type(error).__name__}: {error}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]


def namespace_of(env: Any) -> dict[str, Any]:
    """Return the names of the page that is being read."""
    first = {"__name__": "__docs__", "math": math, "np": np}
    kept: dict[str, Any] = env.temp_data.setdefault("run_namespace", first)
    return kept


def execute(source: str, names: dict[str, Any], where: str) -> tuple[str, list[Figure]]:
    """Run `source` in `names`; return what it printed and drew."""
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    figures: list[Figure] = []
    with mpl.rc_context(STYLE), contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(tree, where, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if isinstance(value, Figure):
                figures.append(value)
            elif value is not None:
                print(repr(value))
        figures += [plt.figure(n) for n in plt.get_fignums() if plt.figure(n) not in figures]
    plt.close("all")
    return printed.getvalue().rstrip(), figures


def inline_svg(figure: Figure, alt: str, salt: str) -> str:
    """Draw a figure as SVG that takes its colour and font from the page."""
    buffer = io.StringIO()
    short = hashlib.sha256(salt.encode()).hexdigest()[:12]
    width, height = figure.get_size_inches()
    # Laid out again, so that its text keeps its size.
    figure.set_size_inches(min(width, WIDEST), height)
    with mpl.rc_context(STYLE | {"svg.hashsalt": short}):
        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#000000\b|#000\b|(?<=fill: )black|(?<=stroke: )black", "currentColor", svg)
    svg = re.sub(r"#ffffff\b|#fff\b|(?<=fill: )white", "var(--pst-color-background)", svg)
    svg = re.sub(
        r' id="(figure|axes|patch|line2d|text|matplotlib|legend|xtick|ytick)[^"]*"', "", svg
    )
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    opening = (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width} {height}" '
        f'width="{float(width) * 4 / 3:.0f}" fill="currentColor" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", opening, svg, count=1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the role."""
    mpl.use("agg")
    app.add_directive("run", Run)
    app.add_role("value", Value())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
