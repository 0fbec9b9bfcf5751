"""Data sets of NumPy arrays, in an archive or a folder, are read as NumPy reads them or refused."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from anyprop.data.arrays import load_arrays, load_inputs
from anyprop.data.npy import map_npy, read_npy

RNG = np.random.default_rng(0)
NAMES = ("x_train", "y_train", "x_test", "y_test")
PIXELS = {
    "x_train": RNG.integers(0, 256, (5, 2, 3), "u1"),
    "y_train": np.array([0, 2, 1, 2, 0], "u1"),
    "x_test": RNG.integers(0, 256, (3, 2, 3), "u1"),
    "y_test": np.array([1, 3, 0], "u1"),
}


def write(path, arrays):
    """Write the arrays as NumPy does: a name with a suffix is an archive's, another a folder's."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".small":
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
    else:
        path.mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    return path


FORMS = ("a.npz", "a.small", "folder")


@pytest.fixture(params=FORMS)
def place(request, tmp_path):
    return tmp_path / request.param


def both(path, dtype="float32"):
    return [load_arrays(path, part, dtype)[:] for part in ("train", "test")]


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version)
    return file.getvalue()


def npy_claiming(shape, data=b"", descr="|u1"):
    """An .npy file whose header declares what it likes."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def archive(path, method=zipfile.ZIP_DEFLATED, **files):
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in files.items():
            out.writestr(f"{name}.npy", content)
    return path


# What is read


def test_pixels_are_divided_by_255_and_labels_become_int64(place):
    (x, t), (xv, tv) = both(write(place, PIXELS))
    assert np.array_equal(x, (PIXELS["x_train"].reshape(5, 6) / 255).astype("f4"))
    assert np.array_equal(xv, (PIXELS["x_test"].reshape(3, 6) / 255).astype("f4"))
    assert (t.dtype, t.tolist()) == (np.int64, [0, 2, 1, 2, 0])
    assert (tv.dtype, tv.tolist()) == (np.int64, [1, 3, 0])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "longdouble"])
def test_floats_are_taken_as_they_are(dtype, place):
    given = RNG.normal(size=(5, 7)).astype(dtype)
    x, _ = both(write(place, {**PIXELS, "x_train": given}), dtype="float64")[0]
    assert np.array_equal(x, given.astype("f8"))
    assert x.dtype == np.float64


@pytest.mark.parametrize(
    "dtype",
    [
        f"{order}{kind}"
        for order in "<>"
        for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
    ],
)
@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_labels_of_any_whole_dtype(dtype, shape, place):
    labels = PIXELS["y_train"].astype(dtype).reshape(shape)
    _, t = both(write(place, {**PIXELS, "y_train": labels}))[0]
    assert (t.dtype, t.tolist()) == (np.int64, [0, 2, 1, 2, 0])


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3), (5, 1, 2, 3), (5, 6, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_images_of_any_shape_become_rows(shape, order, place):
    pixels = np.asarray(PIXELS["x_train"].reshape(shape), order=order)
    x, _ = both(write(place, {**PIXELS, "x_train": pixels}))[0]
    assert np.array_equal(x, (PIXELS["x_train"].reshape(5, 6) / 255).astype("f4"))


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_in_any_choice_are_those_of_all(order, place):
    given = {name: np.asarray(array, order=order) for name, array in PIXELS.items()}
    rows = load_arrays(write(place, given), "train", "float32")
    x, t = rows[:]
    for some in (np.array([0, 3, 4]), slice(1, 3), np.array([], "i8")):
        assert np.array_equal(rows[some][0], x[some])
        assert np.array_equal(rows[some][1], t[some])
    part = rows.part(slice(2, None))
    assert (len(rows), rows.width, len(part), part.width) == (5, 6, 3, 6)
    assert np.array_equal(part[np.array([1])][0], x[3:4])


def test_other_arrays_and_files_beside_them_are_not_read(tmp_path):
    path = archive(tmp_path / "a.npz", **{k: npy(v) for k, v in PIXELS.items()}, notes=b"damaged")
    assert both(path)[0][0].shape == (5, 6)
    folder = write(tmp_path / "folder", PIXELS)
    (folder / "notes.npy").write_bytes(b"damaged")
    assert both(folder)[0][0].shape == (5, 6)


def test_a_part_is_read_without_the_other(tmp_path):
    files = {k: npy(v) for k, v in PIXELS.items()} | {"x_train": b"damaged"}
    path = archive(tmp_path / "a.npz", **files)
    assert len(load_arrays(path, "test", "float32")) == 3


def test_a_file_of_a_folder_is_mapped_and_not_copied(tmp_path, peak):
    np.save(tmp_path / "a.npy", np.zeros(8 << 20, "u1"))
    tracemalloc.reset_peak()
    mapped = map_npy(tmp_path / "a.npy")
    assert int(mapped.max()) == 0
    assert peak() < 1 << 20
    assert not mapped.flags.writeable


numbers = hnp.arrays(
    hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.floating_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=numbers, version=st.sampled_from([(1, 0), (2, 0)]), columns=st.booleans())
def test_one_array_as_numpy_reads_it(array, version, columns, tmp_path):
    content = npy(np.asarray(array, order="F" if columns else "C"), version)
    (tmp_path / "a.npy").write_bytes(content)
    expected = np.load(tmp_path / "a.npy")
    for found in (map_npy(tmp_path / "a.npy"), read_npy(io.BytesIO(content), "a", len(content))):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


def test_a_header_that_python_2_wrote(tmp_path):
    content = npy(PIXELS["y_train"]).replace(b"(5,), }", b"(5L,), }", 1).replace(b"} ", b"}", 1)
    (tmp_path / "a.npy").write_bytes(content)
    assert map_npy(tmp_path / "a.npy").tolist() == [0, 2, 1, 2, 0]


def test_inputs_alone(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS["x_test"])
    x, _ = load_inputs(tmp_path / "a.npy", "float32")[:]
    assert np.array_equal(x, (PIXELS["x_test"].reshape(3, 6) / 255).astype("f4"))


# What is refused

MISFITS = {
    "one dimension": ("x_train", np.zeros(5, "u1"), "expected one row or image for each example"),
    "no dimension": ("x_train", np.uint8(3), "expected one row or image for each example"),
    "no rows": ("x_train", np.zeros((0, 6), "u1"), "(0, 6) uint8; expected"),
    "no columns": ("x_train", np.zeros((5, 0), "f4"), "(5, 0) float32; expected"),
    "int64": ("x_train", np.zeros((5, 6), "i8"), "(5, 6) int64; save pixels as uint8"),
    "bool": ("x_train", np.zeros((5, 6), "?"), "(5, 6) bool; save pixels as uint8"),
    "complex": ("x_train", np.zeros((5, 6), "c8"), "(5, 6) complex64; save pixels as uint8"),
    "text": ("x_train", np.full((5, 6), "1"), "(5, 6) <U1; save pixels as uint8"),
    "dates": ("x_train", np.zeros((5, 6), "M8[D]"), "(5, 6) datetime64[D]; save pixels"),
    "fields": ("x_train", np.zeros((5, 6), [("a", "u1")]), "save pixels as uint8"),
    "nan": (
        "x_train",
        np.array([[0, 1]] * 3 + [[2, np.nan]] * 2),
        "holds nan in row 3, which is no finite",
    ),
    "inf": (
        "x_train",
        np.array([[0, 1]] * 4 + [[-np.inf, 2]]),
        "holds -inf in row 4, which is no fin",
    ),
    "large": (
        "x_train",
        np.array([[0, 1e300]] * 5),
        "holds 1e+300 in row 0, which is no finite float32; remov",
    ),
    "objects": ("x_train", np.array([[1, None]] * 5), "holds Python objects, which are read by"),
    "float labels": ("y_train", np.arange(5.0), "expected class numbers of a whole dtype, (N,) or"),
    "numbers that are no labels": (
        "y_train",
        np.array([0.0, 1.0, np.nan, 2.5, 3.0]),
        "; other numbers are learnt by anyprop.fit with a loss such as MeanSquaredError",
    ),
    "bool labels": ("y_train", np.ones(5, "?"), "; convert them by astype('int64')"),
    "one-hot labels": ("y_train", np.eye(5, dtype="u1"), "; of rows with a single one take argmax"),
    "named labels": ("y_train", np.array(list("abcab")), "; number them by numpy.unique(y, return"),
    "complex labels": ("y_train", np.ones(5, complex), "a whole dtype, (N,) or (N, 1)."),
    "negative": (
        "y_train",
        np.array([0, -1, 2, 1, 0]),
        "holds the label -1; expected class numbers",
    ),
    "beyond int64": (
        "y_train",
        np.full(5, 2**64 - 1, "u8"),
        "holds the label 18446744073709551615",
    ),
    "object labels": (
        "y_train",
        np.array([0, None] * 2),
        "holds Python objects, which are read by",
    ),
    "fewer labels": ("y_train", np.zeros(4, "u1"), "holds 5 examples, but"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_arrays_that_are_no_examples_or_labels(misfit, place):
    name, array, words = MISFITS[misfit]
    write(place, {**PIXELS, name: array})
    called = place / f"{name}.npy" if place.suffix == "" else f"{name} of {place}"
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_arrays(place, "train", "float32")
    assert str(called) in str(caught.value)
    assert len(load_arrays(place, "test", "float32")) == 3


def test_the_row_is_that_of_the_file(tmp_path):
    x = np.zeros((5000, 2), "f4")
    x[4321, 1] = np.inf
    many = {**PIXELS, "x_train": x, "y_train": np.zeros(5000, "u1")}
    with pytest.raises(ValueError, match="holds inf in row 4321, which is no finite float32"):
        both(write(tmp_path / "a.npz", many))


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_array(missing, place):
    write(place, {name: array for name, array in PIXELS.items() if name != missing})
    for part in ("train", "test"):
        with pytest.raises(
            FileNotFoundError, match=rf"holds x_.*, but no {missing}.*; expected x_"
        ):
            load_arrays(place, part, "float32")


def test_arrays_of_other_names_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", PIXELS["x_train"], PIXELS["y_train"])
    with pytest.raises(
        FileNotFoundError, match="holds arr_0, arr_1, but no x_train; expected x_trai"
    ):
        both(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{"a\x1b[2J": PIXELS["x_train"]})
    with pytest.raises(FileNotFoundError, match=r"holds a\\x1b\[2J, but no x_train"):
        both(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz")
    with pytest.raises(
        FileNotFoundError, match=r"c.npz holds no x_train; expected x_train, y_train"
    ):
        both(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is no \.npz archive but empty; write it by numpy.savez"),
        (b"<html>not found</html>", "is no .npz archive but a text file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is no .npz archive but an HDF5 file"),
        (npy(np.ones(3)), "is no .npz archive but an array of NumPy"),
        (b"PK\3\4" + bytes(99), r"cannot be read as an \.npz archive \(File is not a zip file\)"),
    ],
)
def test_files_that_are_no_archives(content, words, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        both(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "x_train.npy is no .npy file but empty; write it by numpy.save"),
        (b"1,2\n3,4\n", "x_train.npy is no .npy file but a text file"),
        (npy(PIXELS["x_train"])[:-1], r"declares \(5, 2, 3\) uint8, 30 bytes, but 29 follow"),
        (npy(PIXELS["x_train"]) + b"\0", r"declares \(5, 2, 3\) uint8, 30 bytes, but 31 follow"),
        (npy(PIXELS["x_train"])[:50], "its header cannot be read"),
        (b"\x93NUMPY\7\0" + bytes(99), "its header cannot be read"),
        (npy(PIXELS["x_train"]).replace(b"'shape'", b"'shaqe'"), "its header cannot be read"),
        (npy(PIXELS["x_train"]).replace(b"'|u1'", b"'|u0'"), "its header cannot be read"),
        (npy_claiming((5, -6)), r"declares the shape \(5, -6\)"),
        (npy_claiming((2**62, 4)), r"declares the shape \(4611686018427387904, 4\)"),
        (npy_claiming((0, 2**62, 4)), r"declares the shape \(0, 4611686018427387904, 4\)"),
        (npy_claiming((1 << 40, 6), bytes(6)), "6597069766656 bytes, but 6 follow"),
    ],
)
def test_files_that_are_no_whole_array(content, words, place):
    files = {k: npy(v) for k, v in PIXELS.items()} | {"x_train": content}
    if place.suffix:
        archive(place, **files)
        words = words.replace("x_train.npy", f"x_train of {place}")
    else:
        place.mkdir()
        for name, data in files.items():
            (place / f"{name}.npy").write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        both(place)
    assert "x_train" in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    for call in (map_npy, lambda path: both(path)):
        with pytest.raises(FileNotFoundError, match="absent"):
            call(tmp_path / "absent")
    with pytest.raises(ValueError, match="not a regular file"):
        load_inputs(tmp_path, "float32")
    folder = write(tmp_path / "folder", PIXELS)
    (folder / "x_train.npy").unlink()
    (folder / "x_train.npy").mkdir()
    with pytest.raises(ValueError, match="x_train.npy is not a regular file"):
        both(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    folder = write(tmp_path / "folder", PIXELS)
    (folder / "x_train.npy").unlink()
    os.mkfifo(folder / "x_train.npy")
    with pytest.raises(ValueError, match="x_train.npy is not a regular file"):
        both(folder)


def test_compression_that_numpy_does_not_write(tmp_path):
    path = archive(tmp_path / "a.npz", zipfile.ZIP_LZMA, **{k: npy(v) for k, v in PIXELS.items()})
    with pytest.raises(
        ValueError, match="x_train.npy is compressed by another method than deflate"
    ):
        both(path)


def test_an_encrypted_archive(tmp_path):
    path = archive(tmp_path / "a.npz", **{k: npy(v) for k, v in PIXELS.items()})
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        i = content.find(mark)
        while i >= 0:
            content[i + at] |= 1
            i = content.find(mark, i + 1)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        both(path)


# Hostile archives


@pytest.fixture
def peak():
    """Returns how many bytes Python and NumPy held at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(1 << 40, 6), (1 << 31, 1)])
