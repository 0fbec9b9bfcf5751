"""`anyprop export`: files that other programs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy

import anyprop as ap


@pytest.fixture
def model(run, images):
    run("train", "--data", images, "--steps", "20", "--hidden", "8", "--dropout", "0.2")
    return "runs/train/model.safetensors"


def test_onnx_and_torch(run, model, images):
    code, out, err = run("export", model, "--onnx", "net.onnx", "--torch", "net.safetensors")
    assert (code, err) == (0, "")
    assert out == "wrote net.onnx\nwrote net.safetensors\n"
    x = ap.load_idx(images)[1][0]
    net, params = ap.load(model)[:2]
    y = ap.predict(net, params, x)
    (theirs,) = onnxruntime.InferenceSession("net.onnx").run(None, {"x": x})
    np.testing.assert_allclose(theirs, y, rtol=1e-5, atol=1e-6)
    arrays = safetensors.numpy.load_file("net.safetensors")
    np.testing.assert_array_equal(arrays["0.weight"], params[0].W.T)

    assert run("export", model, "--onnx", "net.onnx", "--softmax")[0] == 0
    (p,) = onnxruntime.InferenceSession("net.onnx").run(None, {"x": x})
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)


def test_wrong_calls(run, model):
    def complaint(*argv):
        code, out, err = run("export", *argv)
        assert (code, out) == (2, "")
        return err

    assert "name an output: --onnx FILE, --torch FILE, or both." in complaint(model)
    assert "--softmax goes with --onnx" in complaint(model, "--torch", "a", "--softmax")
    assert "there is no folder nowhere" in complaint(model, "--torch", "nowhere/a")
    assert "there is no folder nowhere" in complaint(model, "--onnx", "nowhere/a")
    assert "there is no file nowhere;" in complaint("nowhere", "--onnx", "a")
    ap.save("bare", ap.load(model).params)
    assert "bare holds parameters without their network." in complaint("bare", "--onnx", "a")


def test_a_model_of_nan_is_kept_in_a_file_of_parameters_only(run, model):
    net, params = ap.load(model)[:2]
    ap.save("bad", params.replace(flat=params.flat * np.nan), net=net)
    code, out, err = run("export", "bad", "--onnx", "bad.onnx", "--torch", "bad.safetensors")
    assert (code, out) == (2, "")
    assert err.startswith("anyprop: 0.W of params holds numbers that are not finite")
    assert not list(Path().glob("bad.*"))
    assert run("export", "bad", "--torch", "bad.safetensors")[0] == 0


def test_without_onnx(run, model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    code, _, err = run("export", model, "--onnx", "a")
    assert code == 2
    assert err == 'anyprop: onnx is not installed; run pip install "anyprop[onnx]" first.\n'


def test_files_are_not_written_over_each_other(run, model):
    before = Path(model).read_bytes()
    for option in ("--onnx", "--torch"):
        code, out, err = run("export", "runs/train", option, f"./{model}")
        assert (code, out) == (2, "")
        assert (
            err == f"anyprop: ./{model} is a file that this command reads; name another to write.\n"
        )
        assert Path(model).read_bytes() == before
    code, out, err = run("export", model, "--onnx", "both", "--torch", "both")
    assert (code, out) == (2, "")
    assert "both is a file that this command writes already" in err
    assert not Path("both").exists()
