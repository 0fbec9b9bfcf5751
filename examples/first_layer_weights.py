"""What the first layer looks for
==============================

Each unit of the first layer weighs the 784 pixels, so its weights are an image: red where ink speaks
for the unit, blue where ink speaks against it. Weights of pixels that never hold ink have no gradient
and keep the noise that they started from, unless weight decay takes it away.

.. code-block:: sh

    python examples/first_layer_weights.py
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import anyprop as ap

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

# %%
# The same training twice, without and with decoupled weight decay.

(x, t), (xv, tv) = ap.load_mnist()
net, loss = ap.MLP([784, 36, 10]), ap.SoftmaxCrossEntropy()
weights = {}
for decay in (0.0, 0.3):
    optimizer = ap.AdamW(lr=2e-3, weight_decay=decay, decay_biases=False)
    result = ap.fit(net, net.init(seed=8), (x, t), loss=loss, optimizer=optimizer, epochs=3)
    weights[decay] = result.params[0].W
    accuracy = ap.evaluate(net, result.params, (xv, tv), loss=loss).accuracy
    never = np.max(x, axis=0) == 0.0
    print(
        f"weight decay {decay}: test accuracy {accuracy:.1%}; weights of the {never.sum()} pixels "
        f"that never hold ink: standard deviation {weights[decay][never].std():.3f}"
    )

# %%
# The 36 units of each.

figure = Figure(figsize=(9.0, 4.8), layout="constrained")
for part, (decay, W) in zip(figure.subfigures(1, 2, wspace=0.05), weights.items(), strict=True):
    part.suptitle(f"weight decay {decay}")
    limit = np.quantile(np.abs(W), 0.995)
    for axes, column in zip(part.subplots(6, 6).ravel(), W.T, strict=True):
        axes.imshow(column.reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_axis_off()
figure.savefig(out / "first_layer_weights.png", dpi=130)
