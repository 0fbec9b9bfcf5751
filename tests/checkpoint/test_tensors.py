"""The file format: read and written as its own library does, and strict where that is not."""

import hashlib
import json
import os
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from anyprop._files import remove_parts, whole_file
from anyprop.checkpoint.tensors import HEADER_LIMIT, Reader, write

ARRAYS = {
    "W": np.arange(6, dtype="float32").reshape(2, 3),
    "x": np.asarray([1e300, -np.inf, np.nan]),
    "none": np.zeros((0, 4)),
    "half": np.asarray([1, 2, 3], "float16"),
    "yes": np.asarray([True, False, True]),
    "scalar": np.asarray(7, "int64"),
    **{code: np.asarray([3, 1], code) for code in ("i1", "i2", "i4", "u1", "u2", "u4", "u8")},
}


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text)) + text + data


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name], strict=True)


def test_the_formats_own_library_reads_what_was_written(tmp_path):
    write(tmp_path / "a", ARRAYS, {"note": "ä\n"})
    with safetensors.safe_open(tmp_path / "a", framework="numpy") as file:
        assert_equal({name: file.get_tensor(name) for name in file.keys()}, ARRAYS)  # noqa: SIM118
        assert file.metadata()["note"] == "ä\n"


def test_what_the_formats_own_library_wrote_is_read(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "a", metadata={"note": "ä\n"})
    with Reader(tmp_path / "a") as file:
        assert file.metadata == {"note": "ä\n"}
        assert file.checksum is None
        assert_equal(file.read(), ARRAYS)
        with pytest.raises(ValueError, match="no checksum to be verified by"):
            file.check()


@pytest.mark.parametrize(
    "make",
    [lambda a: a.T, lambda a: a[::2], lambda a: a[:, ::-1], lambda a: a.astype(">f8")],
    ids=["transposed", "with gaps", "backwards", "big-endian"],
)
def test_arrays_in_any_order_of_memory(make, tmp_path):
    array = make(np.arange(12.0).reshape(4, 3))
    write(tmp_path / "a", {"a": array}, {})
    np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "a")["a"], array)


def test_every_array_begins_at_a_multiple_of_its_size(tmp_path):
    write(tmp_path / "a", ARRAYS, {})
    with Reader(tmp_path / "a") as file:
        head = 8 + int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
        for declared in file.arrays.values():
            assert (head + declared.start) % declared.dtype.itemsize == 0


def test_the_checksum_is_what_its_description_says(tmp_path):
    zeros = "0" * 64
    write(tmp_path / "a", ARRAYS, {"note": zeros})
    with Reader(tmp_path / "a") as file:
        file.check()
        declared = file.checksum
        assert file.metadata["note"] == zeros
    content = (tmp_path / "a").read_bytes().replace(declared.encode(), zeros.encode())
    assert hashlib.sha256(content).hexdigest() == declared


TEXTS = {
    "control": "".join(map(chr, range(160))),
    "checksum in words": '"checksum":"' + "0" * 64 + '"',
    "braces": '}},{"a":"b","c":"d"},\\" \\\\',
    'ä"\\': "",
    "": "\U0001f600",
    "format": "pt",
}


def test_what_is_equal_gives_equal_bytes(tmp_path):
    """The library orders metadata anew each time; here every order gives one file."""
    for i in range(20):
        some = dict(sorted(TEXTS.items(), key=lambda item: hash((item[0], i))))
        write(tmp_path / f"{i}", ARRAYS, some)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with Reader(tmp_path / "0") as file:
        file.check()
        assert file.metadata == {"checksum": file.checksum} | TEXTS
    with safetensors.safe_open(tmp_path / "0", framework="numpy") as file:
        assert file.metadata().items() >= TEXTS.items()


def test_arrays_can_be_read_into_memory_that_is_there(tmp_path):
    write(tmp_path / "a", ARRAYS, {})
    vector = np.zeros(9, "float32")
    with Reader(tmp_path / "a") as file:
        found = file.read({"W": vector[2:8].reshape(2, 3)})
    assert_equal(found, ARRAYS)
    np.testing.assert_array_equal(vector, [0, 0, 0, 1, 2, 3, 4, 5, 0])


def test_dtypes_that_the_format_lacks_are_refused(tmp_path):
    with pytest.raises(TypeError, match="x is complex128, which no file can hold"):
        write(tmp_path / "a", {"x": np.zeros(3, complex)}, {})
    assert os.listdir(tmp_path) == []


def test_what_the_library_refuses_to_write_is_no_error_of_the_disk(tmp_path):
    with pytest.raises(ValueError, match="save less as config"):
        write(tmp_path / "a", {}, {"note": " " * 100_000_001})
    assert os.listdir(tmp_path) == []


