"""Rescale: constants that belong to the network, and standardization from data of any size."""

from __future__ import annotations

import json

import numpy as np
import pytest

import anyprop as ap
from anyprop import _moments, interchange
from anyprop.description import describe, rebuild
from arrays import assert_same_parameters

EACH = ap.Rescale((0.5, 2.0, -1.0, 3.0), (1.0, 0.0, -2.0, 0.25))
NET = ap.Sequential(EACH, *ap.MLP([4, 5, 3]).layers)


class Rows:
    """What `standardizing` asks of a source, and how much it asked for at once."""

    def __init__(self, x):
        self.x, self.asked = x, []

    def __len__(self):
        return len(self.x)

    def read(self, rows):
        assert rows.dtype == np.int64
        self.asked.append(rows.tolist())
        return self.x[rows], np.zeros(len(rows))


def test_numbers_are_scaled_then_shifted(backend):
    x = backend.asarray(np.asarray([[1.0, 2.0], [3.0, -4.0]]))
    for layer, expected in (
        (ap.Rescale(), [[1, 2], [3, -4]]),
        (ap.Rescale(2), [[2, 4], [6, -8]]),
        (ap.Rescale(shift=1), [[2, 3], [4, -3]]),
        (ap.Rescale(2, (1, 10)), [[3, 14], [7, 2]]),
        (ap.Rescale((2, 3), -1), [[1, 5], [5, -13]]),
        (ap.Rescale(np.asarray([2.0, 3.0], "float32"), [1, 0]), [[3, 6], [7, -12]]),
    ):
        np.testing.assert_array_equal(backend.to_numpy(layer.forward(None, x)[0]), expected)


def test_numbers_alone_take_rows_of_any_width_and_columns_their_own():
    assert ap.Rescale(0.5, 1.0).width_in is None
    assert ap.Rescale(0.5, (1.0, 2.0)).width_in == 2
    assert ap.Rescale((0.5,)).width_in == 1
    with pytest.raises(ValueError, match="takes rows of 4 numbers, but the layers before it give"):
        ap.Sequential(ap.Affine(2, 3), EACH)


def exact(x):
    """Mean and standard deviation in two passes of extended precision."""
    x = np.asarray(x, np.longdouble)
    mean = x.sum(axis=0) / len(x)
    return mean, np.sqrt(((x - mean) ** 2).sum(axis=0) / len(x))


DATA = {
    "float32": lambda rng: rng.normal([0, 1e3, -2], [1, 5, 1e-3], (200, 3)).astype("float32"),
    "far from 0": lambda rng: rng.normal([1e9, -1e12, 1e-9], [1, 1, 1e-12], (200, 3)),
    "large and small": lambda rng: rng.normal(0.0, [1e150, 1e-150, 1.0], (200, 3)),
    "uint8": lambda rng: rng.integers(0, 256, (200, 3)).astype("uint8"),
    "int64": lambda rng: rng.integers(-(2**40), 2**40, (200, 3)),
    "bool": lambda rng: rng.random((200, 3)) < 0.3,
    "sorted": lambda rng: np.sort(rng.exponential(5.0, (200, 3)), axis=0),
}


@pytest.mark.parametrize("portion", [1, 40, 2**21])
@pytest.mark.parametrize("kind", DATA)
def test_standardizing_by_portions_is_that_of_two_passes(kind, portion, rng, monkeypatch):
    monkeypatch.setattr(_moments, "_NUMBERS", portion)
    x = DATA[kind](rng)
    mean, std = exact(x)
    for given in (x, Rows(x)):
        layer = ap.Rescale.standardizing(given)
        np.testing.assert_allclose(layer.scale, np.float64(1 / std), rtol=1e-9)
        np.testing.assert_allclose(layer.shift, np.float64(-mean / std), rtol=1e-9, atol=1e-12)


def test_a_source_is_read_once_in_order_and_in_portions(rng, monkeypatch):
    monkeypatch.setattr(_moments, "_NUMBERS", 12)
    source = Rows(rng.standard_normal((10, 3)))
    ap.Rescale.standardizing(source)
    assert [row for rows in source.asked for row in rows] == list(range(10))
    assert max(map(len, source.asked)) == 4


