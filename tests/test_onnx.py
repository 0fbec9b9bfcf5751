"""An exported model computes what the network computes, by ONNX Runtime."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import anyprop as ap
from anyprop.description import rebuild
from anyprop.layers.base import Layer
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.place import Place

NO_FLOAT64 = (
    "GELU",
    "LeakyReLU",
    "ELU",
    "Softplus",
    "mlp_batch_norm_dropout",
    "mlp_layer_norm_residual",
)


def run(path, x):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_every_layer_computes_the_same(case, dtype, rng, tmp_path):
    params, path = case.params(Place("numpy"), dtype), tmp_path / "net.onnx"
    if dtype == "float64" and case.id.startswith(NO_FLOAT64):
        with pytest.raises(ValueError, match=r"computes \w+\(.*\) in float32 only"):
            ap.export_onnx(case.layer, params, path)
        return
    ap.export_onnx(case.layer, params, path)
    for n in (1, 7):
        x = 2.0 * case.x(rng, n).astype(dtype)
        y = run(path, x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, ap.predict(case.layer, params, x), rtol=1e-6, atol=1e-6)


def test_a_model_from_every_backend(backend, rng, tmp_path):
    net = ap.MLP([4, 6, 3], "tanh", norm="batch")
    params = net.init(seed=8, xp=backend.xp, dtype="float32", device=backend.device)
    ap.export_onnx(net, params, tmp_path / "net.onnx")
    x = rng.standard_normal((5, 4)).astype("float32")
    y = backend.to_numpy(ap.predict(net, params, backend.asarray(x)))
    np.testing.assert_allclose(run(tmp_path / "net.onnx", x), y, rtol=1e-6, atol=1e-6)


def test_a_softmax_on_demand(rng, tmp_path):
    net = ap.MLP([4, 5, 3])
    params, x = net.init(seed=8), rng.standard_normal((6, 4)).astype("float32")
    ap.export_onnx(net, params, tmp_path / "net.onnx", softmax=True)
    p = run(tmp_path / "net.onnx", x)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
    logits = ap.predict(net, params, x)
    np.testing.assert_allclose(np.diff(np.log(p)), np.diff(logits), rtol=1e-4, atol=1e-5)


def test_float64_parameters_in_a_float32_model(rng, tmp_path):
    net = ap.MLP([4, 5, 3], "elu")
    params, x = net.init(seed=8, dtype="float64"), rng.standard_normal((6, 4))
    ap.export_onnx(net, params, tmp_path / "net.onnx", dtype="float32")
    y = run(tmp_path / "net.onnx", x.astype("float32"))
    np.testing.assert_allclose(y, ap.predict(net, params, x), rtol=1e-5, atol=1e-6)


def test_what_the_model_says_of_itself(tmp_path):
    net = ap.MLP([4, 5, 3], dropout=0.5)
    ap.export_onnx(net, net.init(), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
    assert model.ir_version == 10
    assert model.producer_name == "anyprop"
    (prop,) = model.metadata_props
    assert rebuild(json.loads(prop.value)) == net
    (x,), (y,) = model.graph.input, model.graph.output
    for value, name, width in ((x, "x", 4), (y, "y", 3)):
        rows, columns = value.type.tensor_type.shape.dim
        assert (value.name, rows.dim_param, columns.dim_value) == (name, "N", width)
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm"]


def test_layers_of_your_own_are_named(tmp_path):
    class Mine(Layer):
        def __repr__(self):
            return "Mine()"

    net = ap.Sequential(ap.Affine(2, 2), ap.Residual(Mine()))
    with pytest.raises(
        TypeError, match=r"^Mine\(\) is not one of anyprop's layers and has no ONNX"
    ):
        ap.export_onnx(net, net.init(), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("net", "params", "options", "match"),
    [
        (ap.Affine(2, 3), ap.Affine(2, 4).init(), {}, "params do not match net"),
        (ap.Affine(2, 3), None, {"dtype": "float16"}, "dtype must be one of: float32, float64"),
        (
            *(ap.Affine(2, 3), ap.Affine(2, 3).init(dtype="float16"), {}),
            "params are float16, but models are float32 or float64; export with dtype='float32'",
        ),
        (ap.Softmax(), None, {"softmax": True}, "ends in a softmax already"),
    ],
)
def test_what_cannot_be_exported(net, params, options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        ap.export_onnx(net, params or net.init(), tmp_path / "net.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    net = ap.Affine(2, 3)
    params = net.init(dtype="float64")
    params = params.replace(flat=params.flat + 1e99)
    with pytest.raises(OverflowError, match="does not fit in float32"):
        ap.export_onnx(net, params, tmp_path / "net.onnx", dtype="float32")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["0.W", "1.mean", "1.var", "3.b"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_numbers_that_are_not_finite_are_refused(name, bad, backend, tmp_path):
    """NaN weights before a ReLU would otherwise be a model whose answers look like some."""
    net, path = ap.MLP([4, 3, 2], norm="batch"), tmp_path / "net.onnx"
    params = net.init(dtype="float64")
    params[name][-1] = bad
    path.write_bytes(b"older")
    params = params.replace(
        flat=backend.asarray(params.flat), running=backend.asarray(params.running)
    )
    with pytest.raises(ValueError, match=f"^{name} of params holds numbers that are not finite"):
        ap.export_onnx(net, params, path)
    assert path.read_bytes() == b"older"
    ap.save(tmp_path / "kept", params)
    assert not np.isfinite(ap.load(tmp_path / "kept").params[name]).all()


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "anyprop\[onnx\]"'):
        ap.export_onnx(ap.Affine(2, 3), ap.Affine(2, 3).init(), tmp_path / "net.onnx")
