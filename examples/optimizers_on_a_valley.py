"""Every optimizer on the book's valley
====================================

Every optimizer alone, on the book's valley f(a, b) = a^2 / 20 + b^2.

.. code-block:: sh

    python examples/optimizers_on_a_valley.py

No network is needed: an optimizer updates a dict of arrays. The valley is steep along b and flat along
a, so plain gradient descent bounces between its walls, momentum swings past, and the adaptive rules
walk down both axes at a pace of their own. Prints where each ends, and draws the paths
(optimizers_on_a_valley.png).
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import anyprop as ap

STEPS = 40
OPTIMIZERS = {
    "SGD": ap.SGD(lr=0.95),
    "Momentum": ap.Momentum(lr=0.1),
    "Nesterov": ap.Nesterov(lr=0.1),
    "AdaGrad": ap.AdaGrad(lr=1.5),
    "RMSProp": ap.RMSProp(lr=0.3, rho=0.9),
    "AdaDelta": ap.AdaDelta(eps=0.1),
    "Adam": ap.Adam(lr=0.3),
    "AMSGrad": ap.AMSGrad(lr=0.3),
    "AdamW": ap.AdamW(lr=0.3),
    "NAdam": ap.NAdam(lr=0.3),
    "RAdam": ap.RAdam(lr=0.5),
    "Adamax": ap.Adamax(lr=0.5),
    "Lion": ap.Lion(lr=0.2),
    "Rprop": ap.Rprop(lr=0.5),
}

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)


def path_of(opt):
    """Follow an optimizer from (-7, 2)."""
    point = {"a": np.asarray(-7.0), "b": np.asarray(2.0)}
    state, path = opt.init(point), [(-7.0, 2.0)]
    for _ in range(STEPS):
        gradient = {"a": point["a"] / 10.0, "b": 2.0 * point["b"]}
        point, state = opt.update(point, gradient, state)
        path.append((float(point["a"]), float(point["b"])))
    return np.asarray(path)


a, b = np.meshgrid(np.linspace(-8, 5, 200), np.linspace(-3, 3, 150))
figure = Figure(figsize=(11.0, 9.0), layout="constrained")
panels = figure.subplots(5, 3, sharex=True, sharey=True).ravel()
for axes, (name, opt) in zip(panels, OPTIMIZERS.items(), strict=False):
    path = path_of(opt)
    height = path[-1, 0] ** 2 / 20 + path[-1, 1] ** 2
    print(
        f"{name:<9} lr {opt.lr:<4}  ends at ({path[-1, 0]:6.3f}, {path[-1, 1]:6.3f}), f = {height:.1e}"
    )
    levels = np.asarray([0.05, 0.2, 0.5, 1, 2, 4, 7])
    axes.contour(a, b, a**2 / 20 + b**2, levels=levels, colors="0.8", linewidths=0.8)
    axes.plot(*path.T, "o-", color="#0072b2", markersize=2.5, linewidth=1.2)
    axes.plot(*path[0], "o", color="#d55e00", markersize=5)
    axes.plot(0, 0, "+", color="0.2", markersize=9)
    axes.set_title(f"{name}, lr {opt.lr}", loc="left", fontsize="medium")
    axes.set(xlim=(-8, 5), ylim=(-3, 3))
    axes.spines[["top", "right"]].set_visible(False)
for axes in panels[len(OPTIMIZERS) :]:
    axes.set_axis_off()
figure.savefig(out / "optimizers_on_a_valley.png", dpi=130)
