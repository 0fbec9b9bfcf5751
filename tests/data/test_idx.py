"""IDX files and data sets of four of them are read as stored, or refused for what is wrong with them."""

import contextlib
import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from anyprop.backend import device_of, dtype_name, namespace
from anyprop.data import load_idx
from anyprop.data.idx import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SMALL = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60])

MNIST = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DOTTED = tuple(name.replace("-idx", ".idx") for name in MNIST)
EMNIST = tuple("emnist-letters-" + name.replace("t10k", "test") for name in MNIST)
PIXELS = np.arange(5 * 2 * 3, dtype="u1").reshape(5, 2, 3) * 8
CONTENTS = (
    PIXELS,
    np.array([0, 2, 1, 2, 0], "u1"),
    PIXELS[:3] + 7,
    np.array([1, 3, 0], "u1"),
)


def encode(array):
    """Write an IDX file as the format's description has it."""
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def header_of(*shape, code=8):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def write_data_set(directory, names=MNIST, contents=CONTENTS):
    directory.mkdir(exist_ok=True)
    for name, array in zip(names, contents, strict=True):
        data = encode(array)
        (directory / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return directory


@pytest.fixture
def file(tmp_path):
    def write(data):
        path = tmp_path / "file"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory):
    """A path that the examples of a property overwrite in turn."""
    return tmp_path_factory.mktemp("idx") / "file"


