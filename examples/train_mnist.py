"""Train a network on MNIST
========================

Train a network on MNIST, on whichever backend you name.

.. code-block:: sh

    python examples/train_mnist.py
    ANYPROP_BACKEND=torch python examples/train_mnist.py

Prints the loss and the accuracy on the test images, and draws the loss curve into train_mnist.png.
"""

import argparse
from pathlib import Path

import anyprop as ap
from anyprop.xp import xp  # the backend that ANYPROP_BACKEND names; NumPy by default

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

(x, t), (xv, tv) = ap.load_mnist(xp=xp)
net = ap.MLP([784, 200, 200, 10], activation="relu")
params = net.init(seed=8, xp=xp)
loss = ap.SoftmaxCrossEntropy()

result = ap.fit(
    net, params, (x, t), loss=loss, optimizer=ap.RMSProp(lr=1e-3), epochs=3, validation=(xv, tv)
)
measured = ap.evaluate(net, result.params, (xv, tv), loss=loss)
print(f"test loss {measured.loss:.4f}, test accuracy {measured.accuracy:.2%}")

ap.plot_history({"RMSProp": result.history}).savefig(out / "train_mnist.png", dpi=150)
