"""What a file is that is not what was asked for, told by its first bytes."""

from __future__ import annotations

import codecs
from typing import NamedTuple

HEAD = 512
"""How many of a file's first bytes are enough."""


class Foreign(NamedTuple):
    """A kind of file, with its article, and what who took it for a saved network should do instead."""

    name: str
    instead: str


_READ = "anyprop.load_image and `anyprop predict --image` read it"
_CONVERT = "save it as PNG or JPEG, which anyprop.load_image and `anyprop predict --image` read"
_UNPACK = "unpack it first"
_TORCH = (
    "load it in PyTorch, write its state dictionary by safetensors.torch.save_file, and read that by "
    "anyprop.interchange.from_torch"
)
_ARRAYS = (
    "write `--data` before it if it holds examples; if it holds parameters, read it by numpy.load, put "
    "the arrays into a network's parameters, and save those"
)
_KERAS = "load it in Keras, put its weights into a network's parameters, and save those"

_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": Foreign("a PNG picture", _READ),
    b"\xff\xd8\xff": Foreign("a JPEG picture", _READ),
    b"GIF8": Foreign("a GIF picture", _CONVERT),
    b"BM": Foreign("a BMP picture", _CONVERT),
    b"II*\0": Foreign("a TIFF picture", _CONVERT),
    b"MM\0*": Foreign("a TIFF picture", _CONVERT),
    b"%PDF": Foreign("a PDF document", _CONVERT),
    b"\x93NUMPY": Foreign("an array of NumPy", _ARRAYS),
    b"\x89HDF\r\n\x1a\n": Foreign("an HDF5 file", _KERAS),
    b"\x1f\x8b": Foreign("a gzip file", _UNPACK),
    b"BZh": Foreign("a bzip2 file", _UNPACK),
    b"\xfd7zXZ\0": Foreign("an xz file", _UNPACK),
    b"\x28\xb5\x2f\xfd": Foreign("a zstandard file", _UNPACK),
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9": Foreign("a PyTorch file", _TORCH),
}
_IDX = Foreign("an IDX file of data", "`--data` and anyprop.load_idx read it")
_PICKLE = Foreign(
    "a pickle",
    "reading one can run any code, so anyprop does not; save the network by anyprop.save, or an "
    "estimator's by anyprop.interchange.from_sklearn and then anyprop.save",
)
_ONNX = Foreign("an ONNX model", "take the safetensors file that it was exported from")
_JSON = Foreign("a JSON file", "the network of a run is in model.safetensors beside history.json")
_TEXT = Foreign("a text file", "name a file that anyprop.save or `anyprop train` wrote")


def foreign(head: bytes) -> Foreign | None:
    """Return what begins with these bytes; None where they do not say.

    Examples
    --------
    >>> foreign(b"GIF89a").name
    'a GIF picture'
    """
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[8:12] == b"WEBP":
        return Foreign("a WebP picture", _CONVERT)
    if head[4:8] == b"ftyp":
        heif = head[8:12] in (b"heic", b"heix", b"mif1", b"avif")
        return Foreign("a HEIC picture" if heif else "a video", _CONVERT)
    if head.startswith(b"PK\3\4"):
        return _zip(head)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return _PICKLE
    if len(head) < 4:
        return _text(head)
    if head[:2] == b"\0\0" and head[2] in b"\x08\x09\x0b\x0c\x0d\x0e" and 0 < head[3] < 5:
        return _IDX
    # Protocol Buffers: the field 1, ir_version, and then one of those with texts or messages
    if head[0] == 8 and 0 < head[1] < 32 and head[2] in b"\x12\x1a\x3a\x42":
        return _ONNX
    return _text(head)


def but_foreign(head: bytes) -> str:
    """Return " but " and what begins with these bytes; nothing where they do not say."""
    kind = foreign(head)
    return " but empty" if not head else "" if kind is None else f" but {kind.name}"


def _zip(head: bytes) -> Foreign | None:
    """Recognize archives by the name of the first file in them, which is part of their format."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    if name.endswith(("/data.pkl", "/.format_version", "/.storage_alignment")):
        return Foreign("a PyTorch file", _TORCH)
    if name.endswith(".npy"):
        return Foreign("an .npz archive of NumPy", _ARRAYS)
    if name in ("metadata.json", "config.json", "model.weights.h5"):
        return Foreign("a Keras file", _KERAS)
    return Foreign("a zip archive", _UNPACK) if name else None


def _text(head: bytes) -> Foreign | None:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # it may be cut in a letter
    except UnicodeDecodeError:
        return None
    if not text.strip() or not all(c.isprintable() or c in "\t\n\r\f" for c in text):
        return None
    return _JSON if text.lstrip().startswith(("{", "[")) else _TEXT