def test_gigabytes_declared_are_not_allocated(shape, tmp_path, peak):
    claim = npy_claiming(shape, bytes(100))
    path = archive(
        tmp_path / "a.npz", **{k: npy(v) for k, v in PIXELS.items()} | {"x_train": claim}
    )
    content = path.read_bytes()
    declared = struct.pack("<I", len(claim))
    assert content.count(declared) == 2  # in the file's own header and in the directory
    for size in (len(claim), len(claim) - 100 + (1 << 31)):  # the second agrees with a shape
        path.write_bytes(content.replace(declared, struct.pack("<I", size)))
        with pytest.raises(ValueError, match="a.npz"):
            both(path)
    assert peak() < 1 << 20


def test_a_bomb_is_unpacked_only_as_far_as_declared(tmp_path, peak):
    bomb = npy(np.zeros(64 << 20, "u1"))
    files = {k: npy(v) for k, v in PIXELS.items()}
    path = archive(tmp_path / "a.npz", **files | {"x_train": bomb})
    small = struct.pack("<I", len(files["x_train"]))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", len(bomb)), small))
    del bomb
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="a.npz"):
        both(path)
    assert peak() < 4 << 20


ARCHIVES = {}
for _method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    _file = io.BytesIO()
    archive(_file, _method, **{k: npy(v) for k, v in PIXELS.items()})
    ARCHIVES[_method] = _file.getvalue()
