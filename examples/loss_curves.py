"""Loss curves of five optimizers
==============================

The same network, the same start and the same batches, each optimizer with a learning rate that suits
it on MNIST.

.. code-block:: sh

    python examples/loss_curves.py
"""

import argparse
from pathlib import Path

import anyprop as ap

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

# %%
# One epoch each, 600 steps. The order of the batches is a function of the seed, so all see the same.

OPTIMIZERS = {
    "SGD, lr 0.1": ap.SGD(lr=0.1),
    "Momentum, lr 0.05": ap.Momentum(lr=0.05),
    "AdaGrad, lr 0.02": ap.AdaGrad(lr=0.02),
    "RMSProp, lr 0.001": ap.RMSProp(lr=1e-3),
    "Adam, lr 0.001": ap.Adam(lr=1e-3),
}

train, test = ap.load_mnist()
net, loss = ap.MLP([784, 100, 100, 10]), ap.SoftmaxCrossEntropy()
histories = {}
for name, optimizer in OPTIMIZERS.items():
    result = ap.fit(net, net.init(seed=8), train, loss=loss, optimizer=optimizer, epochs=1)
    histories[name] = result.history
    measured = ap.evaluate(net, result.params, test, loss=loss)
    print(f"{name:18} test loss {measured.loss:.4f}, test accuracy {measured.accuracy:.2%}")

# %%
# The strong lines are running means, the light ones behind them the losses of single batches.

figure = ap.plot_history(histories, log=True)
figure.axes[0].set_title("784-100-100-10 on MNIST, batches of 100", loc="left", fontsize="medium")
figure.savefig(out / "loss_curves.png", dpi=150)
