"""Draw which module imports which, in the groups of tests/test_imports.py."""

from __future__ import annotations

from functools import cache

from matplotlib.figure import Figure

from tests.test_imports import MODULES, ORDER, RANK, ours

WHOLE = ("layers", "losses", "optimizers")
"""Packages that are drawn as one, whatever lines the order gives to their parts."""


def group(module: str) -> str:
    """Find the group that a module belongs to."""
    while module not in RANK:
        module = module.rpartition(".")[0]
    package = module.partition(".")[0]
    return package if package in WHOLE else module


NAMES = list(dict.fromkeys(group(name) for names in ORDER for name in names))


def imports() -> dict[str, set[str]]:
    """List the groups that each group imports."""
    found: dict[str, set[str]] = {name: set() for name in NAMES}
    for module in MODULES:
        if module not in ("", "__main__"):
            found[group(module)] |= {group(other) for other in ours(module) if other}
    return {name: others - {name} for name, others in found.items()}


def imports_within(package: str) -> dict[str, set[str]]:
    """List the modules of a package that each of its modules imports."""
    modules = [
        name.removeprefix(f"{package}.") for name in MODULES if name.startswith(f"{package}.")
    ]
    found = {name: ours(f"{package}.{name}") for name in modules}
    return {
        name: {other for other in modules if f"{package}.{other}" in others}
        for name, others in found.items()
    }


def drawing(package: str | None = None) -> Figure:
    """Draw a row for each level, and an arrow for each import that no other one implies.

    Parameters
    ----------
    package : str, optional
        Whose modules are drawn; the groups of the whole library by default.
    """
    uses = imports() if package is None else imports_within(package)

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset(uses[name]).union(*(below(other) for other in uses[name]))

    direct = {
        name: {o for o in others if not any(o in below(between) for between in others - {o})}
        for name, others in uses.items()
    }

    @cache
    def level(name: str) -> int:
        return max((level(other) + 1 for other in direct[name]), default=0)

    rows: dict[int, list[str]] = {}
    for name in uses:
        rows.setdefault(level(name), []).append(name)
    at: dict[str, tuple[float, float]] = {}
    for y, names in sorted(rows.items()):
        # Each is above what it imports, as far as there is room.
        wanted = {n: _mean([at[o][0] for o in direct[n]]) for n in names}
        names = sorted(names, key=lambda n: wanted[n])
        width = 1.0 / max(len(names), 3)
        for i, name in enumerate(names):
            even = (i + 0.5) / len(names)
            at[name] = (even if len(names) > 1 else min(max(wanted[name], width), 1 - width), y)

    figure = Figure(figsize=(7.2, 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#0072B2"}
    texts = {
        name: axes.text(x, y, name, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
        for name, (x, y) in at.items()
    }
    for name, others in direct.items():
        for other in others:
            arrow = {"arrowstyle": "-|>", "color": "#56B4E9", "linewidth": 1.0}
            ends = {"patchA": texts[name].get_bbox_patch(), "patchB": texts[other].get_bbox_patch()}
            axes.annotate("", at[other], at[name], arrowprops=arrow | ends, zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.5, len(rows) - 0.5))
    axes.set_axis_off()
    return figure


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.5