fuzz = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def read_or_refuse(path, content):
    path.write_bytes(content)
    with contextlib.suppress(ValueError, FileNotFoundError):
        return both(path)


@fuzz
@given(st.sampled_from(sorted(ARCHIVES)), st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_an_archive_changed_anywhere(tmp_path, method, position, content):
    whole = ARCHIVES[method]
    i = position % len(whole)
    read_or_refuse(tmp_path / "a.npz", whole[:i] + content + whole[i + len(content) :])


@pytest.mark.parametrize("method", ARCHIVES)
def test_a_flipped_bit_never_changes_the_numbers(method, tmp_path):
    expected = [array for pair in both(write(tmp_path / "b.npz", PIXELS)) for array in pair]
    whole = ARCHIVES[method]
    for i in range(len(whole)):
        found = read_or_refuse(
            tmp_path / "a.npz", whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]
        )
        if found is not None:
            for a, b in zip([array for pair in found for array in pair], expected, strict=True):
                assert np.array_equal(a, b)


@pytest.mark.parametrize("method", ARCHIVES)
def test_an_archive_cut_anywhere(method, tmp_path):
    for cut in range(len(ARCHIVES[method])):
        (tmp_path / "a.npz").write_bytes(ARCHIVES[method][:cut])
        with pytest.raises(ValueError, match="a.npz"):
            both(tmp_path / "a.npz")


@fuzz
@given(st.binary(max_size=200))
@example(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, " + b"-" * 60 + b"1)}")
@example(b"(" * 200)
def test_any_header(tmp_path, header):
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8)
    for version in (b"\1", b"\2"):
        size = struct.pack("<H" if version == b"\1" else "<I", len(header))
        content = b"\x93NUMPY" + version + b"\0" + size + header + bytes(8)
        (tmp_path / "a.npy").write_bytes(content)
        with contextlib.suppress(ValueError):
            map_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("filling", [b"-", b"(", b"[", b"{", b"not "])
def test_a_deep_header(filling, tmp_path):
    header = filling * (9000 // len(filling))
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match="its header cannot be read"):
        map_npy(tmp_path / "a.npy")
