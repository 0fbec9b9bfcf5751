"""BatchNorm and LayerNorm: what they compute from data."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap


def test_batch_norm_standardizes_features_and_layer_norm_rows(backend, rng):
    x = backend.asarray(100.0 + 5.0 * rng.standard_normal((50, 40)))
    for layer, axis in ((ap.BatchNorm(40, eps=1e-12), 0), (ap.LayerNorm(40, eps=1e-12), 1)):
        params = layer.init(dtype="float64", xp=backend.xp, device=backend.device)
        y = backend.to_numpy(layer.forward_train(params, x, None)[0])
        np.testing.assert_allclose(y.mean(axis=axis), 0.0, atol=1e-12)
        np.testing.assert_allclose(y.std(axis=axis), 1.0, atol=1e-12)


def test_running_statistics_approach_those_of_the_data(rng):
    layer = ap.BatchNorm(3)
    params = layer.init(dtype="float64")
    means, stds = np.asarray([-5.0, 0.0, 100.0]), np.asarray([0.1, 1.0, 20.0])
    for _ in range(200):
        x = means + stds * rng.standard_normal((200, 3))
        _, residuals = layer.forward_train(params, x, None)
        updated = layer.updated_running(params, residuals)
        params = params.replace(running=np.concatenate([updated["mean"], updated["var"]]))
    np.testing.assert_allclose((params.mean - means) / stds, 0.0, atol=0.1)
    np.testing.assert_allclose(params.var, stds**2, rtol=0.1)
    y = layer.forward(params, means[None, :] + stds)[0]
    np.testing.assert_allclose(y, 1.0, atol=0.2)


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_without_variance_leaves_the_running_statistics(n, backend, rng):
    net = ap.Sequential(ap.BatchNorm(3), ap.Affine(3, 2))
    params = net.init(8, dtype="float64", xp=backend.xp, device=backend.device)
    x = backend.asarray(rng.standard_normal((n, 3)))
    t = backend.asarray(rng.standard_normal((n, 2)))
    _, grads, running = ap.value_and_grad(net, ap.MeanSquaredError(), running=True)(params, x, t)
    np.testing.assert_array_equal(backend.to_numpy(running), [0, 0, 0, 1, 1, 1])
    assert np.isfinite(backend.to_numpy(grads.flat)).all()


@pytest.mark.parametrize("layer", [ap.BatchNorm, ap.LayerNorm])
@pytest.mark.parametrize(
    ("options", "error"),
    [({"d": 0}, ValueError), ({"d": 2.5}, TypeError), ({"d": 3, "eps": 0.0}, ValueError)],
)
def test_impossible_settings_are_refused(layer, options, error):
    with pytest.raises(error, match=layer.__name__):
        layer(**options)


def test_one_row_is_its_own_mean(backend):
    layer, x = ap.BatchNorm(3), backend.asarray(np.asarray([[2.0, -4.0, 8.0]]))
    params = layer.init(dtype="float64", xp=backend.xp, device=backend.device)
    y, _ = layer.forward_train(params, x, None)
    np.testing.assert_array_equal(backend.to_numpy(y), np.zeros((1, 3)))
