"""A source reads the rows it is asked for, as they are in memory, and names what it cannot use."""

import re

import numpy as np
import pytest

import anyprop as ap
from anyprop.sources import reading

N = 40


def arrays(dtype="float32", n=N):
    rng = np.random.default_rng(0)
    return (rng.random((n, 3)) * 200).astype(dtype), rng.integers(0, 9, n)


class Rows:
    """An object that writes down what it was asked for."""

    def __init__(self, *parts):
        self.parts, self.asked = parts, []

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, rows):
        assert type(rows) is np.ndarray
        assert rows.dtype == "int64"
        assert (np.diff(rows) > 0).all()
        assert rows[0] >= 0
        assert rows[-1] < len(self)
        self.asked.append(rows.tolist())
        return tuple(part[rows] for part in self.parts)


class Chunked:
    """An array in chunks that is read by slices alone; it writes them down."""

    def __init__(self, array, chunks):
        self.array, self.chunks, self.asked = array, chunks, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.asked.append((rows.start, rows.stop))
        return self.array[rows]


def memmap(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


class Points:
    """An array in a file whose rows are asked for by increasing numbers, once each."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, rows):
        assert rows.dtype == "int64"
        assert (np.diff(rows) > 0).all()
        return self.array[rows]


KINDS = {
    "points": lambda x, folder: Points(x),
    "array": lambda x, folder: x,
    "memmap": memmap,
    "Fortran": lambda x, folder: np.asfortranarray(x),
    "backwards": lambda x, folder: x[::-1].copy()[::-1],
    "other columns": lambda x, folder: np.repeat(x, 2, axis=1)[:, ::2],
    "big-endian": lambda x, folder: x.astype(x.dtype.newbyteorder(">")),
    "chunked": lambda x, folder: Chunked(x, (7, 2)),
    "contiguous file": lambda x, folder: Chunked(x, None),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16", "bool"])
@pytest.mark.parametrize("rows", [[5], [0, 1, 2], [39, 3, 3, 17, 0, 39], range(N), []])
def test_rows_are_those_of_the_array_in_memory(kind, dtype, rows, tmp_path):
    x, t = arrays(dtype)
    weight = np.linspace(0, 1, N)
    source = ap.Source((KINDS[kind](x, tmp_path), t, weight))
    found = source.read(list(rows))
    for part, whole in zip(found, (x, t, weight), strict=True):
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(part, whole[list(rows)], strict=True)


def test_a_row_that_is_repeated_in_memory_is_read():
    x = np.broadcast_to(np.asarray([[1.0, 2.0]]), (5, 2))
    assert ap.Source((x, np.arange(5))).read([3, 1])[0].tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_what_is_read_is_the_callers_to_write_to():
    x, t = arrays()
    kept = x.copy()
    for data in ((x, t), Rows(x, t), (Chunked(x, (7, 3)), t)):
        ap.Source(data).read(range(N))[0][:] = 0
        np.testing.assert_array_equal(x, kept)


def test_an_object_is_asked_for_increasing_distinct_rows():
    x, t = arrays()
    data = Rows(x, t)
    source = ap.Source(data)
    assert data.asked == []
    assert len(source) == N
    found = source.read(np.asarray([7, 2, 7, 30], dtype="uint8"))
    np.testing.assert_array_equal(found[0], x[[7, 2, 7, 30]])
    np.testing.assert_array_equal(found[1], t[[7, 2, 7, 30]])
    source.read([1])
    assert data.asked == [[0], [2, 7, 30], [1]]  # the first, which all others are compared with


def test_what_comes_more_than_once_is_read_once_and_its_places_told():
    x, t = arrays()
    for data in ((x, t), Rows(x, t)):
        rows = np.asarray([7, 3, 7, 39, 3])
        (part, labels), distinct, places = ap.Source(data).read_once(rows)
        np.testing.assert_array_equal(distinct, [3, 7, 39])
        np.testing.assert_array_equal(part, x[distinct])
        np.testing.assert_array_equal(labels[places], t[rows])


def test_an_object_may_fill_the_same_memory_again():
    class Buffer(Rows):
        buffer = np.empty((4, 3), "float32")

        def __getitem__(self, rows):
            x, t = super().__getitem__(rows)
            self.buffer[: len(rows)] = x
            return self.buffer[: len(rows)], t

    x, t = arrays()
    source = ap.Source(Buffer(x, t))
    first, _ = source.read(range(4))
    source.read(range(4, 8))
    np.testing.assert_array_equal(first, x[:4])


def test_values_may_be_what_numpy_reads(backend):
    x, t = arrays()

    class Elsewhere(Rows):
        def __getitem__(self, rows):
            return [backend.asarray(part) for part in super().__getitem__(rows)]

    def there(array):
        return ap.from_host(array, backend.xp)  # where NumPy can read it

    if backend.device_name is None:
        source = ap.Source(Elsewhere(x, t))
        np.testing.assert_array_equal(source.read([4, 1])[0], x[[4, 1]], strict=True)
    source = ap.Source((there(x), there(t)))
    np.testing.assert_array_equal(source.read([4, 1])[0], x[[4, 1]], strict=True)


# chunks of 4 rows -> what is read of them
RUNS = {
    (0, 1, 2): [(0, 3)],
    (3, 4): [(3, 5)],
    (1, 9): [(1, 2), (9, 10)],
    (1, 4, 11): [(1, 12)],
    (2, 6, 15, 39): [(2, 7), (15, 16), (39, 40)],
    tuple(range(N)): [(0, N)],
}


@pytest.mark.parametrize("rows", RUNS)
def test_chunks_that_touch_are_one_slice(rows):
    x, t = arrays()
    chunked = Chunked(x, (4, 1))
    np.testing.assert_array_equal(ap.Source((chunked, t)).read(rows[::-1])[0], x[list(rows[::-1])])
    chunked.asked.remove((0, 1))  # the first row, which all are compared with
    assert chunked.asked == RUNS[rows]


@pytest.mark.parametrize(("rows", "largest"), [(4, 48), (8, 96), (8, 100), (4, 1)])
def test_slices_are_small_and_end_where_chunks_do(monkeypatch, rows, largest):
    monkeypatch.setattr(reading, "LARGEST", largest)
    x, t = arrays()
    chunked = Chunked(x, (4, 3))  # of 12 bytes a row
    np.testing.assert_array_equal(ap.Source((chunked, t)).read(range(1, N))[0], x[1:])
    read = [ends for ends in chunked.asked if ends != (0, 1)]
    assert read == [(max(1, start), start + rows) for start in range(0, N, rows)]


def test_rows_of_a_contiguous_file_that_are_far_apart_are_read_apart():
    x, t = np.zeros((100, 9000), "uint8"), np.zeros(100)
    file = Chunked(x, None)
    ap.Source((file, t)).read([0, 3, 50, 52])
    assert [ends for ends in file.asked if ends != (0, 1)] == [(0, 4), (50, 53)]


EXACT = {  # dtype -> what is kept though it is rounded to it
    "float16": {"bool", "uint8", "int8", "float16"},
    "float32": {"bool", "uint8", "int8", "uint16", "int16", "float16", "float32"},
    "float64": {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"}
    | {"float16", "float32", "float64"},
    "bfloat16": {"bool", "uint8", "int8"},
}
DTYPES = EXACT["float64"] | {"int64", "uint64"}


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("stored", sorted(DTYPES))
def test_only_what_a_dtype_cannot_hold_is_rounded_to_it(dtype, stored):
    x = np.asarray([[0, 1, 1]], stored) / np.asarray(1, stored)
    x = x.astype(stored)
    source = ap.Source((x, x[:, 0], x[:, 1]), dtype=dtype)
    found = source.read([0])
    native = "float32" if dtype == "bfloat16" else dtype
    wanted = stored if stored in EXACT[dtype] else native
    assert [part.dtype for part in found] == [
        wanted,
        wanted if np.dtype(stored).kind == "f" else stored,  # labels stay what they are
        wanted,
    ]
    assert found[0].tolist() == [[0, 1, 1]]


def test_rounding_is_to_the_nearest(tmp_path):
    x = np.asarray([[0.1, 2**24 + 1.0]])
    found = ap.Source((x, np.zeros(1)), dtype="float32").read([0])[0]
    assert found.tolist() == [[0.10000000149011612, 2.0**24]]


def test_a_number_beyond_the_dtype_is_named_by_its_row():
    x, t = arrays("float64")
    x[31, 2] = 1e39
    source = ap.Source((x, t), dtype="float32")
    source.read([2, 30])
    with pytest.raises(ValueError, match=r"x\[31, 2\] is 1e\+39, which does not fit in float32"):
        source.read([2, 31, 30])
    x[31, 2] = np.inf  # is no number, and is found where numbers are checked
    assert source.read([31])[0][0, 2] == np.inf


def test_a_source_does_not_change():
    source = ap.Source(arrays(), ahead=2, block=np.int64(5))
    assert (source.ahead, source.block, source.dtype) == (2, 5, None)
    for name in ("data", "block", "dtype", "draw", "augment", "ahead"):
        with pytest.raises(AttributeError):
            setattr(source, name, 1)


def test_what_is_shown():
    assert repr(ap.Source(arrays("uint8"))) == "Source(x=uint8 (40, 3), t=int64 (40,))"
    data = Rows(*arrays())
    assert repr(ap.Source(data)) == "Source(Rows, 40 examples)"
    assert data.asked == []


class Length:
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, rows):
        return None


class Table:
    iloc = shape = dtype = None


X, T = arrays()
WRONG = {
    "Source: data must be (x, t), (x, t, weight), or an object": [
        lambda: ap.Source(x for x in [(X, T)]),
        lambda: ap.Source({"x": X, "t": T}),
        lambda: ap.Source("x.npy"),
        lambda: ap.Source(b"x"),
        lambda: ap.Source(X),
        lambda: ap.Source(None),
        lambda: ap.Source(Rows),
        lambda: ap.Source(3),
    ],
    "Source: data must be (x, t) or (x, t, weight), not a tuple of 4": [
        lambda: ap.Source((X, T, T, T))
    ],
    "Source: data must be (x, t) or (x, t, weight), not a list of 1": [lambda: ap.Source([X])],
    "Source: x must be an array with shape, dtype and x[rows], not builtins.list": [
        lambda: ap.Source((X.tolist(), T))
    ],
    "Source: t must be an array with shape, dtype and t[rows], not builtins.NoneType": [
        lambda: ap.Source((X, None))
    ],
    "Source: weight must be an array": [lambda: ap.Source((X, T, 1.0))],
    f"Source: t is {__name__}.Table, which finds rows by their labels; give t.to_numpy().": [
        lambda: ap.Source((X, Table()))
    ],
    "Source: x has 40 rows and t 39; each example has one in both.": [
        lambda: ap.Source((X, T[1:]))
    ],
    "Source: x has 40 rows and weight 5;": [lambda: ap.Source((X, T, T[:5]))],
    "Source: t is one number": [lambda: ap.Source((X, np.asarray(1)))],
    "Source has no examples: x has shape (0, 3).": [lambda: ap.Source((X[:0], T[:0]))],
    "Source has no examples: len(data) is 0.": [lambda: ap.Source(Length(0))],
    "Source: len(data) must be the number of examples:": [
        lambda: ap.Source(Length(-1)),
        lambda: ap.Source(Length(2.5)),
        lambda: ap.Source(Length(1 << 80)),
    ],
    "x is object; a Source must give numbers": [lambda: ap.Source((X.astype(object), T))],
    "t is <U21; a Source must give numbers": [lambda: ap.Source((X, T.astype(str)))],
    "x is complex64; a Source must give numbers": [
        lambda: ap.Source((X.astype("complex64"), T)),
        lambda: ap.Source(Rows(X.astype("complex64"), T)).read([0]),
    ],
    "is a masked array": [
        lambda: ap.Source((np.ma.masked_array(X), T)),
        lambda: ap.Source(Rows(np.ma.masked_array(X), T)).read([0]),
    ],
    "Source: draw needs augment": [lambda: ap.Source((X, T), draw=len)],
    "Source: augment needs draw": [lambda: ap.Source((X, T), augment=len)],
    "Source: draw must be a function (rng, n), not builtins.int": [
        lambda: ap.Source((X, T), draw=3, augment=len)
    ],
    "Source: ahead must be a whole number of at least 0, not -1": [
        lambda: ap.Source((X, T), ahead=-1)
    ],
    "Source: block must be a whole number of at least 1, not 0": [
        lambda: ap.Source((X, T), block=0)
    ],
    "dtype must be a floating dtype in the machine's byte order": [
        lambda: ap.Source((X, T), dtype="int32"),
        lambda: ap.Source((X, T), dtype=">f4"),
    ],
    "rows must be a vector of whole numbers, not of shape (2, 1)": [
        lambda: ap.Source((X, T)).read([[1], [2]])
    ],
    "rows must be a vector of whole numbers, not of shape (2,) and float64": [
        lambda: ap.Source((X, T)).read([1.0, 2.0])
    ],
    "rows must be in 0..39, not -1..3": [lambda: ap.Source((X, T)).read([3, -1])],
    "rows must be in 0..39, not 3..40": [lambda: ap.Source((X, T)).read([40, 3])],
}


@pytest.mark.parametrize(
    ("message", "call"), [(message, call) for message, calls in WRONG.items() for call in calls]
)
def test_what_cannot_be_used_is_refused_in_a_sentence(message, call):
    with pytest.raises((TypeError, ValueError, OverflowError), match=re.escape(message)):
        call()


class OnGpu:
    """An array on a device, as DLPack numbers them."""

    __module__ = "gpus.core"
    shape, dtype, device = (40, 3), np.dtype("float32"), "<CUDA Device 0>"

    def __getitem__(self, rows):
        raise AssertionError("it was read")

    def __array__(self, *args, **kwargs):
        raise AssertionError("it was moved")

    def __dlpack_device__(self):
        return 2, 0


def test_arrays_on_a_device_are_not_moved():
    message = r"reads from the host, but x is gpus's \(on <CUDA Device 0>\); give \(x, t\) itself"
    with pytest.raises(TypeError, match=message):
        ap.Source((OnGpu(), T))

    class Answers(Rows):
        def __getitem__(self, rows):
            return OnGpu(), T[rows]

    with pytest.raises(TypeError, match=message):
        ap.Source(Answers(X, T)).read([0, 1])


class Strange(Rows):
    """Answers as it should for row 0, and otherwise in another way."""

    def __init__(self, answer):
        super().__init__(X, T)
        self.answer = answer

    def __getitem__(self, rows):
        found = super().__getitem__(rows)
        return found if rows.tolist() == [0] else self.answer(*found)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, t: x, "data[rows] must be (x, t) or (x, t, weight), not numpy.ndarray."),
        (
            lambda x, t: {"x": x, "t": t},
            "data[rows] must be (x, t) or (x, t, weight), not builtins.dict",
        ),
        (lambda x, t: (x,), "data[rows] must be (x, t) or (x, t, weight), not a tuple of 1."),
        (lambda x, t: (x[:1], t), "was asked for 3 rows, 7..9, and gave x of shape (1, 3)."),
        (lambda x, t: (x, 3), "was asked for 3 rows, 7..9, and gave t of shape ()."),
        (lambda x, t: (x, t[:2]), "was asked for 3 rows, 7..9, and gave t of shape (2,)."),
        (lambda x, t: (x.T, t), None),
        (
            lambda x, t: (x[:, :2], t),
            "rows 7..9: x has float32 rows of shape (2,), but float32 of shape (3,) in row 0.",
        ),
        (
            lambda x, t: (x.astype("float64"), t),
            "rows 7..9: x has float64 rows of shape (3,), but float32 of shape (3,) in row 0.",
        ),
        (lambda x, t: (x, t, t), "rows 7..9: there are 3 arrays, but 2 in row 0."),
        (lambda x, t: ([["a"]] * 3, t), "x is <U1; a Source must give numbers"),
        (lambda x, t: ([[1], [1, 2], [3]], t), "x cannot be read by NumPy, but is builtins.list:"),
    ],
)
def test_an_answer_of_another_kind_is_refused_with_its_rows(answer, message):
    source = ap.Source(Strange(answer))
    if message is None:  # three rows of three numbers, whatever they mean
        source.read([7, 8, 9])
        return
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        source.read([9, 8, 7])


def test_an_array_that_is_shorter_than_its_shape_is_found_out():
    class Shorter(Chunked):
        def __getitem__(self, rows):
            return super().__getitem__(rows)[:2]

    with pytest.raises(ValueError, match=r"x\[4:8\] has shape \(2, 3\), of \(40, 3\)"):
        ap.Source((Shorter(X, (4, 3)), T)).read([4, 5, 7])


def test_the_error_of_a_reader_is_not_changed():
    class Failing(Rows):
        def __getitem__(self, rows):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        ap.Source(Failing(X, T)).read([1])
