"""The article's experiment over learning rates and seeds; writes sweep.json beside itself.

    python docs/article/sweep.py

For every optimizer, learning rate and seed: the network 784-200-200-10, weights 0.01 times the
numbers of NumPy's legacy generator, 1000 batches of 100 drawn from it with replacement, gradients
summed over the batch, and the loss log(p + 1e-7), all as the article prints them. Only the learning
rate and the seed vary.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import anyprop as ap
from anyprop.cli.compare import ArticleLoss

LRS = [10.0**k for k in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0)]
SEEDS = [8, 9, 10]
OPTIMIZERS = {"RMSProp": ap.RMSProp, "AdaGrad": ap.AdaGrad}
NET = ap.MLP([784, 200, 200, 10])
STEPS = 1000


def article_run(optimizer, seed, data, steps=STEPS):
    """Train as the article does; return the loss of every step and the parameters."""
    x, t = data
    rng = np.random.RandomState(seed)
    params = NET.init(rng, weights=ap.initializers.Normal(0.01))
    state = optimizer.init(params)
    step = ap.compile(ap.make_step(NET, ArticleLoss(), optimizer))
    losses = []
    for _ in range(steps):
        rows = rng.choice(x.shape[0], 100)
        params, state, value = step(params, state, x[rows], t[rows])
        losses.append(float(value))
    return losses, params


def main():
    """Run them all."""
    train, test = ap.load_mnist()
    runs = []
    for name, optimizer in OPTIMIZERS.items():
        for lr in LRS:
            for seed in SEEDS:
                with np.errstate(over="ignore", invalid="ignore"):
                    losses, params = article_run(optimizer(lr=lr), seed, train)
                    accuracy = ap.evaluate(
                        NET, params, test, loss=ap.SoftmaxCrossEntropy()
                    ).accuracy
                run = {"optimizer": name, "lr": lr, "seed": seed}
                run |= {"last_50": round(float(np.mean(losses[-50:])), 4)}
                run |= {"test_accuracy": round(accuracy, 4)}
                runs.append(run)
                print(run, flush=True)
    content = {"command": "python docs/article/sweep.py", "steps": STEPS, "runs": runs}
    lines = [json.dumps(run) for run in runs]
    text = json.dumps(content | {"runs": []}, indent=1)
    text = text.replace("[]", "[\n  " + ",\n  ".join(lines) + "\n ]")
    Path(__file__).with_name("sweep.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
