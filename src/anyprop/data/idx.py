"""IDX files, the format of MNIST: a type, a shape, and the numbers of one array, big-endian.

    byte 0, 1        zero
    byte 2           type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3           number n of dimensions
    n x 4 bytes      sizes of the dimensions, unsigned
    rest             the elements in C order

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyprop._files import as_path
from anyprop._typing import Array
from anyprop.backend import from_host
from anyprop.data._directory import find_files
from anyprop.data._prepare import Examples, Stored, prepare

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 64  # NumPy holds no more
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_MOST_EXPANSION = 1032  # deflate spends at least two bits on 258 bytes
_CHUNK = 1 << 20


class Header(NamedTuple):
    """What the header of an IDX file declares.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the elements as stored, big-endian.
    shape : tuple of int
        Sizes of the dimensions.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the elements that follow, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: io.BufferedIOBase, name: object) -> Header:
    """Read the header of an IDX file and leave the stream at the first element.

    Parameters
    ----------
    stream : binary file
        Open for reading, at the beginning of the header.
    name : object
        What messages call the file.

    Returns
    -------
    Header
        The declared type and shape.

    Raises
    ------
    ValueError
        This is not an IDX header, or it does not describe an array.
    """
    magic = stream.read(4)
    if not magic:
        raise ValueError(f"{name} is empty; expected an IDX file, plain or gzip-compressed.")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(
            f"{name} is not an IDX file: it begins with the bytes {magic.hex(' ')}, expected 00 00, a "
            f"type code out of {', '.join(f'{code:02x}' for code in _DTYPES)}, and the number of "
            "dimensions."
        )
    dimensions = magic[3]
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(
            f"{name} declares an array of {dimensions} dimensions; "
            f"expected 1 to {_MOST_DIMENSIONS}."
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(
            f"{name} is truncated: it ends inside its header, which should take "
            f"{4 + 4 * dimensions} bytes; fetch the file again."
        )
    header = Header(np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{dimensions}I", sizes))
    # NumPy refuses a shape by its nonzero sizes alone, so an empty array can be too large as well.
    if math.prod(max(size, 1) for size in header.shape) * header.dtype.itemsize > sys.maxsize:
        raise ValueError(
            f"{name} declares an array of shape {header.shape}, larger than any memory; "
            "expected the header of an IDX file that describes its contents."
        )
    return header


def read_idx(file: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, plain or compressed with gzip.

    Compression is detected by the contents, not by the name. A header is never trusted: memory is
    taken only as data arrives, and no more is unpacked than the header declares.

    Parameters
    ----------
    file : str or path
        The file to read.

    Returns
    -------
    numpy.ndarray
        The stored numbers in the stored shape; uint8, int8, int16, int32, float32 or float64 in
        the machine's own byte order.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not exactly one whole IDX file: empty, foreign, truncated, damaged or followed by
        other data.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "numbers")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30]))
    >>> read_idx(path)
    array([[10, 20, 30]], dtype=uint8)
    """
    path = as_path(file)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; expected an IDX file.")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; expected an IDX file.")
    size = path.stat().st_size
    with path.open("rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            return _read_array(raw, path, size)
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read_array(unpacked, path, size * _GZIP_MOST_EXPANSION)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path} is a damaged or truncated gzip file ({error}); fetch the file again."
            ) from error


def _read_array(stream: io.BufferedIOBase, path: Path, at_most: int) -> NDArray[Any]:
    header = read_header(stream, path)
    declared = f"its header declares {header.shape} {header.dtype.name}, {header.nbytes} bytes"
    if header.nbytes > at_most:
        raise ValueError(
            f"{path} is truncated or damaged: {declared}, more than a file of this size can hold; "
            "fetch the file again."
        )
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, header.nbytes - len(data))):
        data += chunk
    if len(data) < header.nbytes:
        raise ValueError(
            f"{path} is truncated: {declared}, but only {len(data)} follow; fetch the file again."
        )
    if stream.read(1):
        raise ValueError(
            f"{path} is too long: {declared}, but more follow; expected the end of the file there."
        )
    stored = np.frombuffer(data, header.dtype).reshape(header.shape)
    native = header.dtype.newbyteorder("=")
    if native != header.dtype:
        stored.byteswap(inplace=True)  # a second array would double the memory
    return stored.view(native)


def load_idx(
    directory_or_file: str | os.PathLike[str],
    *,
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    xp: Any = None,
    dtype: str = "float32",
    device: Any = None,
) -> Array | tuple[Examples, Examples]:
    """Load a directory that holds an MNIST-like data set, or a single IDX file.

    A data set is four files, plain or compressed with gzip, named as MNIST's are
    (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``,
    ``t10k-labels-idx1-ubyte``; ``.idx`` for ``-idx``, ``test`` for ``t10k``, a common prefix such
    as ``emnist-letters-`` and ``.gz`` are understood). Images and classes may be of any size and
    number. Pixels are not moved; EMNIST stores its images with rows and columns exchanged.

    Parameters
    ----------
    directory_or_file : str or path
        The directory of a data set, or one IDX file.
    normalize : bool, default True
        Divide pixels by 255, so that they are in [0, 1], instead of leaving them in [0, 255].
        This and the next two options, and `dtype`, concern data sets; a single file is returned
        as stored.
    flatten : bool, default True
        Flatten each image into one row of H W pixels, instead of (1, H, W).
    one_hot_label : bool, default False
        Convert each label into a row of zeros with a single one, instead of its number. The rows
        are as wide as the largest label of the two parts requires.
    xp : namespace or str, optional
        Namespace of the arrays, such as ``"torch"``; NumPy by default.
    dtype : {"float32", "float16", "float64"}, default "float32"
        Type of the images, and of labels in one-hot form.
    device : str or device, optional
        Device of the arrays; the namespace's default device by default.

    Returns
    -------
    (x, t), (xv, tv) : tuple of tuples of arrays
        Of a data set: x, (N, H W) or (N, 1, H, W) of `dtype`, and t, (N,) int64 or (N, classes) of
        `dtype`, for training; the same for testing. JAX without its 64-bit mode makes the labels int32.
    array
        Of a single file: its numbers in the shape and dtype they have there.

    Raises
    ------
    FileNotFoundError
        There is no such file or directory, or one of the four files is missing.
    ValueError
        A file is not exactly one whole IDX file, the files do not fit together, the directory
        leaves a choice, or the dtype is unknown.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
    .. [2] G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to
       handwritten letters", 2017, arXiv:1702.05373.
    """
    path = as_path(directory_or_file)
    if not path.is_dir():
        return from_host(read_idx(path), xp, device=device)
    files = find_files(path)
    train = _read_part(files.train_images, files.train_labels)
    test = _read_part(files.test_images, files.test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{files.train_images} holds images of {_size(train)} pixels, but {files.test_images} "
            f"of {_size(test)}; expected images of one size in a data set."
        )
    return prepare(
        train,
        test,
        1 + max(int(train.labels.max()), int(test.labels.max())),
        normalize=normalize,
        flatten=flatten,
        one_hot_label=one_hot_label,
        xp=xp,
        dtype=dtype,
        device=device,
    )


def _read_part(images_file: Path, labels_file: Path) -> Stored:
    images = _read_bytes(images_file, 3)
    labels = _read_labels(labels_file)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images, but {labels_file} holds {len(labels)} "
            "labels; expected one label for each image."
        )
    return Stored(images, labels)


def _read_labels(file: Path) -> NDArray[Any]:
    labels = read_idx(file)
    if labels.ndim == 2 and labels.shape[1] == 8:
        labels = labels[:, 0]  # QMNIST has seven further columns with more about each digit
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"{file} holds {labels.shape} {labels.dtype}; expected a nonempty array of whole "
            "numbers with 1 dimension, as its name says (or 8 columns, as in QMNIST)."
        )
    if labels.min() < 0:
        raise ValueError(
            f"{file} holds the label {labels.min()}; expected class numbers of at least 0."
        )
    return labels


def _read_bytes(file: Path, dimensions: int) -> NDArray[np.uint8]:
    array = read_idx(file)
    if array.dtype != np.uint8 or array.ndim != dimensions or array.size == 0:
        raise ValueError(
            f"{file} holds {array.shape} {array.dtype}; "
            f"expected a nonempty array of uint8 with {dimensions} dimension(s), as its name says."
        )
    return array


def _size(part: Stored) -> str:
    return " x ".join(map(str, part.images.shape[1:]))
