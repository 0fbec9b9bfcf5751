"""Initializers: their moments, limits and bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anyprop as ap
from anyprop.initializers import (
    INITIALIZERS,
    Normal,
    Orthogonal,
    VarianceScaling,
    Zeros,
    get_initializer,
)

D, M = 300, 500
VARIANCE = {
    "he": 2 / D,
    "lecun": 1 / D,
    "glorot": 2 / (D + M),
}


def draw(weights, shape=(D, M), seed=1):
    return get_initializer(weights)(np.random.default_rng(seed), shape)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("kind", VARIANCE)
def test_variances(kind, distribution):
    w = draw(f"{kind}_{distribution}")
    variance, n = VARIANCE[kind], w.size
    # Four standard errors of a mean and of a variance; that of a normal variance is the larger one.
    assert abs(w.mean()) < 4 * math.sqrt(variance / n)
    assert abs(w.var() / variance - 1) < 4 * math.sqrt(2 / n)
    kurtosis = np.mean(w**4) / variance**2
    assert kurtosis == pytest.approx({"normal": 3.0, "uniform": 1.8}[distribution], rel=0.02)


@pytest.mark.parametrize("kind", VARIANCE)
def test_uniform_limits(kind):
    w = draw(f"{kind}_uniform")
    limit = math.sqrt(3 * VARIANCE[kind])
    assert w.min() >= -limit
    assert w.max() < limit
    assert w.max() - w.min() > 0.9999 * 2 * limit


def test_the_glorot_limit_is_the_one_of_the_paper():
    """6 / (D + M) under the root, as PyTorch and Keras have it."""
    limit = math.sqrt(6 / (D + M))
    w = draw("glorot_uniform")
    assert 0.9999 * limit < np.abs(w).max() <= limit


def test_normal_scales_a_standard_normal():
    expected = np.random.default_rng(1).standard_normal((D, M))
    np.testing.assert_array_equal(draw(Normal(0.5)), 0.5 * expected)
    assert draw(Normal(0.5), (3,)).shape == (3,)


@pytest.mark.parametrize("shape", [(30, 30), (50, 20), (20, 50), (1, 7), (7, 1)])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_orthogonal(shape, gain):
    w = draw(Orthogonal(gain), shape)
    assert w.shape == shape
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(min(shape)), atol=1e-13)


def test_orthogonal_favours_no_direction():
    """A bare QR decomposition gives R a diagonal of one sign, and leans Q to one side."""
    first = [draw("orthogonal", (3, 3), seed)[0, 0] for seed in range(2000)]
    assert abs(np.mean(first)) < 4 * math.sqrt(1 / 3 / 2000)


def test_zeros():
    assert isinstance(get_initializer("zeros"), Zeros)
    assert (draw("zeros") == 0.0).all()


@pytest.mark.parametrize("weights", [*INITIALIZERS, "normal", "normal:0.5"])
def test_every_initializer_draws_float64_and_the_same_again(weights):
    for rng in (np.random.default_rng, np.random.RandomState):
        one, two = (get_initializer(weights)(rng(3), (4, 6)) for _ in range(2))
        assert one.shape == (4, 6)
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [*INITIALIZERS, "normal:0.01"])
def test_every_backend_gets_the_same_bits(backend, weights, dtype):
    net = ap.MLP([4, 6, 3])
    params = net.init(seed=8, xp=backend.xp, device=backend.device, dtype=dtype, weights=weights)
    expected = net.init(seed=8, dtype=dtype, weights=weights)
    assert str(params.flat.dtype).endswith(dtype)
    np.testing.assert_array_equal(backend.to_numpy(params.flat), expected.flat)
    np.testing.assert_array_equal(backend.to_numpy(params[0].b), np.zeros(6))


def test_the_start_of_the_book():
    """Its legacy global generator, seeded once, draws W1 and then W2."""
    np.random.seed(8)
    w1, w2 = 0.01 * np.random.randn(784, 50), 0.01 * np.random.randn(50, 10)
    params = ap.MLP([784, 50, 10]).init(
        seed=np.random.RandomState(8), dtype="float64", weights="normal:0.01"
    )
    np.testing.assert_array_equal(params[0].W, w1)
    np.testing.assert_array_equal(params[2].W, w2)
    np.testing.assert_array_equal(params[0].b, np.zeros(50))


def test_a_function_is_an_initializer():
    params = ap.Affine(2, 3).init(weights=lambda rng, shape: np.full(shape, 0.5))
    assert (params.W == 0.5).all()
    with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \(2, 3\)"):
        ap.Affine(2, 3).init(weights=lambda rng, shape: np.zeros(shape[::-1]))


def test_what_a_function_draws_must_be_real():
    with pytest.raises(TypeError, match="the initial W is complex128, expected real numbers"):
        ap.Affine(3, 2).init(weights=lambda rng, shape: np.ones(shape, complex))


def test_names():
    assert get_initializer("normal") == Normal(0.01)
    assert get_initializer("normal:1e-3") == Normal(0.001)
    assert get_initializer("he_normal") == VarianceScaling(2.0)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("he_norml", "unknown initializer 'he_norml'; did you mean 'he_normal'"),
        ("norml:0.1", "unknown initializer 'norml:0.1'; did you mean 'normal:0.01'"),
        ("xyz", "choose one of: .*glorot_normal.*normal:0.01"),
        ("normal:", "write a positive number, as in 'normal:0.01'"),
        ("normal:-1", "write a positive number"),
        ("normal:0", "write a positive number"),
        ("normal:nan", "write a positive number"),
        ("normal:big", "write a positive number"),
    ],
)
def test_wrong_names_raise(weights, words):
    with pytest.raises(ValueError, match=words):
        get_initializer(weights)
    with pytest.raises(ValueError, match=words):
        ap.Affine(2, 3).init(weights=weights)


@pytest.mark.parametrize("weights", [None, 0.01, 3])
def test_what_is_neither_name_nor_function_raises(weights):
    with pytest.raises(TypeError, match="weights must be a name or a function"):
        get_initializer(weights)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_wrong_parameters_raise(value):
    for make, name in ((Normal, "std"), (Orthogonal, "gain"), (VarianceScaling, "scale")):
        with pytest.raises(ValueError, match=f"{make.__name__}: {name} must be a positive"):
            make(value)
        with pytest.raises(TypeError, match=f"{make.__name__}: {name} must be a number"):
            make(str(value))


def test_wrong_words_raise():
    with pytest.raises(ValueError, match="unknown fan 'ins'; did you mean 'in'"):
        VarianceScaling(1.0, "ins")
    with pytest.raises(ValueError, match="unknown distribution 'gauss'; choose one of: normal"):
        VarianceScaling(1.0, distribution="gauss")


@pytest.mark.parametrize("weights", ["he_normal", "orthogonal"])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_only_matrices_have_fans(weights, shape):
    with pytest.raises(ValueError, match=r"draws matrices \(D, M\), not shape"):
        draw(weights, shape)


@pytest.mark.parametrize("seed", [-1, 0.5, "8", [-1]])
def test_a_seed_that_is_none_is_named(seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        ap.Affine(2, 3).init(seed=seed)


def test_the_default_seed_is_0():
    by_default, of_0, of_1 = (
        ap.Affine(2, 3).init(**seed).W for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    np.testing.assert_array_equal(by_default, of_0)
    assert not np.array_equal(of_0, of_1)