def test_the_librarys_own_words_are_given_where_they_name_no_error_of_the_system(
    tmp_path, monkeypatch
):
    def refuse(*args):
        raise safetensors.SafetensorError("of its own")

    monkeypatch.setattr(safetensors.numpy, "save_file", refuse)
    with pytest.raises(ValueError, match=r"^this cannot be written to a file: of its own\.$"):
        write(tmp_path / "a", {}, {})


ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it has 0 bytes"),
        (b"\0" * 7, "it has 7 bytes"),
        (b"\0" * 8, "does not begin with a brace"),
        (b"PK\3\4" + bytes(200), "declares a header of 67324752 bytes, but has 204 in all"),
        (b"\xff" * 100, "declares a header of 18446744073709551615 bytes"),
        (file_of(" {}"), "brace"),
        (file_of("{"), "no JSON"),
        (file_of(b"{\xff}"), "no UTF-8"),
        (file_of("{} x"), "no JSON"),
        (file_of('{"a":' + "[" * 100_000), "nested too deeply|no JSON"),
        (file_of('{"a":3}'), "does not say of 'a' its dtype, shape and place"),
        (file_of('{"a":{"dtype":"F32","shape":[2]}}'), "does not say of 'a'"),
        (file_of('{"a":' + ENTRY[:-1] + ',"more":1}}', bytes(8)), "does not say of 'a'"),
        (file_of('{"a":' + ENTRY + "}"), "declares 8 bytes of arrays, but 0 follow"),
        (file_of('{"a":' + ENTRY + "}", bytes(9)), "declares 8 bytes of arrays, but 9 follow"),
        (file_of('{"a":' + ENTRY + ',"a":' + ENTRY + "}", bytes(8)), "the name 'a' comes twice"),
        (file_of('{"a":' + ENTRY + ',"b":' + ENTRY + "}", bytes(8)), "'b' begins at byte 0, exp"),
        (file_of('{"a":' + ENTRY.replace("[2]", "[3]") + "}", bytes(8)), "do not go together"),
        (file_of('{"a":' + ENTRY.replace("[2]", "[-2]") + "}", bytes(8)), "shape or the place"),
        (file_of('{"a":' + ENTRY.replace("[2]", "[2.0]") + "}", bytes(8)), "shape or the place"),
        (file_of('{"a":' + ENTRY.replace("[2]", "[true,2]") + "}", bytes(8)), "shape or the"),
        (file_of('{"a":' + ENTRY.replace("[2]", "2") + "}", bytes(8)), "shape or the place"),
        (file_of('{"a":' + ENTRY.replace("[2]", f"{[1] * 65 + [2]}") + "}", bytes(8)), "shape or"),
        (file_of('{"a":' + ENTRY.replace("[0,8]", "[0]") + "}", bytes(8)), "shape or the place"),
        (file_of('{"a":' + ENTRY.replace("[0,8]", "[8,0]") + "}", bytes(8)), "do not go together"),
        (file_of('{"a":' + ENTRY.replace("[0,8]", "[8,16]") + "}", bytes(16)), "begins at byte 8"),
        (
            file_of('{"a":' + ENTRY.replace("F32", "F8_E4M3") + "}", bytes(8)),
            "'F8_E4M3'; those that can",
        ),
        (file_of('{"a":' + ENTRY.replace('"F32"', "[]") + "}", bytes(8)), "those that can be read"),
        (file_of('{"a":' + ENTRY.replace("2", "1" * 5000) + "}", bytes(8)), "truncated"),
        (file_of('{"a":' + ENTRY.replace("[2]", f"[0,{2**62},{2**62}]") + "}"), "any memory"),
        (file_of('{"__metadata__":3}'), "metadata are not texts"),
        (file_of('{"__metadata__":{"a":3}}'), "metadata are not texts"),
        (file_of('{"__metadata__":{"a":"3","a":"3"}}'), "'a' comes twice"),
        (file_of('{"a":NaN}'), "NaN is no number"),
        (file_of("{" + " " * HEADER_LIMIT + "}"), f"its header has {HEADER_LIMIT + 2} bytes"),
    ],
    ids=range(35),
)
def test_headers_that_describe_no_file(content, match, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        Reader(tmp_path / "a")
    assert str(caught.value).startswith(f"{tmp_path / 'a'} is no safetensors file, or is trunc")
    assert len(str(caught.value)) < 1000


def test_names_from_a_file_cannot_write_to_the_terminal(tmp_path):
    (tmp_path / "a").write_bytes(file_of(json.dumps({"\x1b[2J" * 100: 3})))
    with pytest.raises(ValueError, match=r"of '\\x1b\[2J") as caught:
        Reader(tmp_path / "a")
    assert str(caught.value).isprintable()


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    header = {
        "scalar": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]},
        "x": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [2, 6]},
        "none": {"dtype": "BF16", "shape": [0, 3], "data_offsets": [6, 6]},
    }
    halves = struct.pack("<3H", 0x3F80, 0xC000, 0x7F80)
    (tmp_path / "a").write_bytes(file_of(json.dumps(header), halves))
    wanted = {"scalar": 1.0, "x": [[-2.0], [np.inf]], "none": np.zeros((0, 3))}
    with Reader(tmp_path / "a") as file:
        found = file.read()
    assert_equal(found, {name: np.asarray(x, "float32") for name, x in wanted.items()})
    assert {type(array) for array in found.values()} == {np.ndarray}


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="not a regular file"):
            Reader(path)


