"""A stream yields the batches it was given, as numbers on the host, and names what it cannot use."""

import re

import numpy as np
import pytest

import anyprop as ap

X, T = np.arange(12.0).reshape(4, 3), np.arange(4)


def stream(*batches, **options):
    return ap.Stream(lambda epoch: iter(batches), **options)


def test_batches_come_as_they_were_given():
    def batches(epoch):
        yield X + epoch, T
        yield X[:1], T[:1]

    given = ap.Stream(batches)
    for epoch in range(2):
        (x, t), (xs, ts) = given.read(epoch)
        np.testing.assert_array_equal(x, X + epoch, strict=True)
        np.testing.assert_array_equal(t, T, strict=True)
        np.testing.assert_array_equal(xs, X[:1], strict=True)
        np.testing.assert_array_equal(ts, T[:1], strict=True)


def test_a_list_of_batches_is_read_anew_in_each_epoch():
    listed = [(X, T), [X, T.tolist()]]
    given = ap.Stream(lambda epoch: listed)
    assert [len(list(given.read(epoch))) for epoch in range(2)] == [2, 2]


def test_what_was_read_stays_where_a_generator_fills_a_buffer_again():
    def batches(epoch):
        buffer = np.empty((4, 3), "float32")
        for k in range(3):
            buffer[:] = k
            yield buffer, T

    assert [x[0, 0] for x, _ in list(ap.Stream(batches).read(0))] == [0, 1, 2]


def test_numbers_are_rounded_on_request_and_in_the_machines_byte_order():
    ((x, t, w),) = stream((X.astype(">f8"), T.astype(">i4"), X[:, 0]), dtype="float32").read(0)
    assert [part.dtype for part in (x, t, w)] == ["float32", "int32", "float32"]
    ((x, t),) = stream((X.astype(">f8"), T)).read(0)
    assert x.dtype == np.dtype("float64")
    assert x.dtype.isnative


def test_values_may_be_what_numpy_reads(backend):
    if backend.device_name is None:
        ((x, _),) = stream((backend.asarray(X), backend.asarray(T))).read(0)
        np.testing.assert_array_equal(x, X, strict=True)


def test_the_iterator_is_closed_with_the_reading_of_it():
    closed = []

    def batches(epoch):
        try:
            while True:
                yield X, T
        finally:
            closed.append(epoch)

    held = batches(3)  # or it would be closed when it is collected
    reading = ap.Stream(lambda epoch: held).read(3)
    next(reading)
    assert not closed
    reading.close()
    assert closed == [3]


def generator():
    yield X, T


class Listed:
    def __iter__(self):
        return iter([])


NOT_BATCHES = {
    "Stream: builtins.generator can be run through only once; give batches as a function": generator(),
    "Stream: batches must be a function of the epoch, not builtins.list; write Stream(lambda": [
        (X, T)
    ],
    f"batches must be a function of the epoch, not {__name__}.Listed; write Stream": Listed(),
    "Stream: batches must be a function of the epoch that returns the batches, not builtins.int": 3,
    "that returns the batches, not builtins.function": lambda: None,
    "that returns the batches, not the class ReLU; write ReLU(...)": ap.ReLU,
    "that returns the batches, not builtins.NoneType": None,
}


@pytest.mark.parametrize("message", NOT_BATCHES)
def test_what_makes_no_batches_is_refused(message):
    with pytest.raises(TypeError, match=re.escape(message)):
        ap.Stream(NOT_BATCHES[message])


WRONG = {
    "batches(0) must return an iterable of batches, not builtins.NoneType": lambda epoch: None,
    "batches gave no batch for epoch 0": lambda epoch: [],
    "batch 1 of epoch 0 must be (x, t) or (x, t, weight), not numpy.ndarray": lambda e: [(X, T), X],
    "batch 0 of epoch 0 must be (x, t) or (x, t, weight), not builtins.dict": lambda e: [{"x": X}],
    "batch 0 of epoch 0 must be (x, t) or (x, t, weight), not a tuple of 1": lambda e: [(X,)],
    "must have a row for each of its examples in all arrays, at least one; the shapes are (4, 3), "
    "(3,)": lambda e: [(X, T[1:])],
    "the shapes are (4, 3), ()": lambda e: [(X, 1)],
    "the shapes are (), ()": lambda e: [(1.0, 1)],
    "the shapes are (0, 3), (0,)": lambda e: [(X[:0], T[:0])],
    "batch 1 of epoch 0: x has float64 rows of shape (2,), but float64 of shape (3,) in batch 0 of "
    "epoch 0.": lambda e: [(X, T), (X[:, 1:], T)],
    "batch 1 of epoch 0: there are 2 arrays, but 3 in batch 0 of epoch 0.": lambda e: [
        (X, T, T),
        (X, T),
    ],
    "t is <U21; a Source must give numbers": lambda e: [(X, T.astype(str))],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_batch_is_refused_in_a_sentence(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        list(ap.Stream(WRONG[message]).read(0))


def test_a_number_beyond_the_dtype_is_named_by_its_batch():
    with pytest.raises(ValueError, match=re.escape("batch 1 of epoch 0: x[0, 1] is 1e+40, which")):
        list(stream((X, T), (X * 1e40, T), dtype="float32").read(0))


@pytest.mark.parametrize(("name", "wrong"), [("ahead", -1), ("ahead", 1.5), ("dtype", "int8")])
def test_options_are_checked_and_do_not_change(name, wrong):
    with pytest.raises((TypeError, ValueError), match=name):
        stream((X, T), **{name: wrong})
    with pytest.raises(AttributeError):
        setattr(stream((X, T)), name, 1)


def test_the_error_of_the_iterable_is_not_changed():
    def batches(epoch):
        yield X, T
        raise OSError(5, "Input/output error")

    reading = ap.Stream(batches).read(0)
    next(reading)
    with pytest.raises(OSError, match="Input/output error"):
        next(reading)
