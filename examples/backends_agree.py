"""The same run on every backend
=============================

One training run on every backend of this machine: do they agree?

.. code-block:: sh

    python examples/backends_agree.py

Trains the same network on MNIST from the same start and in the same order on the CPU of each backend
that is installed, and compares every loss with NumPy's. In float32 they agree with a smooth
activation, in float64 with ReLU too. With ReLU in float32 two runs can diverge: at some step
rounding decides on which side of 0 a unit near it is, and so whether a gradient passes. Draws
backends_agree.png; fails where the allowed difference is passed.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

os.environ["JAX_ENABLE_X64"] = "1"  # JAX reads it when it is imported, and has no float64 without

from matplotlib.figure import Figure

import anyprop as ap
from anyprop.plotting import COLOURS

STEPS = 200
RUNS = [  # dtype, activation, allowed difference
    ("float32", "gelu", 1e-4),
    ("float64", "relu", 1e-10),
    ("float32", "relu", None),
]

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)


def losses_on(backend, device, dtype, activation, data):
    """Train on one backend and return the loss of every step."""
    x, t = (ap.from_host(array, backend, device=device) for array in data)
    net = ap.MLP([784, 200, 200, 10], activation)
    params = net.init(seed=8, xp=backend, dtype=dtype, device=device)
    loss, optimizer = ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=1e-3)
    result = ap.fit(net, params, (x, t), loss=loss, optimizer=optimizer, steps=STEPS)
    return np.asarray(result.history.losses)


cpus = {}
for backend in ap.available_backends():
    cpu = next((d for d in backend.devices if d.lower().startswith("cpu")), None)
    if cpu is None:
        print(f"left out: {backend.name}: {backend.reason or 'it has no CPU device.'}")
    else:
        cpus[backend.name] = cpu

figure = Figure(figsize=(11.0, 6.0), layout="constrained")
panels = figure.subplots(2, len(RUNS), sharex=True, sharey="row", height_ratios=[3, 2])
steps = np.arange(1, STEPS + 1)
failed = False
for (above, below), (dtype, activation, allowed) in zip(panels.T, RUNS, strict=True):
    (x, t), _ = ap.load_mnist(dtype=dtype)
    curves = {
        name: losses_on(name, device, dtype, activation, (x, t)) for name, device in cpus.items()
    }
    largest = 0.0
    for i, (name, curve) in enumerate(curves.items()):
        difference = np.abs(curve - curves["numpy"])
        largest = max(largest, float(difference.max()))
        print(f"{dtype} {activation} {name:<17} differs from numpy by {difference.max():.1e}")
        width = 1.0 + 2.0 * (len(cpus) - 1 - i)  # the first is the widest, so that all can be seen
        above.plot(steps, curve, color=COLOURS[i], linewidth=width, label=name)
        if name != "numpy":
            shown = np.where(difference > 0, difference, np.nan)  # no logarithm of 0
            below.plot(steps, shown, ".", color=COLOURS[i], markersize=3)
    verdict = "no limit: ReLU can tip" if allowed is None else f"allowed {allowed:.0e}"
    print(f"{dtype} {activation}: largest difference {largest:.1e}, {verdict}")
    if allowed is not None:
        below.axhline(allowed, color="0.4", linestyle=":")
        below.annotate("allowed", (0, allowed), (2, 3), textcoords="offset points", color="0.3")
        failed = failed or largest > allowed
    above.set_title(f"{dtype}, {activation}", loc="left")
    below.set(yscale="log", xlabel="step")
    for axes in (above, below):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
panels[0, 0].set_ylabel("loss")
panels[1, 0].set_ylabel("difference from numpy")
panels[0, -1].legend(frameon=False)
figure.savefig(out / "backends_agree.png", dpi=150)

if failed:
    sys.exit("the backends do not agree.")