@pytest.mark.parametrize("into", [None, {"a": np.empty(100_000)}], ids=["new", "given"])
def test_a_file_that_shrinks_while_it_is_read(into, tmp_path):
    write(tmp_path / "a", {"a": np.zeros(100_000)}, {})
    with Reader(tmp_path / "a") as file:
        os.truncate(tmp_path / "a", 5000)
        with pytest.raises(ValueError, match="it ends inside 'a'"):
            file.read(into)


def test_a_file_that_is_replaced_after_it_was_opened_is_read_as_it_was(tmp_path):
    write(tmp_path / "a", {"a": np.zeros(3)}, {})
    write(tmp_path / "b", {"a": np.ones(4)}, {})
    with Reader(tmp_path / "a") as file:
        os.replace(tmp_path / "b", tmp_path / "a")
        file.check()
        np.testing.assert_array_equal(file.read()["a"], np.zeros(3))


def test_a_file_that_is_replaced_while_it_is_opened_is_not_read(tmp_path, monkeypatch):
    """The library opens it by name; what it then reads must be what was checked."""
    write(tmp_path / "a", {"a": np.zeros(3)}, {})
    write(tmp_path / "b", {"a": np.ones(3)}, {})

    def replaced(path, **options):
        os.replace(tmp_path / "b", path)
        return safe_open(path, **options)

    safe_open = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", replaced)
    with pytest.raises(ValueError, match="a was replaced while it was opened; read it again"):
        Reader(tmp_path / "a")


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o177, 0o002])
def test_a_file_has_the_permissions_that_the_process_gives_to_files(umask, tmp_path):
    before = os.umask(umask)
    try:
        write(tmp_path / "a", ARRAYS, {})
        with whole_file(tmp_path / "b") as part:
            assert part.parent.stat().st_mode & 0o777 == 0o700  # whatever the umask: it is entered
            part.touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path):
    (tmp_path / "a").write_text("older")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as part:
        (part.parent / "beside").touch()
        part.write_text("newer")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "older"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(there, tmp_path):
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder" / "file", tmp_path / "link"
    if there:
        file.touch()
    link.symlink_to(file)
    write(link, ARRAYS, {})
    assert link.is_symlink()
    with Reader(file) as found:
        assert found.read().keys() == ARRAYS.keys()
    assert os.listdir(file.parent) == ["file"]
    link.unlink()
    link.symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        write(link, ARRAYS, {})


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe is not a regular file; name another to write"):
        write(tmp_path / "pipe", ARRAYS, {})
    assert (tmp_path / "pipe").is_fifo()


def test_an_error_names_the_file_and_nothing_else(tmp_path):
    with pytest.raises(OSError, match="left on device") as caught, whole_file(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path / 'a'}'"


@pytest.mark.parametrize("letter", ["a", "ä", "字", "🙂"])
def test_a_name_may_be_as_long_as_the_system_allows(letter, tmp_path):
    size = len(letter.encode())
    path = tmp_path / (255 % size * "b" + 255 // size * letter)
    for _ in range(2):
        write(path, {"a": np.ones(2)}, {})
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="File name too long"):
        write(tmp_path / f"{path.name}b", {"a": np.ones(2)}, {})
    assert list(tmp_path.iterdir()) == [path]


def test_folders_of_parts_left_behind_are_removed(tmp_path):
    (tmp_path / ".a.0123abcd").mkdir()
    (tmp_path / ".a.0123abcd" / ".tmpX").touch()
    (tmp_path / ".b.0123abcd").mkdir()
    remove_parts(tmp_path, "a")
    assert os.listdir(tmp_path) == [".b.0123abcd"]


def test_parts_left_behind_are_removed_and_nothing_else(tmp_path):
    names = [".a.0123abcd", "a.0123abcd", ".a.0123abc", ".a.0123abcg", ".b.01234567", "a", ".a"]
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path, "a")
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])
    remove_parts(tmp_path, "c", "[ab]")
    assert sorted(os.listdir(tmp_path)) == sorted(set(names) - {names[0], names[4]})
