"""What is advised where a file of another kind was named is done as it says, and the call succeeds."""

import numpy as np
import pytest

import anyprop as ap

NET = ap.MLP([2, 3, 2])
PARAMS = NET.init()


def refused(path, *advice):
    with pytest.raises(ValueError, match="is no safetensors file but") as told:
        ap.load(path)
    for words in advice:
        assert words in str(told.value)


def test_a_picture(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    digit = image.frombytes("L", (28, 28), bytes(255 * (i % 28 in (13, 14)) for i in range(784)))
    digit.save(tmp_path / "a.gif")
    refused(tmp_path / "a.gif", "save it as PNG or JPEG, which anyprop.load_image and ")
    digit.save(tmp_path / "a.png")
    assert ap.load_image(tmp_path / "a.png").shape == (1, 784)

    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match="save it again"):
        ap.load_image(tmp_path / "b.png")
    digit.save(tmp_path / "b.png")
    ap.load_image(tmp_path / "b.png")

    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 1000)
    digit.resize((280, 280)).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match="scale it down"):
        ap.load_image(tmp_path / "c.png")
    digit.save(tmp_path / "c.png")
    ap.load_image(tmp_path / "c.png")


def test_arrays_of_numpy(tmp_path):
    named = PARAMS.named()
    np.savez(tmp_path / "a.npz", **named)
    advice = "read it by numpy.load, put the arrays into a network's parameters, and save those"
    refused(tmp_path / "a.npz", advice)
    params = NET.init(seed=1)
    with np.load(tmp_path / "a.npz") as found:
        for name, array in params.named().items():
            array[...] = found[name]
    ap.save(tmp_path / "b", params, net=NET)
    np.testing.assert_array_equal(ap.load(tmp_path / "b").params.flat, PARAMS.flat)


def test_a_pickle_and_a_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.")
    refused(tmp_path / "a", "save the network by anyprop.save")
    (tmp_path / "b").write_text("weights\n")
    refused(tmp_path / "b", "name a file that anyprop.save or `anyprop train` wrote")
    ap.save(tmp_path / "c", PARAMS, net=NET)
    ap.load(tmp_path / "c")


def test_an_empty_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ValueError, match="write it again"):
        ap.load(tmp_path / "a")
    ap.save(tmp_path / "a", PARAMS)
    ap.load(tmp_path / "a")


def test_an_onnx_model(tmp_path):
    ap.save(tmp_path / "a", PARAMS, net=NET)
    ap.export_onnx(NET, PARAMS, tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx", "take the safetensors file that it was exported from")
    ap.load(tmp_path / "a")


@pytest.mark.needs("torch")
def test_a_file_of_pytorch(tmp_path):
    import safetensors.torch
    import torch

    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    torch.save(layers.state_dict(), tmp_path / "a.pt")
    advice = "load it in PyTorch, write its state dictionary by safetensors.torch.save_file, and "
    refused(tmp_path / "a.pt", advice + "read that by anyprop.interchange.from_torch")
    safetensors.torch.save_file(torch.load(tmp_path / "a.pt"), tmp_path / "a")
    ap.interchange.from_torch(NET, tmp_path / "a")