def test_arrays_of_every_backend_and_files_are_standardized(backend, rng, tmp_path):
    x = rng.normal(5.0, 2.0, (50, 4)).astype("float32")
    expected = ap.Rescale.standardizing(x)
    assert ap.Rescale.standardizing(backend.asarray(x)) == expected
    np.save(tmp_path / "x.npy", x)
    assert ap.Rescale.standardizing(np.load(tmp_path / "x.npy", mmap_mode="r")) == expected
    layer = ap.Rescale.standardizing(x)
    y = backend.to_numpy(layer.forward(None, backend.asarray(x))[0])
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1.0, atol=1e-5)


def test_a_column_of_one_number_becomes_0(backend):
    x = np.full((6, 2), 0.1)
    x[:, 1] = np.arange(6)
    assert x[:, 0].std() != 0.0  # its mean is rounded
    for dtype in ("float64", "float32"):
        x = x.astype(dtype)
        layer = ap.Rescale.standardizing(x)
        assert layer.scale[0] == 1.0
        y = backend.to_numpy(layer.forward(None, backend.asarray(x, dtype))[0])
        np.testing.assert_array_equal(y[:, 0], 0.0)
    assert ap.Rescale.standardizing(x[:1]) == ap.Rescale((1.0, 1.0), (-float(x[0, 0]), 0.0))


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ((np.ones((3, 2)), np.ones(3)), TypeError, r"an array \(N, D\) or an anyprop.Source, not"),
        ([[1.0]], TypeError, "not builtins.list"),
        (None, TypeError, "not builtins.NoneType"),
        (np.ones(3), ValueError, r"data has shape \(3,\), expected \(N, D\)"),
        (np.ones((3, 0)), ValueError, r"x has shape \(3, 0\), expected \(N, D\)"),
        (np.ones((0, 3)), ValueError, "data has no rows"),
        (np.ones((3, 2), complex), TypeError, "x is complex128, expected real numbers"),
        (np.asarray([["a"]]), TypeError, "x is <U1, expected real numbers"),
        (Rows(np.ones((3, 2, 2))), ValueError, r"x has shape \(3, 2, 2\), expected \(N, D\)"),
        (np.asarray([[1.0, 2.0], [3.0, np.inf]]), ValueError, r"x\[1, 1\] is inf; remove or"),
        (
            np.asarray([[0.0, -1e300], [1.0, 1e300]]),
            ValueError,
            r"column 1 spreads by .* around .* too far",
        ),
        (np.asarray([[0.0], [1e-320]]), ValueError, "column 0 spreads by .* around 0, too little"),
    ],
)
def test_what_cannot_be_standardized_is_named(data, error, match):
    with pytest.raises(error, match=rf"^Rescale\.standardizing\b.*{match}"):
        ap.Rescale.standardizing(data)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"scale": "1"}, TypeError, "Rescale: scale must be a number, not '1'"),
        ({"shift": None}, TypeError, "Rescale: shift must be a number, not None"),
        ({"scale": (1.0, "a")}, TypeError, "Rescale: scale must be a number, not 'a'"),
        ({"scale": ()}, ValueError, "Rescale: scale is empty"),
        ({"scale": np.ones((2, 2))}, TypeError, r"one for each column, \(D,\)"),
        ({"scale": float("nan")}, ValueError, "scale must be finite, but number 0 is nan"),
        ({"shift": (0.0, float("inf"))}, ValueError, "shift must be finite, but number 1 is inf"),
        ({"scale": (1, 2), "shift": (1, 2, 3)}, ValueError, "scale has 2 numbers and shift 3"),
    ],
)
def test_constants_that_are_none_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        ap.Rescale(**options)


def test_whole_numbers_are_cast_before_not_within(backend):
    x = backend.asarray(np.asarray([[0, 255]]), "uint8")
    with pytest.raises(TypeError, match=r"^Rescale: x is uint8; cast x to the dtype"):
        ap.Rescale(1 / 255).forward(None, x)


