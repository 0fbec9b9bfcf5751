"""The layers and functions one by one: values by hand, gradients by differences, wrong calls."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from anyprop import book

RNG = np.random.default_rng(5)
X, C = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))


def differences(f, x, h=1e-6):
    grad = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        ends = []
        for shift in (h, -h):
            moved = x.copy()
            moved[index] += shift
            ends.append(f(moved))
        grad[index] = (ends[0] - ends[1]) / (2 * h)
    return grad


def norm(backend, gamma=(1.0, 2.0, 0.5), beta=(0.0, 1.0, -1.0), **options):
    return book.BatchNormalization(backend.asarray(gamma), backend.asarray(beta), **options)


LAYERS = {
    "affine": lambda backend: book.Affine(
        backend.asarray(np.cos(np.arange(9.0)).reshape(3, 3)), backend.asarray([1.0, 2.0, 3.0])
    ),
    "relu": lambda backend: book.Relu(),
    "sigmoid": lambda backend: book.Sigmoid(),
    "norm": norm,
}


@pytest.mark.parametrize("name", LAYERS)
def test_dx_by_differences_and_dout_as_it_was(backend, name):
    def value(x):
        y = LAYERS[name](backend).forward(backend.asarray(x))
        return float(np.sum(backend.to_numpy(y) * C))

    layer, dout = LAYERS[name](backend), backend.asarray(C)
    layer.forward(backend.asarray(X))
    dx = backend.to_numpy(layer.backward(dout))
    np.testing.assert_allclose(dx, differences(value, X), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(backend.to_numpy(dout), C)


def test_gradients_of_gamma_and_beta(backend):
    layer = norm(backend)
    layer.forward(backend.asarray(X))
    layer.backward(backend.asarray(C))
    gamma, beta = np.asarray([1.0, 2.0, 0.5]), np.asarray([0.0, 1.0, -1.0])

    def value(gamma, beta):
        y = norm(backend, gamma, beta).forward(backend.asarray(X))
        return float(np.sum(backend.to_numpy(y) * C))

    for found, expected in (
        (layer.dgamma, differences(lambda g: value(g, beta), gamma)),
        (layer.dbeta, differences(lambda b: value(gamma, b), beta)),
    ):
        np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=0, atol=1e-7)


def test_running_statistics_are_the_books(backend):
    """They start at 0, and the variance is that of the batch, not N / (N - 1) of it."""
    layer = norm(backend, (1.0,), (0.0,), momentum=0.5)
    layer.forward(backend.asarray([[1.0], [3.0]]))
    layer.forward(backend.asarray([[5.0], [5.0]]))
    assert backend.to_numpy(layer.running_mean).tolist() == [0.5 * 1.0 + 0.5 * 5.0]
    assert backend.to_numpy(layer.running_var).tolist() == [0.25]
    y = layer.forward(backend.asarray([[4.0]]), train_flg=False)
    np.testing.assert_allclose(backend.to_numpy(y), [[1.0 / np.sqrt(0.25 + 1e-6)]])
    assert backend.to_numpy(layer.running_mean).tolist() == [3.0]


def test_given_statistics_are_used(backend):
    one, two = backend.asarray([1.0]), backend.asarray([2.0])
    layer = norm(backend, (1.0,), (0.0,), running_mean=one, running_var=two)
    y = layer.forward(backend.asarray([[4.0]]), train_flg=False)
    np.testing.assert_allclose(backend.to_numpy(y), [[3.0 / np.sqrt(2.0 + 1e-6)]])


@pytest.mark.parametrize("make", [LAYERS["affine"], norm], ids=["affine", "norm"])
def test_images_are_taken_as_rows(backend, make):
    images = RNG.standard_normal((4, 1, 3, 1))
    layer, rows = make(backend), make(backend)
    y = layer.forward(backend.asarray(images))
    expected = rows.forward(backend.asarray(images.reshape(4, 3)))
    np.testing.assert_array_equal(
        backend.to_numpy(y).reshape(4, 3), backend.to_numpy(expected).reshape(4, 3)
    )
    dout = backend.asarray(backend.to_numpy(y))
    assert layer.backward(dout).shape == (4, 1, 3, 1)


def test_relu_remembers_its_mask(backend):
    layer = book.ReLU()
    assert layer.mask is None
    layer.forward(backend.asarray([-1.0, 0.0, 2.0]))
    assert backend.to_numpy(layer.mask).tolist() == [True, True, False]


def test_dropout_drops_by_numpys_global_generator(backend):
    layer, x = book.Dropout(0.25), backend.asarray(np.full((50, 40), 2.0))
    np.random.seed(3)
    kept = np.random.rand(50, 40) > 0.25
    np.random.seed(3)
    y = backend.to_numpy(layer.forward(x))
    np.testing.assert_array_equal(y, 2.0 * kept)
    np.testing.assert_array_equal(backend.to_numpy(layer.mask) != 0, kept)
    np.testing.assert_array_equal(backend.to_numpy(layer.backward(x)), 2.0 * kept)
    assert backend.to_numpy(layer.forward(x, train_flg=False)).max() == 1.5


Y, LABELS = np.asarray([[0.0, np.log(3.0)], [0.0, 0.0]]), np.asarray([0, 1])
P = np.asarray([[0.25, 0.75], [0.5, 0.5]])


def targets(backend, one_hot):
    return backend.asarray(np.eye(2)[LABELS] if one_hot else LABELS)


@pytest.mark.parametrize("one_hot", [False, True])
def test_the_articles_last_layer(backend, one_hot):
    layer, t = book.SoftmaxCrossEntropy(), targets(backend, one_hot)
    assert layer.y is None
    p = layer.forward(backend.asarray(Y))
    np.testing.assert_allclose(backend.to_numpy(p), P)
    np.testing.assert_allclose(backend.to_numpy(layer.y), P)
    np.testing.assert_allclose(backend.to_numpy(layer.backward(t)), [[-0.75, 0.75], [0.5, -0.5]])
    loss = float(book.cross_entropy_error(p, t))
    assert abs(loss + np.log(0.25 * 0.5) / 2) < 1e-6
    assert abs(float(layer.loss) - loss) < 1e-6
    assert layer.t is t


@pytest.mark.parametrize("kind", [book.SoftmaxWithLoss, book.SoftmaxCrossEntropy])
@pytest.mark.parametrize("one_hot", [False, True])
def test_the_books_last_layer(backend, kind, one_hot):
    layer, t = kind(), targets(backend, one_hot)
    loss = layer.forward(backend.asarray(Y), t)
    assert abs(float(loss) + np.log(0.25 * 0.5) / 2) < 1e-12
    assert layer.loss is loss
    assert layer.t is t
    np.testing.assert_allclose(backend.to_numpy(layer.y), P)
    d = np.asarray([[-0.375, 0.375], [0.25, -0.25]])
    np.testing.assert_allclose(backend.to_numpy(layer.backward()), d)
    np.testing.assert_allclose(backend.to_numpy(layer.backward(2)), 2 * d)


def test_either_way_follows_the_last_forward(backend):
    layer, x, t = book.SoftmaxCrossEntropy(), backend.asarray(Y), backend.asarray(LABELS)
    layer.forward(x, t)
    layer.forward(x)
    assert layer.loss is None
    with pytest.raises(TypeError, match=r"call backward\(t\)"):
        layer.backward()
    layer.backward(t)
    layer.forward(x, t)
    with pytest.raises(ValueError, match="was given the targets already"):
        layer.backward(t)
    layer.backward()


def test_cross_entropy_error_of_one_example_and_of_a_sure_mistake(backend):
    p = backend.asarray([0.0, 1.0])
    for t, expected in (([1.0, 0.0], -np.log(1e-7)), ([0.0, 1.0], 0.0), (0, -np.log(1e-7))):
        value = float(book.cross_entropy_error(p, backend.asarray(t)))
        assert abs(value - expected) < 1e-6
    value = book.cross_entropy_error(p, backend.asarray([1]))  # a label in a row of its own
    assert abs(float(value)) < 1e-6
    for t in (0, [1.0]):  # of the only class, which has not all of the probability
        value = book.cross_entropy_error(backend.asarray([0.6]), backend.asarray(t))
        assert abs(float(value) + np.log(0.6)) < 1e-6


def test_a_refused_forward_changes_nothing(backend):
    layer, t = book.SoftmaxWithLoss(), backend.asarray(LABELS)
    layer.forward(backend.asarray(Y), t)
    loss, dx = layer.loss, backend.to_numpy(layer.backward())
    with pytest.raises(ValueError, match="labels for"):
        layer.forward(backend.asarray(2 * Y[:1]), t)
    assert layer.loss is loss
    assert layer.t is t
    np.testing.assert_array_equal(backend.to_numpy(layer.backward()), dx)

    one = norm(backend)
    one.forward(backend.asarray(X))
    mean, twin = one.running_mean, copy.copy(one)
    with pytest.raises(ValueError, match=r"x has shape"):
        one.forward(backend.asarray(X[:, :2]))
    assert one.running_mean is mean
    np.testing.assert_array_equal(
        *(backend.to_numpy(layer.backward(backend.asarray(C))) for layer in (one, twin))
    )
    with pytest.raises(ValueError, match="dy has shape"):
        one.backward(backend.asarray(C[:2]))
    affine = LAYERS["affine"](backend)
    affine.forward(backend.asarray(X))
    affine.backward(backend.asarray(C))
    dW = affine.dW
    for call in (affine.forward, affine.backward):
        with pytest.raises(ValueError, match="has shape"):
            call(backend.asarray(X[:2, :2]))
    assert affine.dW is dW
    assert affine.x.shape == (4, 3)


def test_a_refused_gradient_leaves_the_network(backend):
    place = {"xp": backend.xp, "device": backend.device, "dtype": "float64", "seed": 8}
    net = book.NeuralNetwork(3, [4], 2, 0.5, **place)
    x, t = backend.asarray(X), backend.asarray([0, 1, 1, 0])
    net.gradient(x, t)
    grads, before = net.grads, dict(net.grads)
    for wrong in (t[:2], backend.asarray(np.ones((4, 3))), t + 1, t - 1):
        with pytest.raises(ValueError):  # noqa: PT011
            net.backward(wrong)
        with pytest.raises(ValueError):  # noqa: PT011
            net.gradient(x, wrong)
    assert net.grads is grads
    assert all(net.grads[name] is before[name] for name in before)


@pytest.mark.needs("array_api_strict")
def test_the_articles_step_reads_its_loss_once(monkeypatch):
    import array_api_strict

    net = book.NeuralNetwork(3, [4], 2, xp="array_api_strict", dtype="float64")
    x, t = array_api_strict.asarray(X), array_api_strict.asarray([0, 1, 1, 0])
    array, reads = type(x), []
    read = array.__float__
    monkeypatch.setattr(array, "__float__", lambda self: reads.append(self) or read(self))
    for _ in range(3):
        net.compute_loss(x, t)
        net.backward(t)
    assert len(reads) == 3
    with pytest.raises(ValueError, match="labels"):  # other targets than those that it has seen
        net.backward(t + 1)
    net.predict(x)
    net.backward(t)
    assert len(reads) == 5


@pytest.mark.parametrize("kind", ["TwoLayerNet", "MultiLayerNet", "MultiLayerNetExtend"])
def test_networks_names_of_layers(kind):
    hidden = 5 if kind == "TwoLayerNet" else [5, 6]
    extras = {"use_dropout": True, "use_batchnorm": True} if kind.endswith("Extend") else {}
    net = getattr(book, kind)(4, hidden, 3, **extras, xp="numpy")
    expected = {
        "TwoLayerNet": ["Affine1", "Relu1", "Affine2"],
        "MultiLayerNet": [
            *("Affine1", "Activation_function1", "Affine2", "Activation_function2", "Affine3"),
        ],
        "MultiLayerNetExtend": [
            *("Affine1", "BatchNorm1", "Activation_function1", "Dropout1"),
            *("Affine2", "BatchNorm2", "Activation_function2", "Dropout2", "Affine3"),
        ],
    }
    assert list(net.layers) == expected[kind]
    assert net.predict(np.zeros((2, 4))).shape == (2, 3)


def test_the_articles_network_has_its_layers_before_the_first_forward():
    net = book.NeuralNetwork(4, 3, 2, xp="numpy", seed=8)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Affine", "ReLU", "Affine", "ReLU", "Affine"]
    assert net.layers[2].W is net.params["W2"]
    assert net.layers[0].dW is None
    x, t = np.ones((2, 4), dtype="float32"), np.asarray([0, 1])
    assert net.loss(x, t) == net.compute_loss(x, t)
    net.backward(t)
    assert net.layers[4].db is net.grads["b3"]
    np.testing.assert_allclose(net.loss_layer.y.sum(axis=1), 1.0, rtol=1e-6)
    grads = net.grads
    for name, g in net.gradient(x, t).items():
        np.testing.assert_array_equal(g, grads[name])


def test_a_sigmoid_network_and_its_weight_decay_by_differences(backend):
    place = {"xp": backend.xp, "device": backend.device, "dtype": "float64", "seed": 8}
    net = book.MultiLayerNet(3, [4], 2, "sigmoid", "xavier", 0.3, **place)
    x, t = backend.asarray(X), backend.asarray([0, 1, 1, 0])
    numeric = net.numerical_gradient(x, t)
    for name, g in net.gradient(x, t).items():
        found = backend.to_numpy(numeric[name])
        np.testing.assert_allclose(found, backend.to_numpy(g), rtol=0, atol=1e-8)


def test_a_batch_norm_networks_gradient_by_differences(backend):
    place = {"xp": backend.xp, "device": backend.device, "dtype": "float64", "seed": 8}
    net = book.MultiLayerNetExtend(3, [4, 4], 2, use_batchnorm=True, **place)
    x, t = backend.asarray(X), backend.asarray([0, 1, 1, 0])
    kept = dict(net.params)
    numeric = net.numerical_gradient(x, t)
    assert all(net.params[name] is kept[name] for name in kept)
    for name, g in net.gradient(x, t).items():
        found = backend.to_numpy(numeric[name])
        np.testing.assert_allclose(found, backend.to_numpy(g), rtol=0, atol=1e-6)


def test_a_gradient_that_raises_leaves_x_as_it_was(backend):
    x = backend.asarray([1.0, 2.0])
    layer = book.BatchNormalization(x, x)

    def fails(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        book.numerical_gradient(fails, x)
    assert layer.gamma is x
    assert backend.to_numpy(x).tolist() == [1.0, 2.0]


def test_a_long_double_is_as_before():
    x = np.asarray([1.0, 2.0], "longdouble") / 3
    before = x.copy()
    book.numerical_gradient(np.sum, x)
    np.testing.assert_array_equal(x, before)


def test_smooth_curve_at_its_ends():
    """An 11-point window, mirrored without the first value and with the last one twice."""
    x = np.cumsum(RNG.standard_normal(30))
    w = np.kaiser(11, 2)
    extended = [*x[5:0:-1], *x, *x[:-6:-1]]
    expected = [np.dot(extended[i : i + 11], w) / w.sum() for i in range(30)]
    np.testing.assert_allclose(book.smooth_curve(list(x)), expected)
    for n in (1, 2, 5):
        assert book.smooth_curve([3.0] * n) == pytest.approx([3.0] * n)
        assert book.smooth_curve([np.asarray(3)] * n) == pytest.approx([3.0] * n)


def test_shuffled_rows_stay_together(backend):
    x, t = np.arange(24.0).reshape(6, 1, 2, 2), np.arange(6)
    np.random.seed(1)
    order = np.random.permutation(6)
    np.random.seed(1)
    xs, ts = book.shuffle_dataset(backend.asarray(x), backend.asarray(t))
    np.testing.assert_array_equal(backend.to_numpy(xs), x[order])
    np.testing.assert_array_equal(backend.to_numpy(ts), t[order])


def test_both_spellings_are_the_same_class():
    assert book.Relu is book.ReLU
    assert book.RMSprop is book.RMSProp


def test_an_array_of_another_shape_that_is_put_into_a_layer_is_named(backend):
    """One number, or one row for each example, would be added in silence."""
    affine = book.Affine(backend.asarray(np.ones((3, 2))), backend.asarray(np.zeros(2)))
    for wrong in ((), (1, 2), (4, 2), (3,)):
        affine.b = backend.asarray(np.ones(wrong))
        with pytest.raises(ValueError, match=r"b has shape .*, expected \(2,\)"):
            affine.forward(backend.asarray(X))
    affine.W = backend.asarray(np.ones((3, 1, 2)))
    with pytest.raises(ValueError, match=r"W has shape \(3, 1, 2\), expected \(D, M\)"):
        affine.forward(backend.asarray(X))
    layer = norm(backend)
    for wrong in ((), (1, 3), (4, 3)):
        layer.beta = backend.asarray(np.ones(wrong))
        with pytest.raises(ValueError, match=r"beta has shape .*, expected \(3,\)"):
            layer.forward(backend.asarray(X))
    assert layer.running_mean is None


@pytest.mark.parametrize("kind", ["TwoLayerNet", "NeuralNetwork"])
def test_gradients_are_those_of_the_layers_of_now(backend, kind):
    place = {"xp": backend.xp, "device": backend.device, "seed": 8}
    net, twin = (
        getattr(book, kind)(3, 4 if kind == "TwoLayerNet" else [4], 2, **place) for _ in "ab"
    )
    x, t = backend.asarray(X, "float32"), backend.asarray([0, 1, 1, 0])
    net.gradient(-x, t)
    last = "Affine2" if kind == "TwoLayerNet" else 2
    net.layers[last] = book.Affine(net.params["W2"], net.params["b2"])
    expected = twin.gradient(x, t)
    for name, g in net.gradient(x, t).items():
        np.testing.assert_array_equal(backend.to_numpy(g), backend.to_numpy(expected[name]))
    del net.layers[last]
    with pytest.raises(
        ValueError, match="has 'Affine', but params has the arrays of 'Affine', 'Aff"
    ):
        net.gradient(x, t)


@pytest.mark.parametrize("kind", ["TwoLayerNet", "NeuralNetwork"])
def test_accuracy_counts_every_row_and_refuses_labels_that_are_no_class(kind):
    net = getattr(book, kind)(2, 3, 2, xp="numpy", dtype="float16")
    x = np.zeros((70_001, 2), "float16")
    t = np.full(len(x), net.predict(x[:1]).argmax())
    assert net.accuracy(x, t) == 1.0  # and float16 ends at 65,504
    t[1] = 1 - t[1]
    assert net.accuracy(x, t) == 70_000 / 70_001
    for wrong in (2, -1):
        t[-1] = wrong
        with pytest.raises(ValueError, match=f"label {wrong} is out of range"):
            net.accuracy(x, t)


@pytest.mark.parametrize("dtype", ["complex128", object])
def test_networks_take_real_numbers(dtype):
    net = book.TwoLayerNet(2, 3, 2, xp="numpy")
    for x in (np.ones((1, 2), "bool"), np.ones((1, 2), "uint8")):
        np.testing.assert_array_equal(net.predict(x), net.predict(np.ones((1, 2))))
    with pytest.raises(TypeError, match="x must be of a real dtype, not"):
        net.predict(np.ones((1, 2), dtype))


@pytest.mark.parametrize(("number", "dtype"), [(4096.0, "float32"), (1.0, "float16"), (1e13, "f8")])
def test_numbers_to_which_differences_add_nothing_are_named(number, dtype):
    x = np.asarray([0.01, number], dtype)
    with pytest.raises(ValueError, match=f"x holds {number}.* more than 0.0001 apart"):
        book.numerical_gradient(np.sum, x)
    assert x.tolist() == np.asarray([0.01, number], dtype).tolist()


ONES = np.ones((2, 2))


def trainer(x, t):
    return book.Trainer(book.TwoLayerNet(2, 3, 2), x, t, ONES, np.asarray([0, 1]))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: book.Sigmoid().backward(ONES), RuntimeError, "Sigmoid: call forward before"),
        (lambda: book.Dropout().backward(ONES), RuntimeError, "Dropout: call forward before"),
        (lambda: book.SoftmaxWithLoss().backward(), RuntimeError, "call forward before backward"),
        (lambda: book.SoftmaxCrossEntropy().backward(ONES), RuntimeError, "call forward before"),
        (
            lambda: book.TwoLayerNet(784, 5, 2).predict(np.zeros(784, "float32")),
            ValueError,
            r"x has shape \(784,\), expected \(N, 784\): one row per example",
        ),
        (
            lambda: book.Affine(ONES, ONES[0]).forward(np.zeros((5, 3, 7))),
            ValueError,
            rf"x has shape \(5, 3, 7\), expected \(N, {len(ONES)}\)",
        ),
        (lambda: book.Dropout(1.0), ValueError, "dropout_ratio must"),
        (lambda: book.BatchNormalization(ONES, ONES), ValueError, r"expected \(D,\)"),
        (lambda: book.BatchNormalization(ONES[0], ONES), ValueError, "beta has shape"),
        (lambda: book.BatchNormalization(ONES[0], ONES[0], 1.0), ValueError, "momentum must"),
        (
            lambda: book.BatchNormalization(ONES[0], ONES[0], running_var=ONES),
            ValueError,
            "running_var has shape",
        ),
        (lambda: book.MultiLayerNet(2, [2], 2, "tanh"), ValueError, "unknown activation 'tanh'"),
        (lambda: book.MultiLayerNet(2, [2], 2, "relu", "hee"), ValueError, "did you mean 'he'"),
        (lambda: book.MultiLayerNet(2, [0], 2), ValueError, "at least 1"),
        (
            lambda: book.MultiLayerNet(2, [2], 2, weight_decay_lambda=-1),
            ValueError,
            "weight_decay_lambda must be",
        ),
        (lambda: book.TwoLayerNet(2, 2.5, 2), TypeError, "whole number"),
        (lambda: book.TwoLayerNet(2, 2, 2, dtype="int32"), TypeError, "must be a floating dtype"),
        (
            lambda: book.Trainer(None, ONES, ONES, ONES, ONES, optimizer="rmsprob"),
            ValueError,
            "did you mean 'rmsprop'",
        ),
        (
            lambda: book.Trainer(None, ONES, ONES, ONES, ONES, epochs=0),
            ValueError,
            "epochs must be",
        ),
        (lambda: book.shuffle_dataset(ONES, ONES[:1]), ValueError, "x has 2 rows, but t has 1"),
        (lambda: book.smooth_curve([]), ValueError, "one row of values"),
        (lambda: book.smooth_curve([1.0, None]), TypeError, "a row of numbers"),
        (lambda: book.smooth_curve(["1.0"]), TypeError, "a row of numbers"),
        (lambda: book.smooth_curve([1j]), TypeError, "a row of numbers"),
        (lambda: trainer(ONES[:0], ONES[:0, 0]), ValueError, r"x_train.shape\[0\] must be"),
        (lambda: trainer(ONES, ONES[:1, 0]), ValueError, "x_train has 2 rows, but t_train has 1"),
        (lambda: trainer(ONES, [0, 1]), TypeError, "t_train: builtins.list"),
        (
            lambda: book.numerical_gradient(np.sum, np.asarray([1, 2])),
            TypeError,
            "must be of a floating dtype",
        ),
        (
            lambda: book.cross_entropy_error(ONES, np.asarray([0, 2])),
            ValueError,
            "label 2 is out of range",
        ),
        (lambda: book.cross_entropy_error(ONES, np.asarray([0])), ValueError, "t has shape"),
        *(
            (
                lambda y=y: book.cross_entropy_error(y, np.asarray([0])),
                ValueError,
                "predictions have",
            )
            for y in (ONES[None], ONES[0, 0])
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()
