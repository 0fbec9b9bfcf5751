"""MLPRegressor: a multilayer perceptron for one or several real numbers."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import on_device_of
from anyprop.losses.base import Loss
from anyprop.losses.mean_squared_error import MeanSquaredError
from anyprop.losses.poisson_nll import PoissonNLL
from anyprop.sklearn._base import BaseMLP
from anyprop.sklearn._given import Place, number_of_outputs, real_targets
from anyprop.sklearn._objective import Scaled
from anyprop.sklearn._settings import CONSTRAINTS


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron for real numbers; scikit-learn's class of this name, on any backend.

    All parameters of scikit-learn's `MLPRegressor` are available with their names, defaults and
    meaning; the last five are new. With the same `random_state` the loss curve is the same.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        Half the squared error, or half the Poisson deviance; for the latter the network returns
        logarithms of predictions, and y must not be negative.
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

    Attributes
    ----------
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
        R^2 on the validation rows after each epoch; None without such rows.
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
    out_activation_ : {"identity", "exp"}
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

    Of a squared error of several outputs, `loss_` reports half the mean over the outputs, while the
    gradient is that of half their sum; scikit-learn does the same.

    Without scikit-learn's array API dispatch, inputs become NumPy arrays. With
    ``sklearn.set_config(array_api_dispatch=True)`` everything follows X: targets and weights move to
    its namespace and device, and fitted attributes and predictions live there.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> model = MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS | {
        "loss": [StrOptions({"squared_error", "poisson"})],
    }
    _numeric_targets = True

    @usage("MLPRegressor(hidden_layer_sizes=(100,), ...)")
    def __init__(
        self,
        loss: str = "squared_error",
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
    ) -> None:
        self._store(locals())

    @available_if(lambda self: self._check_solver())
    @usage("model.partial_fit(X, y)")
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch, from where the last call ended.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples.
        y : array, shape (N,) or (N, K)
            Real numbers.
        sample_weight : array, shape (N,), optional
            Weights of the examples, 0 or more, and one above 0.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        with self._guarded(X, incremental=True):
            self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predict real numbers.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.

        Returns
        -------
        array, shape (N,) or (N, K), float

        Raises
        ------
        TypeError, ValueError
            X is masked or does not fit, numbers are not finite, or `activation` was changed after `fit`.
        """
        with on_device_of(X):
            y = self._real_numbers(self._raw_outputs(X, "predict"))
            return y[:, 0] if self.n_outputs_ == 1 else y

    @usage("model.score(X, y)")
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the R^2 of predictions.

        Parameters
        ----------
        X : array or sparse matrix, shape (N, D)
            Examples, where those of `fit` were.
        y : array, shape (N,) or (N, K)
            Real numbers.
        sample_weight : array, shape (N,), optional
            Weights of the examples.

        Returns
        -------
        float
            1 - sum (t - y)^2 / sum (t - mean t)^2, averaged over the outputs.
        """
        return self._measured(r2_score, X, y, sample_weight)

    def _real_numbers(self, y: Array) -> Array:
        return Place.of(y).xp.exp(y) if self.out_activation_ == "exp" else y

    def _learn_targets(self, y: Any, place: Place, *, incremental: bool) -> None:
        n = number_of_outputs(y)
        if self._goes_on(incremental=incremental) and n != self.n_outputs_:
            raise ValueError(f"y has {n} outputs, but the model was fitted to {self.n_outputs_}.")
        self.n_outputs_ = n

    def _encoded(self, y: Any, place: Place) -> Array:
        t, xp = real_targets(y, self.n_outputs_, place), place.xp
        if self.loss == "poisson" and bool(xp.any(t < 0.0)):
            raise ValueError("loss='poisson' requires non-negative y.")
        return t

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _loss(self, *, exact: bool = False) -> Loss:
        k = float(self.n_outputs_)
        if self.loss == "poisson":
            return Scaled(PoissonNLL(deviance=True), value=k, gradient=k)
        return Scaled(MeanSquaredError(), value=0.5 * k if exact else 0.5, gradient=0.5 * k)

    def _score_outputs(self, y: Any, t: Any, weight: Any) -> float:
        return float(r2_score(t, self._real_numbers(y), sample_weight=weight))
