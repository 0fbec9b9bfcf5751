"""MLPClassifier: a multilayer perceptron for classes, several labels, or one yes-or-no label.

The file is long because the docstring of the class is its interface, which scikit-learn's users read.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from anyprop._numerics import largest, sigmoid
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import on_device_of, to_host
from anyprop.losses.base import Loss
from anyprop.losses.sigmoid_cross_entropy import SigmoidCrossEntropy
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from anyprop.sklearn._base import BaseMLP
from anyprop.sklearn._given import Place, beside, check_dense, check_labels, host, readable
from anyprop.sklearn._objective import Scaled
from anyprop.sklearn._settings import CONSTRAINTS


class Labels:
    """The classes, on the host: scikit-learn moves an estimator's arrays, but not what is in here."""

    def __init__(self, y: Any) -> None:
        self.binarizer = LabelBinarizer().fit(y)


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron for classes; scikit-learn's class of this name, on any backend.

    All parameters of scikit-learn's `MLPClassifier` are available with their names, defaults and
    meaning; the last six are new. With the same `random_state` the loss curve is the same.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int >= 1, default=(100,)
        Units of each hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"} or another of ours, default="relu"
        What the hidden layers apply: also "leaky_relu", "elu", "gelu", "silu", "softplus"; "sigmoid" is
        another name of "logistic".
    solver : {"lbfgs", "sgd", "adam"}, another name or an optimizer, default="adam"
        How the loss is minimized. "sgd" and "adam" are scikit-learn's; any other name that
        `anyprop.optimizers.registry.OPTIMIZERS` has, such as "rmsprop", is that optimizer with
        ``lr=learning_rate_init``; an object such as ``ap.AdamW(lr=1e-3)`` is taken as it is. With
        either, settings that belong to "sgd", "adam" or "lbfgs" must keep their defaults, and with an
        object `learning_rate_init` too.
    alpha : float >= 0, default=0.0001
        Strength of the L2 term, alpha ||W||^2 / (2 n) for a batch of n rows (or of total weight n).
    batch_size : int >= 1 or "auto", default="auto"
        Rows in a batch; "auto" is ``min(200, n_samples)``. Not used by "lbfgs".
    learning_rate : {"constant", "invscaling", "adaptive"}, another name, or a schedule
        How the learning rate changes during training; "constant" by default. "invscaling" divides
        it by t^power_t after each epoch, t rows seen; "adaptive" divides it by 5 when nothing
        improves any more. A schedule, a function of the number of updates, or the name of one
        ("cosine", "linear", "exponential", "step", "one_cycle", extended over `max_iter` epochs)
        takes the place of `learning_rate_init`. scikit-learn's three modes do nothing with
        ``solver="adam"``, as there.
    learning_rate_init : float > 0, default=0.001
        Learning rate at the start.
    power_t : float >= 0, default=0.5
        Exponent of "invscaling".
    max_iter : int >= 1, default=200
        Largest number of epochs; for "lbfgs", of iterations.
    shuffle : bool, default=True
        Whether each epoch takes the rows in another order.
    random_state : int, RandomState or None, default=None
        Source of initial weights, held-out rows, the order of rows and dropout, in that order. The
        numbers drawn are scikit-learn's, on every backend.
    tol : float >= 0, default=1e-4
        Improvements of the loss (or validation score) below this do not count.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the call before.
    momentum : float in [0, 1], default=0.9
        Decay of the velocity of "sgd".
    nesterovs_momentum : bool, default=True
        Whether "sgd" takes Nesterov's form of momentum.
    early_stopping : bool, default=False
        Whether to stop when the score on validation rows no longer improves, and to go back to the
        weights that had the best, also if the loss becomes infinite or NaN later. The rows are `X_val`,
        or are held out of X. Not used by "lbfgs".
    validation_fraction : float in [0, 1), default=0.1
        Share of X that early stopping holds out; must keep its default where `X_val` is given.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decays of "adam".
    epsilon : float > 0, default=1e-8
        Keeps "adam" from dividing by 0.
    n_iter_no_change : int >= 1 or inf, default=10
        Epochs without improvement after which training stops.
    max_fun : int >= 1, default=15000
        Largest number of evaluations of "lbfgs".
    dropout : float in [0, 1), default=0.0
        Probability that a hidden unit is dropped while training; needs a hidden layer, as does `norm`.
    norm : {"batch", "layer"} or None, default=None
        BatchNorm or LayerNorm between each hidden layer's matrix and its activation.
    initializer : str, callable or None, default=None
        How weights are drawn, see `anyprop.initializers`; biases are then 0. None is scikit-learn's way:
        both uniform, with Glorot's bound.
    dtype : {"float32", "float64"} or None, default=None
        Dtype to compute in. None follows X: float32 stays, everything else becomes float64.
    callbacks : sequence of Callback, optional
        Called as `anyprop.fit` does; a report comes at the end of each epoch. Not with "lbfgs".
    class_weight : dict, "balanced", list of dict or None, default=None
        Weights of the classes, as `sklearn.utils.class_weight.compute_sample_weight` takes them; they
        multiply `sample_weight`. None may be negative; `partial_fit` does not take "balanced".

    Attributes
    ----------
    loss : {"log_loss"}
        The loss that is minimized; not a parameter, as in scikit-learn.
    classes_ : array, shape (K,)
        Classes, beside X if they are numbers.
    coefs_ : list of arrays, shapes (D, M)
        Weight matrices, beside X.
    intercepts_ : list of arrays, shapes (M,)
        Biases; a hidden layer that a BatchNorm follows has none.
    norms_ : list of dict of str to array
        "gamma" and "beta" of each norm, and "mean" and "var" of a BatchNorm; only with `norm`.
    loss_ : float
        Loss of the last epoch: mean of the batches, each before its update, with the L2 term.
    loss_curve_ : list of float
        `loss_` after each epoch. Not with "lbfgs", nor are the next four.
    best_loss_ : float or None
        Smallest of them; None with early stopping.
    validation_loss_curve_ : list of float or None
        Loss on the validation rows after each epoch, without the L2 term; None without such rows.
    validation_scores_ : list of float or None
        Accuracy on the validation rows after each epoch; None without such rows.
    best_validation_score_ : float or None
        Largest of them; None without early stopping.
    t_ : int
        Rows seen while training.
    n_iter_ : int
        Epochs, or iterations of "lbfgs", of the last fit.
    n_layers_ : int
        Layers, counting the input.
    n_outputs_ : int
        Outputs of the network.
    out_activation_ : {"softmax", "logistic"}
        What follows the last layer.
    network_ : Sequential
        The network without its numbers; what `out_activation_` names follows it.
    n_features_in_, feature_names_in_
        As scikit-learn defines them.

    Notes
    -----
    `fit` and `partial_fit` change nothing if they raise an error: the weights, the attributes, what the
    optimizer remembers and the random state are those before the call. Ctrl-C in `fit` ends it after the
    step that runs, with a warning and with what was trained, as in scikit-learn; in the first epoch,
    with ``solver="lbfgs"`` and in `partial_fit` it is an error like any other.

    Without scikit-learn's array API dispatch, inputs become NumPy arrays. With
    ``sklearn.set_config(array_api_dispatch=True)`` everything follows X: targets and weights move to
    its namespace and device, and fitted attributes and predictions live there.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(n_samples=100, random_state=1)
    >>> model = MLPClassifier(random_state=1, max_iter=300).fit(X, y)
    >>> model.predict_proba(X).shape
    (100, 2)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    loss: ClassVar[str] = "log_loss"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }
    _numeric_targets = False

    @usage("MLPClassifier(hidden_layer_sizes=(100,), ...)")
    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        norm: str | None = None,
        initializer: Any = None,
        dtype: str | None = None,
        callbacks: Any = None,
        class_weight: Any = None,
    ) -> None:
        self._store(locals())

    @available_if(lambda self: self._check_solver())
    @usage("model.partial_fit(X, y, classes=...)")
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train for one epoch, from where the last call ended.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples.
        y : array, shape (N,), or (N, K) for several labels
            Classes; for several labels 0 and 1.
        sample_weight : array, shape (N,), optional
            Weights of the examples, 0 or more, and one above 0.
        classes : array, shape (K,)
            All classes of all calls; needed in the first one.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`; also if `class_weight` is "balanced", which a part of the data cannot be.
        """
        with self._guarded(X, incremental=True):
            check_dense(classes, "classes")
            classes = None if classes is None else host(readable(classes, "classes"))
            check_labels(classes, "classes")
            check_labels(y, "y")
            if _check_partial_fit_first_call(self, classes):
                targets = host(readable(y, "y"))
                several = type_of_target(targets).startswith("multilabel")
                self._labels = Labels(targets if several else classes)
            self._fit(X, y, sample_weight, incremental=True)
        return self

    # Targets.

    def _learn_targets(self, y: Any, place: Place, *, incremental: bool) -> None:
        check_labels(y, "y")
        y = _column(host(y))
        if hasattr(self, "classes_") and (self.warm_start or incremental):
            self._check_classes(y, incremental=incremental)
        elif not incremental:
            self._labels = Labels(y)
        labels = self._labels.binarizer
        self.classes_ = beside(labels.classes_, place)
        one = labels.y_type_ == "binary"
        self.n_outputs_ = 1 if one else labels.classes_.shape[0]

    def _encoded(self, y: Any, place: Place) -> Array:
        y, labels = _column(host(y)), self._labels.binarizer
        if labels.y_type_ not in ("binary", "multiclass"):
            return place.put(labels.transform(y))
        indices = np.searchsorted(labels.classes_, y)
        if labels.y_type_ == "binary":
            return place.put(indices[:, None])
        return place.put(indices, dtype="int64")

    def _check_known(self, y: Any) -> None:
        self._check_classes(_column(host(y)), incremental=True)

    def _check_classes(self, y: Any, *, incremental: bool) -> None:
        classes, known = unique_labels(y), self._labels.binarizer.classes_
        several = self._labels.binarizer.y_type_.startswith("multilabel")
        if (y.ndim == 2) != several:
            expected = (
                f"{known.shape[0]} labels for each row" if several else "a class for each row"
            )
            raise ValueError(f"y must hold {expected}, as in the first call.")
        if self.warm_start and not incremental:
            if set(classes) != set(known):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call "
                    f"to fit. Previously got {known}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, known, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. "
                f"'y' has {classes}."
            )

    def _weights_of_classes(
        self, y: Any, sample_weight: Array | None, place: Place, *, incremental: bool
    ) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        self._check_class_weight(place)
        weight = self._row_weights(host(y), incremental=incremental)
        moved = place.put(weight)
        return moved if sample_weight is None else moved * sample_weight

    def _check_class_weight(self, place: Place) -> None:
        """Raise ValueError if one of the weights is not valid."""
        given = self.class_weight
        tables = [given] if isinstance(given, dict) else given if isinstance(given, list) else []
        largest = float(np.finfo(place.dtype).max)
        for weight in (w for table in tables if isinstance(table, dict) for w in table.values()):
            if not (isinstance(weight, Real) and 0.0 <= float(weight) <= largest):
                raise ValueError(
                    f"class_weight must hold finite weights of 0 or more, got {given!r}."
                )

    def _row_weights(self, y: Any, *, incremental: bool) -> Any:
        """Compute the weight of each row from its class, or from its labels."""
        weight, known = self.class_weight, self._labels.binarizer
        if incremental and weight == "balanced":
            raise ValueError(
                "partial_fit cannot balance classes that it has not all seen; pass class_weight as a "
                "dict, or weigh rows by sample_weight."
            )
        if not isinstance(weight, dict) or known.y_type_.startswith("multilabel"):
            return compute_sample_weight(weight, y)
        # Of all classes, as a part of the data for partial_fit may lack some.
        of_classes = compute_class_weight(weight, classes=known.classes_, y=known.classes_)
        return of_classes[np.searchsorted(known.classes_, np.ravel(y))]

    def _output_activation(self) -> str:
        return "softmax" if self._labels.binarizer.y_type_ == "multiclass" else "logistic"

    def _loss(self, *, exact: bool = False) -> Loss:
        if self.out_activation_ == "softmax":
            return SoftmaxCrossEntropy()
        k = float(self.n_outputs_)
        return Scaled(SigmoidCrossEntropy(), value=k, gradient=k)

    def _stratification(self, t: Array) -> Any:
        if self.n_outputs_ != 1:
            return None
        # The user's labels, which the error names if a class has too few rows; their order is that of t.
        classes = self._labels.binarizer.classes_
        return classes[to_host(t)[:, 0].astype(int) * (classes.shape[0] - 1)]

    def _score_outputs(self, y: Any, t: Any, weight: Any) -> float:
        predicted = y.argmax(axis=1) if self.out_activation_ == "softmax" else y > 0.0
        return float(accuracy_score(t, predicted, sample_weight=weight))

    # Predictions.

    def predict(self, X: Any) -> Any:
        """Predict classes.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.

        Returns
        -------
        array, shape (N,) or (N, K)
            Classes, beside X if they are numbers.

        Raises
        ------
        TypeError
            X is masked.
        ValueError
            X does not fit, weights or outputs are not finite, or `activation` was changed after `fit`.
        """
        with on_device_of(X):
            y = self._raw_outputs(X, "predict")
            place, labels = Place.of(y), self._labels.binarizer
            xp = place.xp
            if self.out_activation_ == "softmax":
                indices = xp.argmax(y, axis=1)
            else:
                indices = xp.astype(y > 0.0, xp.int64)
                if labels.y_type_.startswith("multilabel"):
                    return scipy.sparse.csr_array(indices) if labels.sparse_input_ else indices
                indices = indices[:, 0] * (labels.classes_.shape[0] - 1)
            classes = beside(labels.classes_, place)
            if classes is labels.classes_:
                return classes[to_host(indices)]
            return xp.take(classes, indices, axis=0)

    @usage("model.score(X, y)")
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of predictions.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.
        y : array, shape (N,) or (N, K)
            Classes; for several labels 0 and 1.
        sample_weight : array, shape (N,), optional
            Weights of the examples.

        Returns
        -------
        float
            Share of rows, by weight, of which every label is right.
        """
        return self._measured(accuracy_score, X, y, sample_weight)

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class, or of each label.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.

        Returns
        -------
        array, shape (N, K), float
            Probabilities, in the order of `classes_`; 1 for the only class, if `fit` saw one.

        Raises
        ------
        TypeError, ValueError
            As `predict`.
        """
        with on_device_of(X):
            return self._probabilities(self._raw_outputs(X, "predict_proba"))

    def predict_log_proba(self, X: Any) -> Array:
        """Predict the logarithms of `predict_proba`, exact also where a probability rounds to 0 or 1.

        They can therefore order classes or labels whose probabilities are the same to the last digit.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.

        Returns
        -------
        array, shape (N, K), float

        Raises
        ------
        TypeError, ValueError
            As `predict`.
        """
        with on_device_of(X):
            y = self._raw_outputs(X, "predict_log_proba")
            xp = Place.of(y).xp
            if self.out_activation_ == "softmax":
                z = y - largest(y)
                return z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
            if self._has_one_class():
                return xp.zeros_like(y)
            if self.n_outputs_ == 1:
                y = xp.concat([-y, y], axis=1)
            return xp.minimum(y, 0.0) - xp.log1p(xp.exp(-xp.abs(y)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _probabilities(self, y: Array) -> Array:
        xp = Place.of(y).xp
        if self.out_activation_ == "softmax":
            # In place where arrays can be: the outputs were made for this call.
            y -= largest(y)
            y = xp.exp(y)
            y /= xp.sum(y, axis=1, keepdims=True)
            return y
        p = sigmoid(xp, y)
        if self._has_one_class():
            return xp.ones_like(p)
        return xp.concat([sigmoid(xp, -y), p], axis=1) if self.n_outputs_ == 1 else p

    def _has_one_class(self) -> bool:
        """Return whether all rows had the same class, which is then certain."""
        labels = self._labels.binarizer
        return bool(labels.y_type_ == "binary" and labels.classes_.shape[0] == 1)


def _column(y: Any) -> Any:
    """Return labels (N, 1) as (N,), with scikit-learn's warning."""
    return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
