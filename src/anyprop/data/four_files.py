"""Data sets of four IDX files, images and labels for training and for testing, as MNIST is published."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._files import as_path
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import from_host
from anyprop.data._directory import find_files
from anyprop.data._prepare import Examples, Stored, check_class_numbers, prepare
from anyprop.data.idx import read_idx


@usage("load_idx(folder)")
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
    TypeError
        An argument is of another kind.
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
    images = _read_images(images_file)
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
    check_class_numbers(labels, file)
    return labels


def _read_images(file: Path) -> NDArray[np.uint8]:
    images = read_idx(file)
    if images.dtype != np.uint8 or images.ndim != 3 or images.size == 0:
        raise ValueError(
            f"{file} holds {images.shape} {images.dtype}; expected a nonempty array of uint8 with 3 "
            "dimensions, as its name says."
        )
    return images


def _size(part: Stored) -> str:
    return " x ".join(map(str, part.images.shape[1:]))
