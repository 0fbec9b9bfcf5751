"""MNIST, the handwritten digits, from the file that comes with the package."""

from __future__ import annotations

import io
import lzma
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._usage import usage
from anyprop.data._prepare import Examples, Stored, prepare
from anyprop.data.idx import read_header

_STREAM_HEADER_SIZE = 12


@usage("load_mnist()")
def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    xp: Any = None,
    dtype: str = "float32",
    device: Any = None,
) -> tuple[Examples, Examples]:
    """Load the MNIST handwritten digits: 60000 images for training, 10000 for testing.

    The data come with the package; nothing is downloaded, written or kept.

    Parameters
    ----------
    normalize : bool, default True
        Divide pixels by 255, so that they are in [0, 1], instead of leaving them in [0, 255].
    flatten : bool, default True
        Flatten each image into one row of 784 pixels, instead of (1, 28, 28).
    one_hot_label : bool, default False
        Convert each label into a row of nine zeros and a one, instead of a number from 0 to 9.
    xp : namespace or str, optional
        Namespace of the arrays, such as ``"torch"``; NumPy by default.
    dtype : {"float32", "float16", "float64"}, default "float32"
        Type of the images, and of labels in one-hot form.
    device : str or device, optional
        Device of the arrays; the namespace's default device by default.

    Returns
    -------
    (x, t), (xv, tv) : tuple of tuples of arrays
        For training, x, (60000, 784) or (60000, 1, 28, 28) of `dtype`, 0 the background and 1 (or
        255) the ink, and t, (60000,) int64 or (60000, 10) of `dtype`; for testing, xv and tv, the
        same with 10000 for 60000. JAX without its 64-bit mode makes the labels int32.

    Raises
    ------
    TypeError, ValueError
        An argument is of another kind, or the dtype is not one of those above.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.

    Examples
    --------
    >>> (x, t), (xv, tv) = load_mnist()
    >>> x.shape, t.shape, xv.shape, tv.shape
    ((60000, 784), (60000,), (10000, 784), (10000,))
    >>> t[:8]
    array([5, 0, 4, 1, 9, 2, 1, 3])
    """
    train, test = _unpack()
    return prepare(
        train,
        test,
        10,
        normalize=normalize,
        flatten=flatten,
        one_hot_label=one_hot_label,
        xp=xp,
        dtype=dtype,
        device=device,
    )


def _unpack() -> tuple[Stored, Stored]:
    packed = resources.files("anyprop.data").joinpath("mnist.xz").read_bytes()
    # Every xz stream in the file begins with the same bytes. Cut there, the streams can be
    # unpacked at the same time, because lzma lets other threads run.
    start = packed[:_STREAM_HEADER_SIZE]
    streams = [start + rest for rest in packed.split(start)[1:]]
    with ThreadPoolExecutor() as pool:
        content = b"".join(pool.map(lzma.decompress, streams))
    stream = io.BytesIO(content)

    def take() -> NDArray[np.uint8]:
        header = read_header(stream, "mnist.xz")
        elements = np.frombuffer(content, np.uint8, header.nbytes, stream.tell())
        stream.seek(header.nbytes, io.SEEK_CUR)
        return elements.reshape(header.shape)

    return Stored(take(), take()), Stored(take(), take())
