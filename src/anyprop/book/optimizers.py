"""Optimizers that remember their state and update a dict of parameters."""

from __future__ import annotations

from dataclasses import dataclass

from anyprop.book.optimizer import BookOptimizer, remembered
from anyprop.optimizers import adagrad, adam, momentum, nesterov, rmsprop, sgd
from anyprop.optimizers.base import Optimizer


@dataclass
class SGD(BookOptimizer):
    """Stochastic gradient descent, p <- p - lr g.

    Parameters
    ----------
    lr : float > 0
        Learning rate.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.1.

    Examples
    --------
    >>> params = {"x": -7.0, "y": 2.0}
    >>> SGD(lr=0.5).update(params, {"x": -0.5, "y": 4.0})
    >>> params
    {'x': -6.75, 'y': 0.0}
    """

    lr: float = 0.01

    def _optimizer(self) -> Optimizer:
        return sgd.SGD(self.lr)


@dataclass
class Momentum(BookOptimizer):
    """Gradient descent with momentum, v <- momentum v - lr g, p <- p + v.

    Parameters
    ----------
    lr : float > 0
        Learning rate.
    momentum : float in [0, 1)
        Share of the velocity that stays.

    Attributes
    ----------
    v : dict of str to array, or None
        Velocities; None before the first update.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.1.
    """

    lr: float = 0.01
    momentum: float = 0.9

    v = remembered("v", negated=True)  # the core's velocity is what is subtracted

    def _optimizer(self) -> Optimizer:
        return momentum.Momentum(self.lr, momentum=self.momentum, lr_in_velocity=True)


@dataclass
class Nesterov(BookOptimizer):
    """Nesterov's accelerated gradient, v <- momentum v - lr g, p <- p + momentum v - lr g.

    Parameters
    ----------
    lr : float > 0
        Learning rate.
    momentum : float in [0, 1)
        Share of the velocity that stays.

    Attributes
    ----------
    v : dict of str to array, or None
        Velocities; None before the first update.

    References
    ----------
    Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k^2)", 1983.
    """

    lr: float = 0.01
    momentum: float = 0.9

    v = remembered("v", negated=True)

    def _optimizer(self) -> Optimizer:
        return nesterov.Nesterov(self.lr, momentum=self.momentum, lr_in_velocity=True)


@dataclass
class AdaGrad(BookOptimizer):
    """AdaGrad, h <- h + g^2, p <- p - lr g / (sqrt(h) + 1e-7).

    Parameters
    ----------
    lr : float > 0
        Learning rate.

    Attributes
    ----------
    h : dict of str to array, or None
        Sums of squared gradients; None before the first update.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.1.
    """

    lr: float = 0.01

    h = remembered("h")

    def _optimizer(self) -> Optimizer:
        return adagrad.AdaGrad.like("book", self.lr)


@dataclass
class RMSProp(BookOptimizer):
    """RMSProp, h <- rho h + (1 - rho) g^2, p <- p - lr g / (sqrt(h) + 1e-7); the book's `RMSprop`.

    Parameters
    ----------
    lr : float > 0
        Learning rate. At 0.1 the first step moves every weight by 1 and the network hardly
        recovers; 0.001 works.
    decay_rate : float in [0, 1)
        rho, the share of h that stays.

    Attributes
    ----------
    h : dict of str to array, or None
        Running means of squared gradients; None before the first update.

    References
    ----------
    Tieleman & Hinton, "Lecture 6.5: RMSProp", COURSERA: Neural Networks for Machine Learning, 2012.
    """

    lr: float = 0.01
    decay_rate: float = 0.99

    h = remembered("h")

    def _optimizer(self) -> Optimizer:
        return rmsprop.RMSProp.like("book", self.lr, rho=self.decay_rate)


RMSprop = RMSProp


@dataclass
class Adam(BookOptimizer):
    """Adam, whose 1e-7 is added to sqrt(v) before v is corrected for its start at 0.

    Parameters
    ----------
    lr : float > 0
        Learning rate.
    beta1, beta2 : float in [0, 1)
        Shares of m and of v that stay.

    Attributes
    ----------
    m, v : dict of str to array, or None
        Running means of gradients and of their squares; None before the first update.
    iter : int
        Updates done so far.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.1.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999

    m = remembered("m")
    v = remembered("v")

    @property
    def iter(self) -> int:
        return max((int(state.step) for state in self._states.values()), default=0)

    def _optimizer(self) -> Optimizer:
        return adam.Adam(
            self.lr, beta1=self.beta1, beta2=self.beta2, eps=1e-7, eps_before_correction=True
        )
