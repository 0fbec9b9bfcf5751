"""Files of other programs are named as what they are, as those programs write them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import struct
import zipfile

import numpy as np
import onnx
import pytest
from PIL import Image

import anyprop as ap
from anyprop._foreign import HEAD, foreign


def _pictures(path):
    Image.new("RGB", (9, 9)).save(path)


def _zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "content")


def _onnx(path):
    net = ap.MLP([3, 2])
    ap.export_onnx(net, net.init(), path)
    model = onnx.load(path)
    assert model.producer_name == "anyprop"


def _bare_onnx(path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), path)


FILES = {
    "a.png": ("a PNG picture", _pictures),
    "a.jpg": ("a JPEG picture", _pictures),
    "a.gif": ("a GIF picture", _pictures),
    "a.bmp": ("a BMP picture", _pictures),
    "a.tiff": ("a TIFF picture", _pictures),
    "a.webp": ("a WebP picture", _pictures),
    "a.pdf": ("a PDF document", _pictures),
    "a.heic": ("a HEIC picture", lambda p: p.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))),
    "a.npy": ("an array of NumPy", lambda p: np.save(p, np.ones(3))),
    "a.npz": ("an .npz archive of NumPy", lambda p: np.savez(p, W=np.ones(3))),
    "b.npz": ("an .npz archive of NumPy", lambda p: np.savez_compressed(p, np.ones(3))),
    "a.keras": ("a Keras file", lambda p: _zip(p, "metadata.json", "model.weights.h5")),
    "a.pt": ("a PyTorch file", lambda p: _zip(p, "a/data.pkl", "a/version")),
    "a.zip": ("a zip archive", lambda p: _zip(p, "letter.txt")),
    "a.h5": ("an HDF5 file", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))),
    "a.pkl": ("a pickle", lambda p: p.write_bytes(pickle.dumps({"W": np.ones(3)}))),
    "b.pkl": ("a pickle", lambda p: p.write_bytes(pickle.dumps([1, 2], protocol=2))),
    "a.onnx": ("an ONNX model", _onnx),
    "b.onnx": ("an ONNX model", _bare_onnx),
    "a.gz": ("a gzip file", lambda p: p.write_bytes(gzip.compress(b"digits"))),
    "a.bz2": ("a bzip2 file", lambda p: p.write_bytes(bz2.compress(b"digits"))),
    "a.xz": ("an xz file", lambda p: p.write_bytes(lzma.compress(b"digits"))),
    "a-ubyte": ("an IDX file of data", lambda p: p.write_bytes(b"\0\0\x08\1\0\0\0\2ab")),
    "history.json": ("a JSON file", lambda p: p.write_text(json.dumps({"losses": [1.0]}))),
    "a.csv": ("a text file", lambda p: p.write_text("x,y\n1,2\n")),
    "b.txt": ("a text file", lambda p: p.write_bytes(("x" + "数" * 400).encode())),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs(name, tmp_path):
    path = tmp_path / name
    kind, write = FILES[name]
    write(path)
    assert foreign(path.read_bytes()[:HEAD]).name == kind
    with pytest.raises(ValueError, match="is no safetensors file but") as caught:
        ap.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no safetensors file but {kind}; ")
    assert message.endswith(".")
    assert message.count(". ") == 0


def test_pytorch_s_own_files(tmp_path):
    torch = pytest.importorskip("torch")
    for new in (True, False):
        torch.save({"W": torch.ones(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        assert foreign((tmp_path / "a.pt").read_bytes()[:HEAD]).name == "a PyTorch file"


def test_a_network_that_was_cut_is_no_file_of_another_program(tmp_path):
    net = ap.MLP([3, 2])
    ap.save(tmp_path / "a", net.init(), net=net)
    whole = (tmp_path / "a").read_bytes()
    for length in (9, 60, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is no safetensors file, or is truncated"):
            ap.load(tmp_path / "a")


def test_an_empty_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="it is empty; write it again"):
        ap.load(tmp_path / "a")


def test_no_bytes_are_too_strange():
    rng = np.random.default_rng(0)
    for beginning in (b"", b"PK\3\4", b"\x80", b"\0\0\x08", b"\x08", b"{", b"\xef\xbb\xbf"):
        for length in (0, 1, 2, 30, 500):
            foreign(beginning + rng.bytes(length))
    assert foreign(b"") is None
    assert foreign(struct.pack("<Q", 100) + b'{"a":') is None