def test_in_16_bits_a_shift_may_be_beyond_the_largest_number(backend):
    kinds = {"torch": ["float16", "bfloat16"], "jax": ["float16", "bfloat16"]}
    kinds |= {"numpy": ["float16"], "cupy": ["float16"]}
    for dtype in kinds.get(backend.name, []):
        numbers = np.asarray([[1000.0, 1008.0]])
        x = ap.from_host(numbers, backend.xp, dtype=dtype, device=backend.device)
        layer = ap.Rescale(100.0, -1e5)
        y, residuals = layer.forward(None, x)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(backend.to_numpy(y).astype("float64"), [[0.0, 800.0]])
        dx = layer.backward(None, residuals, residuals * 0.25)[0]
        assert dx.dtype == x.dtype


def test_long_columns_are_shown_by_their_range():
    layer = ap.Rescale(tuple(range(1, 785)), 0.5)
    assert repr(layer) == "Rescale(scale=<784 numbers from 1 to 784>, shift=0.5)"
    assert repr(EACH) == "Rescale(scale=(0.5, 2.0, -1.0, 3.0), shift=(1.0, 0.0, -2.0, 0.25))"
    assert repr(ap.Rescale()) == "Rescale()"


def test_a_file_holds_the_constants_to_the_last_bit(backend, rng, tmp_path):
    layer = ap.Rescale.standardizing(rng.normal(3.0, 0.1, (20, 4)))
    net = ap.Sequential(layer, *NET.layers[1:])
    assert rebuild(json.loads(json.dumps(describe(net), allow_nan=False))) == net
    params = net.init(seed=8, xp=backend.xp, device=backend.device)
    ap.save(tmp_path / "net.safetensors", params, net=net)
    found = ap.load(tmp_path / "net.safetensors")
    assert found.net == net
    assert found.net.layers[0].scale == layer.scale
    assert_same_parameters(found.params, params)


def test_nothing_of_it_is_trained(rng):
    x, t = rng.normal(50.0, 9.0, (60, 4)).astype("float32"), rng.integers(0, 3, 60)
    net = ap.Sequential(ap.Rescale.standardizing(x), *ap.MLP([4, 8, 3]).layers)
    result = ap.fit(
        *(net, net.init(seed=8), (x, t)),
        loss=ap.SoftmaxCrossEntropy(),
        optimizer=ap.RMSProp(0.01),
        epochs=20,
    )
    assert result.params.layout == net.init().layout
    assert not any(name.startswith("0.") for name in result.params.named())
    scaled = np.asarray((x - x.mean(axis=0, dtype="f8")) / x.std(axis=0, dtype="f8"), "float32")
    inner = ap.Sequential(*net.layers[1:])
    apart = ap.fit(
        *(inner, inner.init(seed=8), (scaled, t)),
        loss=ap.SoftmaxCrossEntropy(),
        optimizer=ap.RMSProp(0.01),
        epochs=20,
    )
    np.testing.assert_allclose(result.history.losses, apart.history.losses, rtol=1e-3, atol=1e-4)


def test_an_exported_model_multiplies_and_adds(tmp_path):
    onnx = pytest.importorskip("onnx")

    def nodes(net):
        ap.export_onnx(net, net.init(), tmp_path / "net.onnx")
        graph = onnx.load(tmp_path / "net.onnx").graph
        shapes = {constant.name: list(constant.dims) for constant in graph.initializer}
        return [node.op_type for node in graph.node], shapes

    kinds, shapes = nodes(NET)
    assert kinds == ["Mul", "Add", "Gemm", "Relu", "Gemm"]
    assert shapes["0.scale"] == shapes["0.shift"] == [4]
    assert nodes(ap.Sequential(ap.Rescale(1 / 255), ap.Affine(4, 3)))[0] == ["Mul", "Gemm"]
    assert nodes(ap.Sequential(ap.Rescale(shift=1), ap.Affine(4, 3)))[0] == ["Add", "Gemm"]
    assert nodes(ap.Rescale())[0] == ["Identity"]


def torch_net():
    """Return the module that the interchange's docstring shows, before linear layers."""
    import torch

    class Rescale(torch.nn.Module):
        def __init__(self, scale, shift):
            super().__init__()
            self.register_buffer("scale", torch.tensor(scale))
            self.register_buffer("shift", torch.tensor(shift))

        def forward(self, x):
            return self.scale * x + self.shift

    layers = [torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)]
    return torch.nn.Sequential(Rescale((0.0,) * 4, (0.0,) * 4), *layers)


