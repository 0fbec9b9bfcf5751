"""What a layer, a loss or an optimizer of one's own returns wrongly is named, and not used."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

import anyprop as ap

X = np.asarray([[1.0, 2.0], [3.0, 4.0]], "float32")  # two rows, which could be unpacked as a pair


@dataclass(frozen=True)
class Twice(ap.Layer):
    """Has a forward and a backward that return y and dx alone, if told to."""

    lone: str = ""

    def forward(self, params, x):
        return 2.0 * x if self.lone == "forward" else (2.0 * x, None)

    def backward(self, params, residuals, dy):
        return 2.0 * dy if self.lone == "backward" else (2.0 * dy, {})


@dataclass(frozen=True)
class Returns(ap.Loss):
    """Has a forward that returns what a function makes of the errors."""

    made: object

    def forward(self, y, t, *, sample_weight=None):
        return self.made(y - t)

    def backward(self, residuals, dvalue=1.0):
        return dvalue * residuals


@dataclass(frozen=True)
class Rule(ap.Optimizer):
    """Has a rule that returns what a function makes of the new parameter and the slot."""

    made: object = None

    def slots(self):
        return {"m": 0.0}

    def rule(self, xp):
        return lambda p, g, m, lr: self.made(p - lr * g, m)


def fit(net=None, loss=None, optimizer=None, **options):
    net = net or ap.Sequential(ap.Affine(2, 2), Twice(), ap.Affine(2, 2))
    given = {"loss": loss or ap.MeanSquaredError(), "optimizer": optimizer or ap.SGD(), **options}
    return ap.fit(net, net.init(), (X, X), **given)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize(
    "around",
    [
        lambda layer: layer,
        ap.Residual,
        lambda layer: ap.Sequential(ap.Affine(2, 2), layer, ap.Affine(2, 2)),
        lambda layer: ap.Sequential(ap.Affine(2, 2), ap.Residual(ap.Sequential(layer))),
    ],
)
def test_a_layer_returns_pairs(around, method, compile):
    with pytest.raises(TypeError, match=rf"^Twice\.{method} must return a pair.*not one array"):
        fit(around(Twice(method)), compile=compile)


def test_inference_takes_no_row_for_y():
    with pytest.raises(TypeError, match=r"^Twice\.forward must return a pair"):
        Twice("forward")(None, X)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(
    ("made", "error", "match"),
    [
        (
            lambda e: (e * e, e),
            ValueError,
            "the mean that Returns.forward returns has shape (2, 2)",
        ),
        (lambda e: e * e, TypeError, "Returns.forward must return a pair"),
        (lambda e: (ap.namespace(e).mean(e), e, e), TypeError, "not a tuple of 3"),
    ],
)
def test_a_loss_returns_a_mean_and_residuals(made, error, match, compile):
    with pytest.raises(error, match=re.escape(match)):
        fit(loss=Returns(made), compile=compile)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(
    ("made", "error", "match"),
    [
        (lambda p, m: p, TypeError, "the rule of Rule must return a tuple of 2"),
        (lambda p, m: (p,), TypeError, "not a tuple of 1"),
        (
            lambda p, m: (ap.namespace(p).sum(p), m),
            ValueError,
            "the rule of Rule returns has shape ()",
        ),
        (lambda p, m: (p, m[:1]), ValueError, "the rule of Rule returns has shape (1,)"),
    ],
)
def test_a_rule_returns_the_parameter_and_its_slots(made, error, match, compile):
    opt = Rule(made=made)
    with pytest.raises(error, match=re.escape(match)):
        fit(optimizer=opt, compile=compile)
    p = np.ones(2)  # of as many numbers as there are arrays
    with pytest.raises(error, match=re.escape(match)):
        opt.update(p, p, opt.init(p))
