"""The book's training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from anyprop._checks import count, has, kind, unknown
from anyprop._typing import Array
from anyprop._usage import Advising
from anyprop.book.network import Network
from anyprop.book.optimizer import BookOptimizer
from anyprop.book.optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSProp
from anyprop.book.util import check_examples, take_rows

_OPTIMIZERS: dict[str, type[BookOptimizer]] = {
    kind.__name__.lower(): kind for kind in (SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam)
}


class Trainer(Advising):
    """Train a network on batches that are drawn with replacement by NumPy's global generator.

    Parameters
    ----------
    network : TwoLayerNet, MultiLayerNet, MultiLayerNetExtend
        Or anything else with `params`, `gradient`, `loss` and `accuracy`.
    x_train, t_train, x_test, t_test : array
        Inputs and targets for training and for testing.
    epochs : int >= 1
        Number of times that as many examples are drawn as there are.
    mini_batch_size : int >= 1
        Examples in a batch.
    optimizer : {"SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"}
        Its name, in upper or lower case.
    optimizer_param : mapping of str to float, optional
        Its settings; a learning rate of 0.01 by default.
    evaluate_sample_num_per_epoch : int >= 1, optional
        Accuracies of an epoch are those of the first so many examples; of all by default.
    verbose : bool
        Whether losses and accuracies are printed.

    Attributes
    ----------
    train_loss_list : list of float
        The loss of each batch, after its update.
    train_acc_list, test_acc_list : list of float
        Accuracies at the start of each epoch.
    current_iter, current_epoch : int
        Batches and epochs so far.

    Raises
    ------
    TypeError, ValueError
        The optimizer or one of its settings is unknown, a number is not a whole number of at least
        1, or inputs and targets do not fit together.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.4.

    Examples
    --------
    >>> import numpy as np
    >>> from anyprop.book import MultiLayerNet
    >>> x, t = np.eye(4), np.asarray([0, 1, 0, 1])
    >>> net = MultiLayerNet(4, [8], 2, xp="numpy", seed=8)
    >>> trainer = Trainer(net, x, t, x, t, 50, 2, "adam", {"lr": 0.05}, verbose=False)
    >>> trainer.train()
    >>> len(trainer.train_loss_list), trainer.test_acc_list[-1]
    (100, 1.0)
    """

    def __init__(
        self,
        network: Network,
        x_train: Array,
        t_train: Array,
        x_test: Array,
        t_test: Array,
        epochs: int = 20,
        mini_batch_size: int = 100,
        optimizer: str = "SGD",
        optimizer_param: Mapping[str, float] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
    ) -> None:
        self.optimizer = _optimizer(optimizer, optimizer_param)
        self.network, self.verbose = network, verbose
        self.x_train, self.t_train = x_train, t_train
        self.x_test, self.t_test = x_test, t_test
        self.epochs = count("Trainer", "epochs", epochs)
        self.batch_size = count("Trainer", "mini_batch_size", mini_batch_size)
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        if evaluate_sample_num_per_epoch is not None:
            count("Trainer", "evaluate_sample_num_per_epoch", evaluate_sample_num_per_epoch)
        if not has(network, "params", "gradient", "loss", "accuracy"):
            raise TypeError(f"network must be one such as MultiLayerNet(...), not {kind(network)}.")
        check_examples(x_train, t_train, "_train")
        check_examples(x_test, t_test, "_test")
        self.train_size = count("Trainer", "x_train.shape[0]", x_train.shape[0])
        self.iter_per_epoch = max(self.train_size / self.batch_size, 1)
        self.max_iter = int(self.epochs * self.iter_per_epoch)
        self.current_iter, self.current_epoch = 0, 0
        self.train_loss_list: list[float] = []
        self.train_acc_list: list[float] = []
        self.test_acc_list: list[float] = []

    def train_step(self) -> None:
        """Train on one batch; at the start of an epoch measure the accuracies too."""
        rows = np.random.choice(self.train_size, self.batch_size)
        x, t = take_rows(self.x_train, rows), take_rows(self.t_train, rows)
        self.optimizer.update(self.network.params, self.network.gradient(x, t))
        self.train_loss_list.append(self.network.loss(x, t))
        self._say(f"train loss: {self.train_loss_list[-1]}")
        if self.current_iter * self.batch_size >= self.current_epoch * self.train_size:
            self.current_epoch += 1
            self._measure()
        self.current_iter += 1

    def train(self) -> None:
        """Train for `epochs`, or as many more, and measure the accuracy on all test examples."""
        for _ in range(self.max_iter):
            self.train_step()
        accuracy = self.network.accuracy(self.x_test, self.t_test)
        self._say(f"final test accuracy: {accuracy}")

    def _measure(self) -> None:
        n, accuracies = self.evaluate_sample_num_per_epoch, []
        for x, t in ((self.x_train, self.t_train), (self.x_test, self.t_test)):
            sample = (x, t) if n is None else (x[:n, ...], t[:n, ...])
            accuracies.append(float(self.network.accuracy(*sample)))
        self.train_acc_list.append(accuracies[0])
        self.test_acc_list.append(accuracies[1])
        self._say(
            f"epoch {self.current_epoch}: train acc {accuracies[0]}, test acc {accuracies[1]}"
        )

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line)


def _optimizer(name: str, param: Mapping[str, float] | None) -> BookOptimizer:
    """Return the optimizer of a name, with its settings."""
    if not isinstance(name, str):
        raise TypeError(
            f"optimizer must be a name such as 'SGD', not {kind(name)}; its settings belong in "
            "optimizer_param."
        )
    if name.lower() not in _OPTIMIZERS:
        raise unknown("optimizer", name, _OPTIMIZERS)
    made = _OPTIMIZERS[name.lower()]
    if param is not None and not isinstance(param, Mapping):
        raise TypeError(
            f"optimizer_param must be a dict such as {{'lr': 0.01}}, not {kind(param)}."
        )
    settings = {"lr": 0.01} if param is None else dict(param)
    known = [field.name for field in dataclasses.fields(made) if field.init]
    for setting in settings:
        if setting not in known:
            raise unknown("optimizer_param", setting, known)
    return made(**settings)