@pytest.mark.needs("torch")
def test_torch_takes_the_constants_and_gives_them_back(rng, tmp_path):
    import torch
    from safetensors.torch import load_file

    params, module = NET.init(seed=8), torch_net()
    interchange.save_torch(tmp_path / "net.safetensors", NET, params)
    module.load_state_dict(load_file(tmp_path / "net.safetensors"))
    x = rng.standard_normal((6, 4)).astype("float32")
    y = module(torch.asarray(x)).detach().numpy()
    np.testing.assert_allclose(ap.predict(NET, params, x), y, rtol=1e-5, atol=1e-6)
    assert_same_parameters(interchange.from_torch(NET, module.state_dict()), params)
    narrow = interchange.from_torch(NET, module.to(torch.bfloat16).state_dict(), dtype="float32")
    assert narrow.layout == params.layout
    with pytest.raises(RuntimeError, match=r"Unexpected key.*0\.scale"):
        torch.nn.Sequential(torch.nn.Identity(), *list(module)[1:]).load_state_dict(
            load_file(tmp_path / "net.safetensors")
        )


def test_constants_of_a_state_dictionary_are_compared_with_the_network():
    params = NET.init(seed=8)
    given = interchange.to_torch(NET, params)
    without = {name: array for name, array in given.items() if not name.startswith("0.")}
    for good in (given, without):
        assert_same_parameters(interchange.from_torch(NET, good), params)
    for wrong in (given["0.scale"] * 1.001, given["0.scale"][:1], np.asarray([0, 2, -1, 3])):
        with pytest.raises(
            ValueError, match=r"^0\.scale of the state dictionary is not that of Re"
        ):
            interchange.from_torch(NET, given | {"0.scale": wrong})
    with pytest.raises(ValueError, match="has '1.scale' that net lacks"):
        interchange.from_torch(NET, given | {"1.scale": given["0.scale"]})


def test_numbers_alone_in_a_state_dictionary():
    net = ap.Sequential(ap.Rescale(1 / 255), ap.Affine(2, 3))
    params = net.init(seed=8)
    given = interchange.to_torch(net, params)
    assert (given["0.scale"].shape, given["0.scale"].dtype) == ((), np.float32)
    assert_same_parameters(interchange.from_torch(net, given), params)


def test_scikit_learn_has_no_place_for_it():
    with pytest.raises(ValueError, match=r"scikit-learn has no place for .*Rescale\("):
        interchange.to_sklearn(NET, NET.init())


def test_predictions_of_every_backend_are_those_of_numpy(backend, rng):
    x = rng.standard_normal((5, 4))
    expected = ap.predict(NET, NET.init(seed=8, dtype="float64"), x)
    params = NET.init(seed=8, dtype="float64", xp=backend.xp, device=backend.device)
    y = backend.to_numpy(ap.predict(NET, params, backend.asarray(x)))
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_bytes_train_as_the_same_numbers_in_float32(backend, rng):
    x, t = rng.integers(0, 256, (50, 4)).astype("uint8"), rng.integers(0, 3, 50)
    net = ap.Sequential(ap.Rescale(1 / 255), *ap.MLP([4, 8, 3]).layers)
    options = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.RMSProp(0.01), "batch_size": 16}
    found = []
    for dtype in ("uint8", "float32"):
        params = net.init(seed=8, xp=backend.xp, device=backend.device)
        given = backend.asarray(x, dtype), backend.asarray(t)
        result = ap.fit(net, params, given, epochs=2, **options)
        y = ap.predict(net, result.params, given[0])
        found.append((result.history.losses, backend.to_numpy(y).tolist()))
    assert found[0] == found[1]


def test_a_source_is_standardized_as_it_is_stored(rng):
    x, t = rng.integers(0, 256, (50, 4)).astype("uint8"), rng.integers(0, 3, 50)
    assert ap.Rescale.standardizing(ap.Source((x, t))) == ap.Rescale.standardizing(x)