@pytest.fixture
def peak():
    """Returns how many bytes Python and NumPy held at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


# One file


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=5, min_side=0, max_side=5))
    ),
    compressed=st.booleans(),
)
def test_an_array_comes_back_as_it_was_written(shared_path, array, compressed):
    data = encode(array)
    shared_path.write_bytes(gzip.compress(data) if compressed else data)
    read = read_idx(shared_path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()
    assert read.flags.writeable


@pytest.mark.parametrize(
    ("code", "data", "expected"),
    [
        (0x08, "00 ff", np.array([0, 255], "u1")),
        (0x09, "7f ff", np.array([127, -1], "i1")),
        (0x0B, "01 02 ff fe", np.array([258, -2], "i2")),
        (0x0C, "01 02 03 04 ff ff ff fe", np.array([16909060, -2], "i4")),
        (0x0D, "3f c0 00 00 c0 00 00 00", np.array([1.5, -2], "f4")),
        (0x0E, "3f f8 00 00 00 00 00 00 c0" + " 00" * 7, np.array([1.5, -2], "f8")),
    ],
)
def test_known_bytes(file, code, data, expected):
    read = read_idx(file(header_of(2, code=code) + bytes.fromhex(data)))
    assert read.dtype == expected.dtype
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_file_of_several_chunks(file, compress):
    array = np.random.default_rng(0).integers(0, 256, 3 << 20, "u1")
    assert np.array_equal(read_idx(file(compress(encode(array)))), array)


def test_compression_is_told_by_the_contents(tmp_path):
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed"
    plain.write_bytes(SMALL)
    packed.write_bytes(gzip.compress(SMALL))
    expected = [[10, 20, 30], [40, 50, 60]]
    assert read_idx(plain).tolist() == read_idx(packed).tolist() == expected


def test_paths_may_be_strings(file):
    assert read_idx(str(file(SMALL))).shape == (2, 3)


@given(cut=st.integers(0, 2 << 20))
def test_every_cut_of_a_large_file_is_refused(shared_path, cut):
    whole = header_of(2 << 20) + bytes(2 << 20)
    shared_path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=r"is (truncated|empty|not an IDX file)"):
        read_idx(shared_path)


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_compressed_data_never_changes_the_array(shared_path, position, bit):
    # Some bits, such as the time stamp and the padding, say nothing about the data.
    array = np.arange(500, dtype="i2")
    packed = bytearray(gzip.compress(encode(array)))
    packed[2 + position % (len(packed) - 2)] ^= 1 << bit
    shared_path.write_bytes(packed)
    with contextlib.suppress(ValueError):
        assert np.array_equal(read_idx(shared_path), array)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        read_idx(tmp_path / "absent")


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="is not a regular file"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is not a regular file"):
        read_idx(tmp_path / "pipe")


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")], ids=["plain", "compressed"])
def test_an_empty_file(file, data):
    with pytest.raises(ValueError, match="is empty; expected an IDX file"):
        read_idx(file(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b"<html>not found</html>",
        b"\0\1\x08\1\0\0\0\0",
        b"\1\0\x08\1\0\0\0\0",
        b"\0\0\x0a\1\0\0\0\0",
        b"\0\0\x08",
    ],
)
def test_a_foreign_file(file, data):
    match = f"begins with the bytes {data[:4].hex(' ')}, expected 00 00"
    with pytest.raises(ValueError, match=match):
        read_idx(file(data))


@pytest.mark.parametrize("dimensions", [0, 65, 255])
def test_a_wrong_number_of_dimensions(file, dimensions):
    data = bytes([0, 0, 8, dimensions]) + b"\0\0\0\1" * dimensions + b"\7"
    with pytest.raises(ValueError, match=f"declares an array of {dimensions} dimensions; .* 1 to"):
        read_idx(file(data))


def test_as_many_dimensions_as_numpy_takes(file):
    assert read_idx(file(header_of(*[1] * 64) + b"\7")).shape == (1,) * 64


def test_a_header_cut_short(file):
    with pytest.raises(ValueError, match="ends inside its header, which should take 12 bytes"):
        read_idx(file(SMALL[:10]))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_too_few_elements(file, compress):
    with pytest.raises(ValueError, match=r"\(2, 3\) uint8, 6 bytes, but only 5 follow"):
        read_idx(file(compress(SMALL[:-1])))


@pytest.mark.parametrize(
    "data",
    [SMALL + b"\0", gzip.compress(SMALL + b"\0"), gzip.compress(SMALL) + gzip.compress(b"\0")],
    ids=["plain", "compressed", "two members"],
)
def test_too_many_elements(file, data):
    with pytest.raises(ValueError, match=r"is too long: .* 6 bytes, but more follow"):
        read_idx(file(data))


@pytest.mark.parametrize(
    "data",
    [gzip.compress(SMALL) + b"more", gzip.compress(SMALL)[:-8] + bytes(8)],
    ids=["trailing bytes", "wrong checksum"],
)
def test_a_damaged_gzip_file(file, data):
    with pytest.raises(ValueError, match="is a damaged or truncated gzip file"):
        read_idx(file(data))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_terabytes_declared_are_not_allocated(file, compress, peak):
    path = file(compress(header_of(1 << 14, 1 << 14, 1 << 14) + bytes(100)))
    with pytest.raises(ValueError, match=r"4398046511104 bytes, more than a file of this size"):
        read_idx(path)
    assert peak() < 1 << 20


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1)])
def test_a_shape_that_no_memory_holds(file, shape):
    with pytest.raises(ValueError, match=r"larger than any memory"):
        read_idx(file(header_of(*shape) + bytes(100)))


def test_memory_follows_the_contents_rather_than_the_header(file, peak):
    # So little cannot be refused by the size of the file alone: 1 MiB might unpack to 1 GiB.
    noise = np.random.default_rng(0).bytes(1 << 20)
    path = file(gzip.compress(header_of(1 << 30) + noise))
    with pytest.raises(ValueError, match="but only 1048576 follow"):
        read_idx(path)
    assert peak() < 12 << 20


def test_a_gzip_bomb_is_unpacked_only_as_far_as_declared(file, peak):
    zeros = bytes(64 << 20)
    path = file(gzip.compress(header_of(10) + zeros, 1))
    del zeros
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="is too long"):
        read_idx(path)
    assert peak() < 1 << 20


def test_a_single_file_is_loaded_as_stored(file):
    loaded = load_idx(file(encode(PIXELS)))
    assert loaded.dtype == np.uint8
    assert np.array_equal(loaded, PIXELS)


# A directory


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("names", [MNIST, DOTTED, EMNIST])
def test_a_data_set_by_any_of_its_names(tmp_path, names, suffix):
    directory = write_data_set(tmp_path, [name + suffix for name in names])
    (tmp_path / "README.txt").write_text("not data")
    (x, t), (xv, tv) = load_idx(directory)
    assert np.array_equal(x, (PIXELS.reshape(5, 6) / 255).astype("f4"))
    assert np.array_equal(xv, (CONTENTS[2].reshape(3, 6) / 255).astype("f4"))
    assert t.tolist() == [0, 2, 1, 2, 0]
    assert tv.tolist() == [1, 3, 0]
    assert (x.dtype, t.dtype, xv.dtype, tv.dtype) == ("f4", "i8", "f4", "i8")


def test_options_of_a_data_set(tmp_path):
    (x, t), (xv, tv) = load_idx(
        write_data_set(tmp_path),
        normalize=False,
        flatten=False,
        one_hot_label=True,
        dtype="float64",
    )
    assert {a.dtype.name for a in (x, t, xv, tv)} == {"float64"}
    assert np.array_equal(x, PIXELS[:, None])
    assert np.array_equal(xv, CONTENTS[2][:, None])
    # The largest label, 3, occurs in the test set only.
    assert np.array_equal(t, np.eye(4)[[0, 2, 1, 2, 0]])
    assert np.array_equal(tv, np.eye(4)[[1, 3, 0]])


def test_one_hot_rows_of_many_classes_take_no_matrix_of_classes(tmp_path):
    labels = np.array([0, 2, 1, 2, 70_000], "i4")
    folder = write_data_set(tmp_path / "d", contents=(PIXELS, labels, *CONTENTS[2:]))
    (_, t), (_, tv) = load_idx(folder, one_hot_label=True)  # the matrix would take 20 GB
    assert t.shape == (5, 70_001)
    assert tv.shape == (3, 70_001)
    assert np.argwhere(t).tolist() == [[i, label] for i, label in enumerate(labels.tolist())]
    assert (t.max(), t.dtype) == (1.0, "float32")


def test_a_data_set_on_every_backend(tmp_path, backend):
    (x, t), _ = load_idx(write_data_set(tmp_path), xp=backend.xp, device=backend.device)
    for array, shape, dtype in ((x, (5, 6), "float32"), (t, (5,), "int64")):
        assert namespace(array) is backend.xp
        assert backend.device in (None, device_of(array))
        assert (array.shape, dtype_name(array)) == (shape, dtype)


def test_a_single_file_on_every_backend(file, backend):
    array = load_idx(file(SMALL), xp=backend.name, device=backend.device_name)
    assert backend.device in (None, device_of(array))
    assert dtype_name(array) == "uint8"
    assert backend.to_numpy(array).tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_directory_named_like_a_file_is_passed_over(tmp_path):
    names = ("train-images.idx3-ubyte", *MNIST[1:])
    (write_data_set(tmp_path, names) / "train-images-idx3-ubyte").mkdir()
    assert load_idx(tmp_path)[0][0].shape == (5, 6)


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_part(tmp_path, missing):
    write_data_set(tmp_path)
    (tmp_path / MNIST[missing]).unlink()
    with pytest.raises(FileNotFoundError, match=f"expected a file named such as {MNIST[missing]}"):
        load_idx(tmp_path)


def test_a_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        load_idx(tmp_path / "absent")


@pytest.mark.parametrize(
    "other", ["train-labels-idx1-ubyte.gz", "train-labels.idx1-ubyte", EMNIST[1]]
)
def test_two_candidates(tmp_path, other):
    write_data_set(tmp_path)
    (tmp_path / other).write_bytes(encode(CONTENTS[1]))
    with pytest.raises(ValueError, match=r"several files of train labels: .*train-labels.*, train"):
        load_idx(tmp_path)


def test_parts_of_different_data_sets(tmp_path):
    write_data_set(tmp_path, (*EMNIST[:2], *MNIST[2:]))
    with pytest.raises(
        ValueError, match="mixes files of different data sets: emnist-letters-train"
    ):
        load_idx(tmp_path)


@pytest.mark.parametrize("part", [1, 3])
def test_as_many_labels_as_images_are_needed(tmp_path, part):
    contents = list(CONTENTS)
    contents[part] = np.zeros(4, "u1")
    count = len(contents[part - 1])
    with pytest.raises(ValueError, match=f"holds {count} images, but .* holds 4 labels"):
        load_idx(write_data_set(tmp_path, contents=contents))


def test_images_of_two_sizes(tmp_path):
    contents = (*CONTENTS[:2], np.zeros((3, 3, 2), "u1"), CONTENTS[3])
    with pytest.raises(ValueError, match=r"images of 2 x 3 pixels, but .* of 3 x 2; expected"):
        load_idx(write_data_set(tmp_path, contents=contents))


@pytest.mark.parametrize(
    ("part", "array"),
    [
        (0, PIXELS.reshape(5, 6)),
        (0, PIXELS.astype("i2")),
        (1, np.zeros((5, 1), "u1")),
        (1, np.zeros(5, "f4")),
        (2, np.zeros((0, 2, 3), "u1")),
        (3, np.zeros(0, "u1")),
    ],
)
def test_contents_that_belie_their_name(tmp_path, part, array):
    contents = list(CONTENTS)
    contents[part] = array
    with pytest.raises(ValueError, match=f"{MNIST[part]} holds .*; expected a nonempty array of"):
        load_idx(write_data_set(tmp_path, contents=contents))


def test_a_broken_part_is_named(tmp_path):
    write_data_set(tmp_path)
    (tmp_path / MNIST[2]).write_bytes(encode(CONTENTS[2])[:-1])
    with pytest.raises(ValueError, match=f"{MNIST[2]} is truncated"):
        load_idx(tmp_path)


def test_an_unknown_dtype(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        load_idx(write_data_set(tmp_path), dtype="floot32")


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4"])
@pytest.mark.parametrize("columns", [None, 8])
def test_labels_of_any_whole_dtype_and_those_of_qmnist(tmp_path, dtype, columns):
    contents = list(CONTENTS)
    for part in (1, 3):
        labels = CONTENTS[part].astype(dtype)
        if columns:
            labels = np.stack([labels, *[np.full_like(labels, 99)] * 7], axis=1)
        contents[part] = labels
    (_, t), (_, tv) = load_idx(write_data_set(tmp_path, contents=contents))
    assert (t.dtype, t.tolist()) == (np.int64, [0, 2, 1, 2, 0])
    assert (tv.dtype, tv.tolist()) == (np.int64, [1, 3, 0])


def test_a_negative_label_is_named(tmp_path):
    contents = list(CONTENTS)
    contents[1] = np.asarray([0, -3, 1, 2, 0], "i2")
    with pytest.raises(ValueError, match=f"{MNIST[1]} holds the label -3"):
        load_idx(write_data_set(tmp_path, contents=contents))


@pytest.mark.parametrize("folder", ["raw", "MNIST/raw"])
def test_the_folder_above_is_led_to_the_one_with_the_files(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    write_data_set(tmp_path / folder)
    with pytest.raises(FileNotFoundError, match=rf"did you mean .*{folder}\?"):
        load_idx(tmp_path)
    assert load_idx(tmp_path / folder)[0][0].shape == (5, 6)
