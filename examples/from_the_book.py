"""The article's experiment on the book's classes
==============================================

The article's experiment on the book's classes: RMSProp and AdaGrad on MNIST.

.. code-block:: sh

    python examples/from_the_book.py
    ANYPROP_BACKEND=jax python examples/from_the_book.py

Only the imports of such a script change. It shows two things: with the article's literal settings
RMSProp's loss jumps to 91 thousand after one step, because that step moves every weight by
lr / sqrt(1 - decay_rate) = 10 lr, whatever its gradient; and a smaller learning rate repairs that.
Draws from_the_book.png.
"""

import argparse
from pathlib import Path

import numpy as np

from anyprop import plot_history
from anyprop.book import AdaGrad, NeuralNetwork, RMSProp, load_mnist

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

(x_train, t_train), (x_test, t_test) = load_mnist(normalize=True, one_hot_label=True)

optimizers = {
    "RMSProp, lr 0.1": RMSProp(lr=0.1, decay_rate=0.99),
    "AdaGrad, lr 0.1": AdaGrad(lr=0.1),
    "RMSProp, lr 0.001": RMSProp(lr=0.001, decay_rate=0.99),
}
losses = {}
for name, optimizer in optimizers.items():
    np.random.seed(8)  # the same start and the same batches for each
    net = NeuralNetwork(input_size=784, hidden_size=200, output_size=10)
    losses[name] = []
    for _ in range(1000):
        mask = np.random.choice(60000, 100)
        x, t = x_train[mask], t_train[mask]
        losses[name].append(net.compute_loss(x, t))
        net.backward(t)
        optimizer.update(net.params, net.grads)
    first = ", ".join(f"{value:.5g}" for value in losses[name][:5])
    accuracy = net.accuracy(x_test, t_test)
    print(f"{name:<18} losses {first}, ...; mean of the last 50 {np.mean(losses[name][-50:]):.3f};")
    print(f"{'':<18} test accuracy {accuracy:.1%}")

figure = plot_history(losses, smooth=9, log=True)
axes = figure.axes[0]
axes.set_title("784-200-200-10 on MNIST, batches of 100", loc="left", fontsize="medium")
axes.axhline(-np.log(1e-7), color="0.5", linestyle=":", zorder=0)
axes.annotate(
    "a loss written as -log(p + 1e-7) cannot pass this line",
    (1000, 18),
    color="0.4",
    ha="right",
    fontsize="small",
)
figure.savefig(out / "from_the_book.png", dpi=150)
