"""Evaluation does not depend on the batches."""

import types

import numpy as np
import pytest

import anyprop as ap
from anyprop.parameters import Parameters
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.training import together
from backend_cases import CASES


@pytest.mark.parametrize("batch_size", [1, 7, 15, 29, 30, 1000])
@pytest.mark.parametrize("class_weight", [None, (1.0, 0.0, 3.0)])
def test_uneven_batches_give_the_loss_of_all_examples(problem, batch_size, class_weight):
    loss, params = ap.SoftmaxCrossEntropy(class_weight=class_weight), problem.params()
    y = problem.net.forward(params, problem.x)[0]
    wanted = float(loss.forward(y, problem.t)[0])
    result = ap.evaluate(problem.net, params, problem.data, loss=loss, batch_size=batch_size)
    assert isinstance(result, ap.Evaluation)
    assert type(result.loss) is float
    np.testing.assert_allclose(result.loss, wanted, rtol=1e-14)
    right = problem.numpy(y).argmax(axis=1) == problem.numpy(problem.t)
    assert result.accuracy == right.mean()


def test_a_loss_without_classes_tells_no_accuracy(problem):
    t = problem.backend.asarray(np.ones((30, 3)))
    loss = ap.MeanSquaredError()
    result = ap.evaluate(problem.net, problem.params(), (problem.x, t), loss=loss, batch_size=8)
    y = problem.numpy(ap.predict(problem.net, problem.params(), problem.x))
    np.testing.assert_allclose(result.loss, float(loss.forward(y, np.ones((30, 3)))[0]), rtol=1e-13)
    assert result.accuracy is None


def test_examples_without_a_weight_cannot_be_measured(problem):
    loss = ap.SoftmaxCrossEntropy(class_weight=[0.0, 1.0, 1.0])
    t = problem.backend.asarray(np.zeros(30, dtype="int64"))
    with pytest.raises(ValueError, match="data: no example has a weight above 0"):
        ap.evaluate(problem.net, problem.params(), (problem.x, t), loss=loss)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_predictions_are_the_forward_pass(problem, batch_size):
    params = problem.params()
    y = ap.predict(problem.net, params, problem.x, batch_size=batch_size)
    wanted = problem.net.forward(params, problem.x)[0]
    assert y.shape == (30, 3)
    assert y.dtype == problem.x.dtype
    np.testing.assert_allclose(problem.numpy(y), problem.numpy(wanted), rtol=1e-13)


