"""gradcheck finds what is wrong, names it, and accepts what is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import namespace
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, mean_over_entries
from anyprop.losses.registry import LOSSES
from anyprop.testing.place import Place
from arrays import assert_beside

# Layers and losses as a user may get them wrong, one mistake in each.


class AffineThatForgetsTheBias(ap.Affine):
    def backward_params(self, params, residuals, dy):
        grads = super().backward_params(params, residuals, dy)
        return {"W": grads["W"], "b": 0.0 * grads["b"]}


class AffineThatTakesTheMean(ap.Affine):
    def backward_params(self, params, residuals, dy):
        grads = super().backward_params(params, residuals, dy)
        return {"W": grads["W"] / dy.shape[0], "b": grads["b"]}


class AffineThatTransposesItsGradient(ap.Affine):
    def backward_params(self, params, residuals, dy):
        grads = super().backward_params(params, residuals, dy)
        return {"W": grads["W"].T, "b": grads["b"]}


class AffineThatLosesAName(ap.Affine):
    def backward_params(self, params, residuals, dy):
        return {"W": super().backward_params(params, residuals, dy)["W"]}


class AffineThatInventsAName(ap.Affine):
    def backward_params(self, params, residuals, dy):
        return super().backward_params(params, residuals, dy) | {"c": dy}


class AffineThatIgnoresDy(ap.Affine):
    def backward(self, params, residuals, dy):
        return super().backward(params, residuals, 0.0 * dy + 1.0)


class AffineWithAnotherBackwardParams(ap.Affine):
    def backward(self, params, residuals, dy):
        grads = ap.Affine.backward_params(self, params, residuals, dy)
        return namespace(dy).matmul(dy, params.W.T), grads

    def backward_params(self, params, residuals, dy):
        grads = super().backward_params(params, residuals, dy)
        return {name: 2.0 * g for name, g in grads.items()}


class AffineWithAnotherOutputShape(ap.Affine):
    def output_shape(self, shape):
        return shape


class AffineOfLessPrecision(ap.Affine):
    def backward(self, params, residuals, dy):
        dx, grads = super().backward(params, residuals, dy)
        xp = namespace(dx)
        return xp.astype(dx, xp.float32), grads


class LayerNormThatForgetsItsGain(ap.LayerNorm):
    def backward(self, params, residuals, dy):
        without = params.replace(flat=0.0 * params.flat + 1.0)
        return super().backward(without, residuals, dy)[0], super().backward(params, residuals, dy)[
            1
        ]


class BatchNormThatForgetsTheBatch(ap.BatchNorm):
    def backward(self, params, residuals, dy):
        return super().backward(params, residuals._replace(batch=None), dy)


class SoftmaxThatIsASigmoid(ap.Softmax):
    def backward(self, params, residuals, dy):
        return dy * residuals * (1.0 - residuals), {}


class DropoutThatForgetsItsScale(ap.Dropout):
    def backward(self, params, residuals, dy):
        shape, mask = residuals
        kept = None if mask is None else mask * (1.0 - self.rate)
        return super().backward(params, (shape, kept), dy)


class ReLUThatWritesIntoDy(ap.ReLU):
    def backward(self, params, residuals, dy):
        dy[residuals <= 0.0] = 0.0
        return dy, {}


class ReLUThatWritesIntoX(ap.ReLU):
    def forward(self, params, x):
        x[x < 0.0] = 0.0
        return x, x


class TanhThatUsesUpItsResiduals(ap.Tanh):
    def backward(self, params, residuals, dy):
        dx, grads = super().backward(params, residuals, dy)
        residuals *= 0.5
        return dx, grads


class TanhThatGivesOneRow(ap.Tanh):
    def backward(self, params, residuals, dy):
        return super().backward(params, residuals, dy)[0][:1, :], {}


class TanhThatGivesNothing(ap.Tanh):
    def backward(self, params, residuals, dy):
        return super().backward(params, residuals, dy)[0] * float("nan"), {}


@dataclass(frozen=True)
class Scale(Layer):
    """A right one, as small as the contract allows."""

    def specs(self):
        return {"gain": ap.Affine(1, 1).specs()["b"]}

    def forward(self, params, x):
        return params.gain * x, x

    def backward(self, params, residuals, dy):
        return params.gain * dy, {
            "gain": namespace(dy).reshape(namespace(dy).sum(dy * residuals), (1,))
        }


WRONG_LAYERS = [
    (AffineThatForgetsTheBias(3, 2), r"b\[\d\]: backward says -?0, differences say"),
    (AffineThatTakesTheMean(3, 2), r"W\[\d, \d\]: backward says"),
    (AffineThatTransposesItsGradient(3, 2), r"gradient of W has shape \(2, 3\), expected \(3, 2\)"),
    (AffineThatLosesAName(3, 2), "gives gradients of W, but the parameters are W, b"),
    (AffineThatInventsAName(3, 2), "gives gradients of W, b, c, but the parameters are W, b"),
    (AffineThatIgnoresDy(3, 2), r"\]: backward says"),
    (AffineWithAnotherBackwardParams(3, 2), r"\]: backward_params says"),
    (AffineWithAnotherOutputShape(3, 2), r"y of shape \(4, 2\), but output_shape says \(4, 3\)"),
    (AffineOfLessPrecision(3, 2), "dx is float32, expected float64"),
    (LayerNormThatForgetsItsGain(3), r"x\[\d, \d\]: backward says"),
    (BatchNormThatForgetsTheBatch(3), r"x\[\d, \d\]: backward says"),
    (SoftmaxThatIsASigmoid(), r"x\[\d, \d\]: backward says"),
    (DropoutThatForgetsItsScale(0.5), r"x\[\d, \d\]: backward says"),
    (ReLUThatWritesIntoDy(), "backward writes into dy"),
    (ReLUThatWritesIntoX(), "forward writes into x"),
    (TanhThatUsesUpItsResiduals(), "writes into the residuals"),
    (TanhThatGivesOneRow(), r"dx has shape \(1, 3\), expected \(4, 3\)"),
    (TanhThatGivesNothing(), "backward says nan"),
]


@pytest.mark.parametrize(("layer", "message"), WRONG_LAYERS, ids=lambda p: type(p).__name__)
def test_a_wrong_layer_is_found(layer, message, rng):
    with pytest.raises(ap.GradcheckError, match=message):
        ap.gradcheck(layer, rng.standard_normal((4, 3)))


# The network itself calls `backward` of all its layers but the first that has parameters.
@pytest.mark.parametrize(
    "layer",
    [layer for layer, message in WRONG_LAYERS if ": backward says" in message],
    ids=lambda layer: type(layer).__name__,
)
def test_a_wrong_layer_is_found_inside_a_network(layer):
    width = layer.output_shape((1, 3))[1]
    block = ap.Residual(ap.Sequential(ap.Tanh(), ap.Affine(3, 3)))
    net = ap.Sequential(ap.Affine(3, 3), block, layer, ap.Affine(width, 2))
    with pytest.raises(ap.GradcheckError, match=r"(x|\d\.[\w.]+)\[.*\]: backward says"):
        ap.gradcheck(net)


def test_the_message_names_the_worst_entry_and_counts_the_wrong_ones(rng):
    class OneWrongEntry(ap.Affine):
        def backward_params(self, params, residuals, dy):
            grads = super().backward_params(params, residuals, dy)
            bump = np.zeros((4, 2))
            bump[3, 1] = 0.5
            bump[0, 0] = 0.25
            return grads | {"W": grads["W"] + bump}

    with pytest.raises(AssertionError) as caught:
        ap.gradcheck(ap.Sequential(OneWrongEntry(4, 2)), rng.standard_normal((3, 4)))
    assert str(caught.value).startswith("0.W[3, 1]: backward says ")
    # 2 entries of W, in backward and backward_params, in training and at inference
    assert str(caught.value).endswith("(8 of 64 numbers are wrong)")


class SquaredErrorThatIgnoresDvalue(ap.MeanSquaredError):
    def backward(self, residuals, dvalue=1.0):
        return super().backward(residuals, 1.0)


class SquaredErrorWithoutItsFactor(ap.MeanSquaredError):
    def backward(self, residuals, dvalue=1.0):
        return 0.5 * super().backward(residuals, dvalue)


class SquaredErrorThatForgetsTheWeights(ap.MeanSquaredError):
    def backward(self, residuals, dvalue=1.0):
        difference, *_ = residuals
        n, k = difference.shape
        return difference * (2.0 / (n * k) * dvalue)


class SquaredErrorOfOneRow(ap.MeanSquaredError):
    def backward(self, residuals, dvalue=1.0):
        return super().backward(residuals, dvalue)[0, :]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (SquaredErrorThatIgnoresDvalue(), r"y\[\d, \d\]: backward says"),
        (SquaredErrorWithoutItsFactor(), r"y\[\d, \d\]: backward says"),
        (SquaredErrorThatForgetsTheWeights(), r"y\[\d, \d\]: backward says"),
        (SquaredErrorOfOneRow(), r"dy has shape \(3,\), expected \(4, 3\)"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_a_wrong_loss_is_found(loss, message):
    with pytest.raises(ap.GradcheckError, match=message):
        ap.gradcheck(loss)


def test_a_loss_that_is_wrong_is_found_through_value_and_grad():
    net = ap.MLP([3, 4, 2], "tanh")
    with pytest.raises(ap.GradcheckError, match=r"value_and_grad says"):
        ap.gradcheck(net, loss=SquaredErrorWithoutItsFactor())
    assert ap.gradcheck(net, loss=ap.MeanSquaredError()).worst.error < 1e-8


class FourthPower(Loss):
    """A right loss of a user, without check_targets."""

    def forward(self, y, t, *, sample_weight=None):
        d = y - t
        value, scale = mean_over_entries(namespace(y), d**4, sample_weight)
        return value, (d, scale)

    def backward(self, residuals, dvalue=1.0):
        d, scale = residuals
        return 4.0 * d**3 * (scale * dvalue)


def test_right_ones_pass_and_the_report_reads(backend, rng):
    x = backend.asarray(rng.standard_normal((4, 3)))
    for target in (Scale(), ap.Sequential(ap.Affine(3, 3), Scale()), FourthPower()):
        report = ap.gradcheck(target, x)
        assert report.worst.error < 1e-8
        assert str(report).startswith(f"{report.checked} numbers compared; worst is ")
        assert max(report.errors.values()) == report.worst.error
    report = ap.gradcheck(Scale(), x)
    assert set(report.errors) == {"x", "gain"}
    assert report.checked == 13


@pytest.mark.parametrize("loss", LOSSES.values())
def test_every_loss_gets_targets_it_accepts(loss):
    assert ap.gradcheck(loss()).checked == 24


def test_targets_that_cannot_be_guessed_are_asked_for():
    class Picky(ap.MeanSquaredError):
        def check_targets(self, t, width):
            raise ValueError("no")

    with pytest.raises(ValueError, match="pass t"):
        ap.gradcheck(Picky())
    assert ap.gradcheck(Picky(), np.ones((2, 2)), t=np.zeros((2, 2))).checked == 8


def test_what_is_given_is_used(backend, rng):
    layer = ap.Dropout(0.5)
    x = backend.asarray(rng.standard_normal((4, 3)))
    mask = np.zeros((4, 3), dtype=bool)
    mask[2, 1] = True
    seen = []

    class Spy(ap.Dropout):
        def forward_train(self, params, x, noise):
            assert_beside(noise, x, "bool")
            seen.append(backend.to_numpy(noise))
            return super().forward_train(params, x, noise)

    ap.gradcheck(Spy(0.5), x, noise=mask)
    np.testing.assert_array_equal(seen[0], mask)
    assert ap.gradcheck(layer, x, params=layer.init(dtype="float64", xp=backend.xp,
                                                    device=backend.device)).checked == 24  # fmt: skip


def test_a_seed_fixes_the_result():
    first, again, other = (ap.gradcheck(ap.MLP([3, 3, 2], "tanh"), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_tolerance_can_be_failed():
    with pytest.raises(ap.GradcheckError, match="backward says"):
        ap.gradcheck(ap.GELU(), np.linspace(-3.0, 3.0, 10)[:, None], h=1e-2, tol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ap.gradcheck(ap.ReLU()), ValueError, "how wide x is for ReLU.*pass x"),
        (lambda: ap.gradcheck(ap.ReLU), TypeError, "did you forget the"),
        (lambda: ap.gradcheck(ap.ReLU(), np.ones((2, 2), "float32")), TypeError, "x is float32"),
        (lambda: ap.gradcheck(ap.ReLU(), [[1.0]]), TypeError, "not an Array API array"),
        (lambda: ap.gradcheck(ap.ReLU(), np.zeros((0, 2))), ValueError, "nothing to compare"),
        (lambda: ap.gradcheck(ap.Huber(), np.ones((2, 2), "float32")), TypeError, "x is float32"),
        (lambda: ap.gradcheck(ap.Huber(), loss=ap.Huber()), TypeError, "of a loss takes"),
        (lambda: ap.gradcheck(ap.Affine(2, 2), t=np.ones((2, 2))), TypeError, "only with loss"),
        (lambda: ap.gradcheck(ap.Affine(2, 2), h=0.0), ValueError, "h must be a positive"),
        (lambda: ap.gradcheck(ap.Affine(2, 2), tol="x"), TypeError, "tol must be a number"),
        (lambda: ap.gradcheck(ap.Affine(2, 2), params=ap.Affine(2, 2).init()), TypeError,
         "params is float32"),
        (lambda: ap.gradcheck(ap.Affine(2, 2), Place("array_api_strict").asarray(np.ones((2, 2))),
                              params=ap.Affine(2, 2).init(dtype="float64")), TypeError,
         "x belongs to array_api_strict, but params to numpy"),
    ],
)  # fmt: skip
def test_wrong_calls_are_told_so(call, error, message):
    with pytest.raises(error, match=message):
        call()
