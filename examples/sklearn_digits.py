"""scikit-learn's digits, with a validation curve
==============================================

anyprop's ``MLPClassifier``, with options that scikit-learn's own lacks.

.. code-block:: sh

    python examples/sklearn_digits.py

On 8 by 8 pixels of 900 digits a network learns the training rows by heart; dropout and weight decay hold
it back. The loss on rows that are not trained on, which scikit-learn's own class does not record, shows
it. Prints the accuracies, and draws the curves (sklearn_digits.png).
"""

import argparse
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

import anyprop as ap
from anyprop.sklearn import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)

# %%
# Half of the digits are trained on, the others are validated on.

X, X_val, y, y_val = train_test_split(*load_digits(return_X_y=True), test_size=0.5, random_state=0)
scaler = MinMaxScaler().fit(X)
X, X_val = scaler.transform(X), scaler.transform(X_val)

# %%
# Three networks, each for 100 epochs. The parameters of scikit-learn mean what they mean there;
# `dropout`, and an optimizer as an object, are anyprop's.

common = {
    "hidden_layer_sizes": (200, 200),
    "random_state": 0,
    "max_iter": 100,
    "n_iter_no_change": 100,
}
models = {
    "scikit-learn's defaults": MLPClassifier(**common),
    "dropout 0.5": MLPClassifier(dropout=0.5, **common),
    "AdamW, weight decay 1": MLPClassifier(solver=ap.AdamW(lr=1e-3, weight_decay=1.0), **common),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # all of them should train that long
    for model in models.values():
        model.fit(X, y, X_val=X_val, y_val=y_val)

# %%
# The curve of the training loss and that of the validation loss, for each of them.

figure = Figure(figsize=(11.0, 3.8), layout="constrained")
panels = figure.subplots(1, len(models), sharex=True, sharey=True)
for axes, (name, model) in zip(panels, models.items(), strict=True):
    print(
        f"{name:<24} accuracy {model.score(X, y):.3f} trained on, {model.score(X_val, y_val):.3f} not"
    )
    axes.plot(model.loss_curve_, color="#0072b2", label="training")
    axes.plot(model.validation_loss_curve_, color="#d55e00", label="validation")
    axes.set_title(name, loc="left", fontsize="medium")
    axes.set(xlabel="epoch", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("loss")
panels[0].legend(frameon=False)
figure.savefig(out / "sklearn_digits.png", dpi=130)