def _of_each(net, params, x, rows):
    """The outputs of each batch by itself."""
    batches = (x[start : start + rows] for start in range(0, len(x), rows))
    return np.concatenate([net(params, x.astype("float32", copy=False)) for x in batches])


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize(
    "case",
    [
        *LAYER_CASES,
        LayerCase("column", ap.Affine(1, 4, bias=False)),
        LayerCase("wide", ap.MLP([37, 100, 100, 3], norm="layer", residual=True)),
    ],
    ids=str,
)
def test_batches_that_are_taken_together_have_the_bits_of_each(case, rows, rng):
    params = case.params(CASES["numpy"][0], "float32")
    x = case.x(rng, 5 * rows + rows // 2).astype("float32")
    for given in (x, np.asfortranarray(x), x.astype("int8"), np.asfortranarray(x.astype("int8"))):
        y = ap.predict(case.layer, params, given, batch_size=rows)
        assert y.tobytes() == _of_each(case.layer, params, given, rows).tobytes()


@pytest.mark.parametrize(
    "net",
    [
        ap.ReLU(),
        ap.Sequential(ap.ReLU(), ap.Affine(4, 4)),
        ap.Sequential(ap.Identity(), ap.ReLU()),
        ap.Sequential(ap.Affine(4, 4), ap.ReLU(), ap.Residual(ap.ReLU()), ap.ReLU()),
        ap.Sequential(ap.Affine(4, 4), ap.Residual(ap.Sequential(ap.ReLU(), ap.Affine(4, 4)))),
        ap.Sequential(ap.Affine(4, 4), ap.Residual(ap.Sequential(ap.Affine(4, 4), ap.ReLU()))),
    ],
    ids=str,
)
def test_batches_that_are_taken_together_are_rectified_where_nothing_else_reads(net, rng):
    params, x = net.init(seed=0), rng.standard_normal((20, 4)).astype("float32")
    before = x.copy()
    y = ap.predict(net, params, x, batch_size=5)
    assert x.tobytes() == before.tobytes()
    assert y.tobytes() == _of_each(net, params, x, 5).tobytes()


class _Centred(ap.Layer):
    """A layer that looks at the whole batch."""

    def forward(self, params, x):
        return x - x.mean(axis=0), None


@pytest.mark.parametrize("net", [_Centred(), ap.Sequential(ap.ReLU(), ap.Residual(_Centred()))])
def test_a_layer_of_ones_own_gets_one_batch_at_a_time(net, rng):
    params, x = net.init(), rng.standard_normal((9, 4)).astype("float32")
    y = ap.predict(net, params, x, batch_size=2)
    assert np.array_equal(y, _of_each(net, params, x, 2))


@pytest.mark.parametrize(("most", "calls"), [(600, 1 + 1), (200, 3 + 1), (100, 6 + 1), (99, 7)])
def test_layers_take_as_many_batches_at_a_time_as_the_bound_allows(most, calls, monkeypatch):
    net, seen, forward = ap.MLP([4, 10, 2], activation="tanh"), [], ap.Tanh.forward
    monkeypatch.setattr(together, "_MOST", most)
    monkeypatch.setattr(ap.Tanh, "forward", lambda *of: seen.append(len(of[2])) or forward(*of))
    ap.predict(net, net.init(), np.ones((63, 4), dtype="float32"), batch_size=10)
    assert len(seen) == calls
    assert sum(seen) == 63


def test_one_number_is_no_examples(problem):
    with pytest.raises(ValueError, match="x is one number; it needs a row for each example"):
        ap.predict(problem.net, problem.params(), problem.backend.xp.sum(problem.x))


def test_no_examples_have_no_predictions_and_cannot_be_measured(problem):
    params, none = problem.params(), (problem.x[:0, ...], problem.t[:0])
    assert ap.predict(problem.net, params, none[0]).shape == (0, 3)
    with pytest.raises(ValueError, match="no examples"):
        ap.evaluate(problem.net, params, none, loss=problem.loss)


def test_a_network_is_measured_as_it_works_not_as_it_trains(problem):
    """Dropout drops nothing, and BatchNorm does not look at the batch."""
    net = ap.Sequential(ap.Affine(4, 5), ap.BatchNorm(5), ap.Dropout(0.9), ap.Affine(5, 3))
    params = problem.with_(net=net).params()
    small, large = (
        ap.evaluate(net, params, problem.data, loss=problem.loss, batch_size=size).loss
        for size in (2, 30)
    )
    np.testing.assert_allclose(small, large, rtol=1e-13)
    np.testing.assert_allclose(
        problem.numpy(ap.predict(net, params, problem.x, batch_size=1)),
        problem.numpy(net.forward(params, problem.x)[0]),
        rtol=1e-12,
    )


def test_wrong_arguments(problem):
    params, x, t = problem.params(), problem.x, problem.t
    with pytest.raises(ValueError, match="the same number of rows"):
        ap.evaluate(problem.net, params, (x, t[:-1]), loss=problem.loss)
    with pytest.raises(ValueError, match=r"takes \(N, 4\)"):
        ap.evaluate(problem.net, params, (x[:, :3], t), loss=problem.loss)
    with pytest.raises(ValueError, match="batch_size"):
        ap.evaluate(problem.net, params, (x, t), loss=problem.loss, batch_size=0)
    with pytest.raises(ValueError, match="batch_size"):
        ap.predict(problem.net, params, x, batch_size=0)
    with pytest.raises(TypeError, match="float64"):
        ap.predict(problem.net, problem.params(dtype="float32"), x)
    for rows in (1000, 7):
        with pytest.raises(ValueError, match=r"x has shape \(30, 3\), expected \(N, 4\)"):
            ap.predict(problem.net, params, x[:, :3], batch_size=rows)


def test_parameters_of_another_network_are_refused(problem):
    """Those of a deeper one would compute something all the same."""
    net, deeper = ap.MLP([4, 3]), problem.with_(net=ap.MLP([4, 3, 3])).params()
    for params, error, message in (
        (deeper, ValueError, "params do not match net"),
        (deeper.flat, TypeError, r"params must be what net\.init\(\) returns"),
    ):
        with pytest.raises(error, match=message):
            ap.evaluate(net, params, problem.data, loss=problem.loss)
        with pytest.raises(error, match=message):
            ap.predict(net, params, problem.x)


def test_gradients_are_no_parameters(problem):
    problem = problem.with_(net=ap.MLP([4, 5, 3], norm="batch"))
    params = problem.params()
    with pytest.raises(ValueError, match="lack the running statistics"):
        ap.predict(problem.net, Parameters(params.layout, params.flat), problem.x)


def test_what_only_acts_as_a_layer_predicts():
    net = ap.MLP([4, 5, 3])
    params, x = net.init(), np.ones((2, 4), dtype="float32")
    acting = types.SimpleNamespace(specs=net.specs, forward=net.forward)
    assert np.array_equal(ap.predict(acting, params, x), net(params, x))
