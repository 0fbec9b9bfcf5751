"""The equations of the derivations, written down once more in NumPy and checked by numbers.

Nothing here comes from anyprop: forward and backward are copied from the pages, gradients are compared
with central differences, and what the optimizers' pages conclude is tried on the recurrence that they
start from. The pages' own checks compare the library with the equations; these compare the equations
with the mathematics.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

RNG = np.random.default_rng(8)
N, D, M = 5, 4, 3
X, DY = RNG.standard_normal((N, D)), RNG.standard_normal((N, D))
W, B = RNG.standard_normal((D, M)), RNG.standard_normal(M)
GAMMA, BETA, EPS = RNG.standard_normal(D), RNG.standard_normal(D), 1e-5


def differences(value, x, h=1e-6):
    """Central differences of value(x), a number, by every entry of x."""
    found = np.empty_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = h
        found[i] = (value(x + e) - value(x - e)) / (2 * h)
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def standardized(x, axis):
    c = x - x.mean(axis=axis, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(axis=axis, keepdims=True) + EPS)
    return c * r, r


def norm_backward(x, dz, axis):
    z, r = standardized(x, axis)
    mean = lambda a: a.mean(axis=axis, keepdims=True)  # noqa: E731
    return r * (dz - mean(dz) - z * mean(dz * z))


def gelu_slope(x):
    c, a = math.sqrt(2 / math.pi), 0.044715
    h = np.tanh(c * (x + a * x**3))
    return ((1 + h) + x * (1 - h**2) * c * (1 + 3 * a * x**2)) / 2


def mask_of(x):
    return (np.arange(x.size).reshape(x.shape) % 3 > 0) / (1 - 1 / 3)


# page -> y of x, dx of x and dy; y is what `dy` belongs to
LAYERS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x, dy: dy * (x > 0)),
    "leaky_relu": (
        lambda x: np.maximum(x, 0.1 * x),
        lambda x, dy: dy * (0.1 + 0.9 * (np.maximum(x, 0.1 * x) > 0)),
    ),
    "elu": (
        lambda x: np.maximum(x, 0) + 0.7 * (np.exp(np.minimum(x, 0)) - 1),
        lambda x, dy: dy * np.where(x > 0, 1, 0.7 * (np.exp(np.minimum(x, 0)) - 1) + 0.7),
    ),
    "gelu": (
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        lambda x, dy: dy * gelu_slope(x),
    ),
    "silu": (
        lambda x: x * sigmoid(x),
        lambda x, dy: dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    ),
    "sigmoid": (sigmoid, lambda x, dy: dy * sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x, dy: dy * (1 - np.tanh(x) ** 2)),
    "softplus": (
        lambda x: np.log(1 + np.exp(x)),
        lambda x, dy: dy * (1 - np.exp(-np.log(1 + np.exp(x)))),
    ),
    "softmax": (
        softmax,
        lambda x, dy: softmax(x) * (dy - (dy * softmax(x)).sum(axis=1, keepdims=True)),
    ),
    "identity": (lambda x: x, lambda x, dy: dy),
    "rescale": (lambda x: GAMMA * x + BETA, lambda x, dy: dy * GAMMA),
    "dropout": (lambda x: x * mask_of(x), lambda x, dy: dy * mask_of(x)),
    "batch_norm": (
        lambda x: GAMMA * standardized(x, 0)[0] + BETA,
        lambda x, dy: norm_backward(x, dy * GAMMA, 0),
    ),
    "layer_norm": (
        lambda x: GAMMA * standardized(x, 1)[0] + BETA,
        lambda x, dy: norm_backward(x, dy * GAMMA, 1),
    ),
    "residual": (lambda x: x + np.tanh(x), lambda x, dy: dy + dy * (1 - np.tanh(x) ** 2)),
    "sequential": (
        lambda x: np.tanh(sigmoid(x)),
        lambda x, dy: dy * (1 - np.tanh(sigmoid(x)) ** 2) * sigmoid(x) * (1 - sigmoid(x)),
    ),
}


@pytest.mark.parametrize("page", LAYERS)
def test_the_backward_pass_of_a_layer(page):
    forward, backward = LAYERS[page]
    numbers = differences(lambda x: float((DY * forward(x)).sum()), X)
    np.testing.assert_allclose(backward(X, DY), numbers, rtol=1e-7, atol=1e-8)


def test_affine():
    dy = RNG.standard_normal((N, M))
    value = lambda x, w, b: float((dy * (x @ w + b)).sum())  # noqa: E731
    for formula, numbers in (
        (dy @ W.T, differences(lambda x: value(x, W, B), X)),
        (X.T @ dy, differences(lambda w: value(X, w, B), W)),
        (dy.sum(axis=0), differences(lambda b: value(X, W, b), B)),
    ):
        np.testing.assert_allclose(formula, numbers, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("axis", [0, 1])
def test_gain_and_shift_of_a_norm(axis):
    z, _ = standardized(X, axis)
    value = lambda gamma, beta: float((DY * (gamma * z + beta)).sum())  # noqa: E731
    gamma = differences(lambda gamma: value(gamma, BETA), GAMMA)
    beta = differences(lambda beta: value(GAMMA, beta), BETA)
    np.testing.assert_allclose((DY * z).sum(axis=0), gamma, rtol=1e-7)
    np.testing.assert_allclose(DY.sum(axis=0), beta, rtol=1e-7)


def test_moments_of_two_portions():
    x = RNG.standard_normal((12, D)) + 3.0
    first, rest = x[:5], x[5:]
    n, k = len(first), len(rest)
    M, m = first.mean(axis=0), rest.mean(axis=0)
    S, r = ((first - M) ** 2).sum(axis=0), ((rest - m) ** 2).sum(axis=0)
    d = m - M
    np.testing.assert_allclose(M + d * k / (n + k), x.mean(axis=0), rtol=1e-13)
    squares = S + r + d**2 * n * k / (n + k)
    np.testing.assert_allclose(squares, 12 * x.var(axis=0), rtol=1e-13)


def test_the_variance_of_a_batch_is_too_small_by_one_over_n():
    batches = np.random.default_rng(0).standard_normal((200_000, N))
    assert batches.var(axis=1).mean() == pytest.approx((N - 1) / N, rel=5e-3)


# Losses: y and targets (N, D), weights of rows

T = RNG.uniform(0.1, 0.9, (N, D))
ROWS = RNG.uniform(0.5, 2.0, N)
Z = ROWS.sum()
LABELS = np.eye(D)[[0, 2, 1, 3, 2]]
CLASSES = np.array([1.0, 2.0, 0.5, 3.0])


def clipped(d, delta=0.6):
    return np.clip(d, -delta, delta)


def sigmoid_loss(y):
    q = np.where(y > 0, 1 - T, T)
    return np.abs(y) * q + np.log(1 + np.exp(-np.abs(y)))


LOSSES = {
    "mean_squared_error": (lambda y: (y - T) ** 2, lambda y: 2 * (y - T)),
    "mean_absolute_error": (lambda y: np.abs(y - T), lambda y: np.sign(y - T)),
    "huber": (
        lambda y: clipped(y - T) * (y - T - clipped(y - T) / 2),
        lambda y: clipped(y - T),
    ),
    "poisson_nll": (lambda y: np.exp(y) - T * y, lambda y: np.exp(y) - T),
    "sigmoid_cross_entropy": (sigmoid_loss, lambda y: sigmoid(y) - T),
}


@pytest.mark.parametrize("page", LOSSES)
def test_the_gradient_of_a_loss(page):
    each, slope = LOSSES[page]
    value = lambda y: float((ROWS * each(y).mean(axis=1)).sum() / Z)  # noqa: E731
    formula = slope(X) * (ROWS / (D * Z))[:, None]
    np.testing.assert_allclose(formula, differences(value, X), rtol=1e-6, atol=1e-9)


def test_the_stable_form_of_the_sigmoid_cross_entropy():
    p = sigmoid(X)
    np.testing.assert_allclose(
        sigmoid_loss(X), -T * np.log(p) - (1 - T) * np.log(1 - p), rtol=1e-12
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy(smoothing):
    target = (1 - smoothing) * LABELS + smoothing / D
    z = (ROWS * (LABELS * CLASSES).sum(axis=1)).sum()  # q is of T before smoothing
    weighted = CLASSES * target
    value = lambda y: -float((ROWS[:, None] * weighted * np.log(softmax(y))).sum() / z)  # noqa: E731
    formula = (softmax(X) * weighted.sum(axis=1, keepdims=True) - weighted) * (ROWS / z)[:, None]
    np.testing.assert_allclose(formula, differences(value, X), rtol=1e-6, atol=1e-9)


# Optimizers: what the pages conclude, tried on the recurrence


def test_sgd_noise_and_best_rate():
    lr, a, sigma, v = 0.3, 2.0, 0.7, 0.0
    for _ in range(1000):
        v = (1 - lr * a) ** 2 * v + lr**2 * sigma**2
    assert v == pytest.approx(lr * sigma**2 / (a * (2 - lr * a)))
    rates = np.linspace(0.001, 0.0199, 2000)
    best = rates[np.argmin(np.maximum(np.abs(1 - rates), np.abs(1 - 100 * rates)))]
    assert best == pytest.approx(2 / 101, abs=1e-4)


@pytest.mark.parametrize("mu", [0.5, 0.9])
def test_momentum_and_nesterov_on_a_parabola(mu):
    def radius(lr_a, *, ahead):
        # (p, lr v) -> (p, lr v), from the rule; the gradient is a p
        v = np.array([lr_a, mu])
        p = np.array([1.0, 0.0]) - (np.array([lr_a, 0.0]) + mu * v if ahead else v)
        return np.abs(np.linalg.eigvals(np.array([p, v]))).max()

    low, high = (1 - math.sqrt(mu)) ** 2, (1 + math.sqrt(mu)) ** 2
    for lr_a in np.linspace(low + 1e-3, high - 1e-3, 50):
        assert radius(lr_a, ahead=False) == pytest.approx(math.sqrt(mu), rel=1e-9)
    assert radius(high + 0.05, ahead=False) > math.sqrt(mu) + 1e-3
    for ahead, limit in ((False, 2 * (1 + mu)), (True, (2 + 2 * mu) / (1 + 2 * mu))):
        assert radius(limit - 1e-3, ahead=ahead) < 1 < radius(limit + 1e-3, ahead=ahead)
    q = 0.5  # complex: (1 + mu)^2 q < 4 mu
    assert (1 + mu) ** 2 * q < 4 * mu
    assert radius(1 - q, ahead=True) == pytest.approx(math.sqrt(mu * q), rel=1e-9)


def test_adagrads_bound_and_sum():
    g, R = RNG.standard_normal(50), 3.0
    bound = lambda eta: R**2 / (2 * eta) + eta / 2 * (g**2).sum()  # noqa: E731
    eta = R / math.sqrt((g**2).sum())
    assert bound(eta) < min(bound(0.99 * eta), bound(1.01 * eta))
    for steps in (1, 2, 10, 1000):
        total = (1 / np.sqrt(np.arange(1, steps + 1))).sum()
        assert 2 * math.sqrt(steps + 1) - 2 < total <= 2 * math.sqrt(steps) - 1


def averages(g, rho):
    """Return the exponential average of g, step by step."""
    found, h = [], 0.0
    for entry in g:
        h = rho * h + (1 - rho) * entry
        found.append(h)
    return np.asarray(found)


@pytest.mark.parametrize("rho", [0.9, 0.99])
def test_rmsprops_average(rho):
    k = np.arange(20_000)
    weights = (1 - rho) * rho**k
    assert (k * weights).sum() == pytest.approx(rho / (1 - rho))
    assert 1 / (weights**2).sum() == pytest.approx((1 + rho) / (1 - rho))
    np.testing.assert_allclose(averages(np.ones(60), rho), 1 - rho ** np.arange(1, 61))
    t = np.arange(1, 301)
    variance = averages(np.full(300, 25.0), rho) - averages(np.full(300, 5.0), rho) ** 2
    np.testing.assert_allclose(variance, (1 - rho**t) * rho**t * 25, rtol=1e-7, atol=1e-12)


def test_rmsprops_cycle_has_half_the_rate():
    for a in (1.0, 100.0):
        p, h, lr, rho = 3.0, 0.0, 0.01, 0.9
        for _ in range(5000):
            h = rho * h + (1 - rho) * (a * p) ** 2
            p -= lr * a * p / math.sqrt(h)
        assert abs(p) == pytest.approx(lr / 2, rel=1e-3)


def test_adadeltas_steps_grow_with_the_root():
    eps, rho, h, d = 1e-6, 0.9, 9.0, 0.0
    for t in range(1, 5001):
        h = rho * h + (1 - rho) * 9.0
        u = 3.0 * math.sqrt(d + eps) / math.sqrt(h + eps)
        assert u == pytest.approx(math.sqrt(eps * (1 + (1 - rho) * (t - 1))), rel=1e-3)
        d = rho * d + (1 - rho) * u**2


def test_adams_largest_step_and_its_noise():
    b1, b2 = 0.9, 0.999
    bound = (1 - b1) / math.sqrt((1 - b2) * (1 - b1**2 / b2))
    k = np.arange(400)
    a, b = (1 - b1) * b1**k, (1 - b2) * b2**k
    step = lambda g: abs((a * g).sum()) / math.sqrt((b * g * g).sum())  # noqa: E731
    assert step(a / b) == pytest.approx(bound, rel=1e-9)
    rng = np.random.default_rng(1)
    assert max(step(rng.standard_normal(400) * 0.9**k) for _ in range(500)) < bound
    assert bound > step(np.ones(400) * (k < 12)) > step(np.where(k == 0, 1.0, 0.0))
    noise = averages(rng.standard_normal(100_000), b1)[100:]
    assert noise.std() == pytest.approx(math.sqrt((1 - b1) / (1 + b1)), rel=0.02)


def test_adamaxs_largest_step():
    b1, b2 = 0.9, 0.999
    bound = (1 - b1) / (1 - b1 / b2)
    m = u = worst = 0.0
    for g in 1.001 ** -np.arange(5000.0)[::-1]:  # grows by 1 / b2: reaches the bound
        m, u = b1 * m + (1 - b1) * g, max(b2 * u, g)
        worst = max(worst, m / u)
    assert worst <= bound * (1 + 1e-12)
    fading = [0.999 ** -(k - 300.0) for k in range(300, 0, -1)]
    m = u = 0.0
    for g in fading:
        m, u = b1 * m + (1 - b1) * g, max(b2 * u, g)
    assert m / u == pytest.approx(bound, rel=1e-6)


def test_nadams_product_and_first_step():
    b1, psi, t = 0.9, 0.004, 500
    mu = lambda i: b1 * (1 - 0.5 * 0.96 ** (i * psi))  # noqa: E731
    q, k = 0.96**psi, np.arange(1, 60)
    closed = t * math.log(b1) - (0.5**k / k * q**k * (1 - q ** (k * t)) / (1 - q**k)).sum()
    assert closed == pytest.approx(sum(math.log(mu(i)) for i in range(1, t + 1)), rel=1e-12)
    assert mu(2) * (1 - b1) / (1 - mu(1) * mu(2)) + 1 == pytest.approx(1.056, abs=5e-4)


def test_radams_number_of_gradients():
    beta = 0.999
    infinite = 2 / (1 - beta) - 1
    n = lambda t: infinite - 2 * t * beta**t / (1 - beta**t)  # noqa: E731
    assert n(1) == pytest.approx(1.0)
    assert next(t for t in range(1, 10) if n(t) > 5) == 6
    # the mean age of the corrected average is that of a plain one over n gradients
    for t in (1, 10, 500):
        k = np.arange(t)
        age = (k * beta**k).sum() / (beta**k).sum()
        assert age == pytest.approx((n(t) - 1) / 2, rel=1e-6, abs=1e-9)
    # the moments of 1 / v for v a mean of n squares
    few = 12
    v = (np.random.default_rng(2).standard_normal((400_000, few)) ** 2).mean(axis=1)
    assert (1 / v).mean() == pytest.approx(few / (few - 2), rel=5e-3)
    variance = 2 * few**2 / ((few - 2) ** 2 * (few - 4))
    assert (1 / v).var() == pytest.approx(variance, rel=5e-2)


def test_rprops_growth():
    step, way = 1.0, 0.0
    for t in range(1, 15):
        way += step
        assert way == pytest.approx((1.2**t - 1) / 0.2)
        step *= 1.2
    assert 1.2**12 < 10 < 1.2**13


def test_adamw_and_lion_stay_within_one_over_the_decay():
    lr, decay, p = 1e-2, 0.5, 10.0
    for _ in range(5000):
        p = p - lr * decay * p + lr  # every step pushes the same way
    assert p == pytest.approx(1 / decay)
    assert (1 - 1e-5) ** (math.log(2) / 1e-5) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("rho", [0.9, 0.99, 0.999, 0.9999])
def test_rmsprop_climbs_where_large_gradients_are_rare_beside_its_memory(rho):
    def fall(n):
        """How far p falls in a round of one gradient of 10 n + 10 and n of -10, h in its cycle."""
        g = np.full(n + 1, -10.0)
        g[0] = 10.0 * n + 10.0
        h = 0.0
        for square in g**2:
            h = rho * h + (1 - rho) * square
        h, way = h / (1 - rho ** (n + 1)), 0.0
        for gradient in g:
            h = rho * h + (1 - rho) * gradient**2
            way += gradient / math.sqrt(h)
        return way

    rare = 4 / math.sqrt(1 - rho)
    assert fall(round(rare)) < 0  # it rises, although the mean gradient is above 0
    assert fall(round(rare / 4)) > 0
