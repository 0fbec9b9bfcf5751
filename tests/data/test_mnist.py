"""MNIST is that of the files as published, in every shape that it is asked for."""

import hashlib
import inspect
import struct

import numpy as np
import pytest

from anyprop.backend import device_of, dtype_name, namespace
from anyprop.data import load_mnist

# Of the four files as published, uncompressed.
SHA256 = {
    "train images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TRAIN_HISTOGRAM = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_HISTOGRAM = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="module")
def default():
    return load_mnist()


@pytest.fixture(scope="module")
def raw():
    return load_mnist(False, False)


def sha256_of_idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def test_every_byte_is_that_of_the_published_files(raw):
    (x, t), (xv, tv) = raw
    assert {
        "train images": sha256_of_idx(x[:, 0].astype(np.uint8)),
        "train labels": sha256_of_idx(t.astype(np.uint8)),
        "test images": sha256_of_idx(xv[:, 0].astype(np.uint8)),
        "test labels": sha256_of_idx(tv.astype(np.uint8)),
    } == SHA256


def test_default_shapes_and_dtypes(default):
    (x, t), (xv, tv) = default
    assert (x.shape, t.shape, xv.shape, tv.shape) == (
        (60000, 784),
        (60000,),
        (10000, 784),
        (10000,),
    )
    assert (x.dtype, t.dtype, xv.dtype, tv.dtype) == ("f4", "i8", "f4", "i8")


def test_label_histograms(default):
    (_, t), (_, tv) = default
    assert np.bincount(t).tolist() == TRAIN_HISTOGRAM
    assert np.bincount(tv).tolist() == TEST_HISTOGRAM


def test_unflattened_unnormalized_images(raw):
    (x, _), (xv, _) = raw
    assert (x.shape, xv.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (x.dtype, xv.dtype) == ("f4", "f4")
    assert (x.min(), x.max()) == (0, 255)


def test_normalized_pixels_are_the_quotients_rounded_once(default, raw):
    (x, _), (xv, _) = default
    (whole, _), (whole_v, _) = raw
    quotients = (np.arange(256) / np.float64(255)).astype(np.float32)
    assert np.array_equal(x, quotients[whole.reshape(x.shape).astype(np.intp)])
    assert np.array_equal(xv, quotients[whole_v.reshape(xv.shape).astype(np.intp)])
    assert (x.min(), x.max()) == (0.0, 1.0)


def test_one_hot_labels(default):
    (_, t), (_, tv) = default
    (_, hot), (_, hot_v) = load_mnist(one_hot_label=True)
    assert (hot.shape, hot_v.shape) == ((60000, 10), (10000, 10))
    assert (hot.dtype, hot_v.dtype) == ("f4", "f4")
    assert np.array_equal(hot, np.eye(10)[t])
    assert np.array_equal(hot_v, np.eye(10)[tv])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtype_is_that_of_images_and_one_hot_labels(dtype, raw):
    (x, t), (xv, tv) = load_mnist(one_hot_label=True, dtype=dtype)
    assert {a.dtype.name for a in (x, t, xv, tv)} == {dtype}
    quotients = (np.arange(256) / np.float64(255)).astype(dtype)
    whole = raw[1][0]
    assert np.array_equal(xv, quotients[whole.reshape(xv.shape).astype(np.intp)])


@pytest.mark.parametrize("dtype", ["float31", "int64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=f"unknown floating-point dtype '{dtype}'"):
        load_mnist(dtype=dtype)


def test_arrays_of_every_backend(backend, default):
    loaded = load_mnist(xp=backend.xp, device=backend.device)
    for arrays, expected in zip(loaded, default, strict=True):
        for array, host in zip(arrays, expected, strict=True):
            assert namespace(array) is backend.xp
            assert backend.device in (None, device_of(array))
            assert dtype_name(array) == host.dtype.name
            assert np.array_equal(backend.to_numpy(array), host)


def test_calls_share_no_memory(default):
    again = load_mnist()
    for arrays, others in zip(again, default, strict=True):
        for array, other in zip(arrays, others, strict=True):
            assert array.flags.writeable
            assert not np.shares_memory(array, other)


def test_positions_are_those_of_the_book():
    parameters = inspect.signature(load_mnist).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        "normalize",
        "flatten",
        "one_hot_label",
    ]
