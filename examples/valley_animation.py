"""Five optimizers race down a valley
==================================

Each takes 60 steps from the same point of f(a, b) = a² / 20 + b². Plain descent bounces between the
walls, momentum swings past the bottom, AdaGrad takes long steps first and shorter ones later, RMSProp
walks down both axes at an even pace, and Adam does so with momentum.

.. code-block:: sh

    python examples/valley_animation.py
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import anyprop as ap
from anyprop.plotting import COLOURS

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the GIF (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

# %%
# An optimizer needs no network: it updates an array, here the point (a, b). The gradient of f is
# (a / 10, 2 b).

STEPS = 60
OPTIMIZERS = {
    "SGD, lr 0.95": ap.SGD(lr=0.95),
    "Momentum, lr 0.1": ap.Momentum(lr=0.1),
    "AdaGrad, lr 1.5": ap.AdaGrad(lr=1.5),
    "RMSProp, lr 0.2": ap.RMSProp(lr=0.2, rho=0.9),
    "Adam, lr 0.3": ap.Adam(lr=0.3),
}

paths = {}
for name, opt in OPTIMIZERS.items():
    point = np.asarray([-7.0, 2.0])
    state, path = opt.init(point), [point]
    for _ in range(STEPS):
        point, state = opt.update(point, point * np.asarray([0.1, 2.0]), state)
        path.append(point)
    paths[name] = np.stack(path)
    print(f"{name:17} ends at ({point[0]:6.3f}, {point[1]:6.3f})")

# %%
# The curves grow by a step in each frame.

figure = Figure(figsize=(7.0, 4.0), layout="constrained")
FigureCanvasAgg(figure)
axes = figure.subplots()
a, b = np.meshgrid(np.linspace(-8, 4, 200), np.linspace(-3, 3, 150))
axes.contour(
    a, b, a**2 / 20 + b**2, levels=[0.05, 0.2, 0.5, 1, 2, 4, 7], colors="0.8", linewidths=0.8
)
axes.plot(0, 0, "+", color="0.2", markersize=10)
lines = [
    axes.plot([], [], "o-", color=colour, markersize=3, linewidth=1.3, label=name)[0]
    for colour, name in zip(COLOURS, paths, strict=False)
]
axes.set(xlabel="a", ylabel="b", xlim=(-8, 4), ylim=(-3, 3))
axes.legend(loc="upper right", fontsize="small", framealpha=1.0)
axes.spines[["top", "right"]].set_visible(False)


def draw(frame):
    for line, path in zip(lines, paths.values(), strict=True):
        line.set_data(*path[: frame + 1].T)
    return lines


frames = [*range(STEPS + 1), *[STEPS] * 15]  # the last picture stays for a while
animation = FuncAnimation(figure, draw, frames=frames)
animation.save(out / "valley_animation.gif", writer=PillowWriter(fps=10), dpi=80)
