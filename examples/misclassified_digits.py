"""The digits that a network gets wrong
====================================

After two epochs about three in a hundred test images are misread. The ones that the network is surest
of are worth a look: some are hard for people, too.

.. code-block:: sh

    python examples/misclassified_digits.py
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
# Train, and classify all test images.

(x, t), (xv, tv) = ap.load_mnist()
net, loss = ap.MLP([784, 200, 200, 10]), ap.SoftmaxCrossEntropy()
result = ap.fit(net, net.init(seed=8), (x, t), loss=loss, optimizer=ap.RMSProp(lr=1e-3), epochs=2)
logits = ap.predict(net, result.params, xv)
p, _ = ap.Softmax().forward(None, logits)
read, sure = np.argmax(p, axis=1), np.max(p, axis=1)
wrong = np.flatnonzero(read != tv)
print(f"{len(wrong)} of {len(tv)} are misread")

# %%
# Which digits are taken for which? The confusion matrix counts them.

confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (tv, read), 1)
print("     " + " ".join(f"{k:>4}" for k in range(10)) + "   read as")
for digit, row in enumerate(confusion):
    print(f"{digit:>4} " + " ".join(f"{count:>4}" if count else "   ." for count in row))

# %%
# The 24 that it was surest of, with what it read, how sure it was, and what the label says.

figure = Figure(figsize=(9.0, 4.9), layout="constrained")
panels = figure.subplots(3, 8).ravel()
for axes, i in zip(panels, wrong[np.argsort(-sure[wrong])], strict=False):
    axes.imshow(xv[i].reshape(28, 28), cmap="gray_r")
    axes.set_title(f"{read[i]} ({sure[i]:.0%}), not {tv[i]}", fontsize="small")
    axes.set_axis_off()
figure.savefig(out / "misclassified_digits.png", dpi=130)
