"""No file hurts its reader: no crash, no hang, no memory beyond twice the file, whatever it holds."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings, strategies as st

import anyprop as ap
from anyprop.checkpoint.tensors import Reader, write

NET = ap.Sequential(ap.Affine(4, 5), ap.BatchNorm(5), ap.ReLU(), ap.Affine(5, 3))
OPTIMIZER = ap.Adam(lr=0.1, weight_decay=0.1, decay_biases=False)
# What parsing a header may take, and an error message; the files here are smaller than that.
CONSTANT = 1 << 20
fuzz = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextlib.contextmanager
def no_more_memory_than(limit):
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= limit


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with everything in it."""
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    params = NET.init(seed=8)
    record = ap.EpochRecord(1, 2, 0.5, 0.25, 0.75, 0.1, 1.5)
    ap.save(
        path,
        params,
        net=NET,
        optimizer=OPTIMIZER,
        state=OPTIMIZER.init(params),
        history=ap.History([1.0, 0.5], [record]),
        config={"note": "x"},
    )
    return path.read_bytes()


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=path.name) as caught:
        ap.load(path)
    return str(caught.value)


def test_cut_at_every_hundredth_byte(whole, tmp_path):
    for length in range(0, len(whole), 100):
        refused(tmp_path / "cut", whole[:length])
    refused(tmp_path / "cut", whole + b"\0")


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_byte_of_the_header_changed(mask, whole, tmp_path):
    for i in range(8 + int.from_bytes(whole[:8], "little")):
        refused(tmp_path / "bad", whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])


def test_every_byte_of_the_arrays_changed(whole, tmp_path):
    for i in range(8 + int.from_bytes(whole[:8], "little"), len(whole)):
        message = refused(tmp_path / "bad", whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        assert "its bytes are not those that its checksum was made of" in message


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 20, 1 << 20], [1 << 62], [(1 << 63) - 1]])
def test_a_header_that_claims_terabytes(shape, tmp_path):
    entry = {
        "dtype": "F32",
        "shape": shape,
        "data_offsets": [0, 4 * int(np.prod(shape, dtype=object))],
    }
    text = json.dumps({"__metadata__": {"format": "anyprop", "version": "1"}, "W": entry}).encode()
    with no_more_memory_than(1 << 18):
        refused(tmp_path / "big", struct.pack("<Q", len(text)) + text + bytes(100))
    with no_more_memory_than(1 << 18):
        refused(tmp_path / "big", struct.pack("<Q", 1 << 42) + text)


def test_a_description_that_claims_terabytes(tmp_path):
    net = {"layer": "Affine", "d": 1 << 40, "m": 1 << 40}
    with no_more_memory_than(1 << 19):
        message = forged(tmp_path / "big", network=json.dumps(net))
    assert "its network has '0.W' of shape" in message or "'W' of shape" in message


def forged(path, **changes):
    """Read a file with a right checksum and other metadata; return the error's message."""
    params = NET.init(seed=8)
    ap.save(path, params, net=NET)
    with Reader(path) as file:
        arrays, metadata = file.read(), dict(file.metadata)
    metadata.pop("checksum")
    write(path, arrays, metadata | changes)
    with pytest.raises(ValueError, match=path.name) as caught:
        ap.load(path)
    return str(caught.value)


@pytest.mark.parametrize("depth", [1, 30, 64])
def test_a_description_of_very_many_layers_takes_seconds_at_most(depth, tmp_path):
    net = '{"layer":"Sequential","layers":[' * depth
    net += ",".join(['{"layer":"Identity"}'] * 30_000) + "]}" * depth
    began = time.monotonic()
    forged(tmp_path / "many", network=net)
    assert time.monotonic() - began < 30


def test_the_largest_header_takes_some_thirty_times_its_size(tmp_path):
    entries = ",".join(f'"{i:x}":0' for i in range(100_000))
    text = ("{" + entries + "}").encode()
    assert 800_000 < len(text) < 1 << 20
    with no_more_memory_than(32 * len(text)):
        refused(tmp_path / "header", struct.pack("<Q", len(text)) + text)


def test_a_large_file_takes_no_more_memory_than_its_size(tmp_path):
    net = ap.MLP([500, 1000, 100])
    params = net.init()
    with no_more_memory_than(CONSTANT):
        ap.save(tmp_path / "a", params, net=net, state=ap.SGD().init(params))
    with no_more_memory_than((tmp_path / "a").stat().st_size + CONSTANT / 4):
        ap.load(tmp_path / "a")


def test_files_of_other_programs(tmp_path):
    safetensors.numpy.save_file({"0.weight": np.zeros((3, 4))}, tmp_path / "torch")
    message = refused(tmp_path / "torch", (tmp_path / "torch").read_bytes())
    assert "was not written by anyprop.save" in message
    for content in (b"", b"PK\3\4" + bytes(500), b"\x80\x04\x95pickle", gzip.compress(bytes(500))):
        assert "is no safetensors file" in refused(tmp_path / "other", content)


# Fuzzing: a file may be readable by chance, and one that is not may raise nothing but ValueError.


def read_or_refuse(read, path, content):
    path.write_bytes(content)
    with no_more_memory_than(2 * len(content) + CONSTANT), contextlib.suppress(ValueError):
        read(path)


@fuzz
@given(st.binary(max_size=500))
def test_load_any_bytes(tmp_path, content):
    read_or_refuse(ap.load, tmp_path / "a", content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@fuzz
@given(
    st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), json_values, max_size=3),
    st.binary(max_size=50),
)
def test_load_any_header(tmp_path, header, data):
    text = json.dumps(header).encode()
    read_or_refuse(ap.load, tmp_path / "a", struct.pack("<Q", len(text)) + text + data)


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F64", "F32", "I64", "U8", "F8"]),
        "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=3),
        "data_offsets": st.lists(st.integers(-1, 40) | st.integers(), min_size=2, max_size=2),
    }
)


@fuzz
@given(st.dictionaries(st.text(max_size=3), entries, max_size=3), st.binary(max_size=50))
@example({"a": {"dtype": "F64", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}, b"")
def test_load_any_arrays(tmp_path, header, data):
    header["__metadata__"] = {"format": "anyprop", "version": "1"}
    text = json.dumps(header).encode()
    read_or_refuse(ap.load, tmp_path / "a", struct.pack("<Q", len(text)) + text + data)


def changed_somewhere(draw, value):
    """Replace one value somewhere inside of `value` by another."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return value | {key: changed_somewhere(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], changed_somewhere(draw, value[i]), *value[i + 1 :]]
    return draw(json_values)


@fuzz
@given(st.data())
def test_load_metadata_changed_anywhere_under_a_right_checksum(whole, tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(whole)
    with Reader(path) as file:
        arrays, metadata = file.read(), dict(file.metadata)
    metadata.pop("checksum")
    key = data.draw(st.sampled_from(sorted(metadata.keys() - {"format", "version"})))
    metadata[key] = json.dumps(changed_somewhere(data.draw, json.loads(metadata[key])))
    if data.draw(st.booleans()):
        arrays.pop(data.draw(st.sampled_from(sorted(arrays))))
    write(path, arrays, metadata)
    with no_more_memory_than(2 * path.stat().st_size + CONSTANT), contextlib.suppress(ValueError):
        ap.load(path)


IDX = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60])


@st.composite
def idx_files(draw):
    """Headers that are nearly right, with some bytes after them, plain or compressed."""
    sizes = draw(st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=4))
    code = draw(st.sampled_from([8, 9, 11, 12, 13, 14]) | st.integers(0, 255))
    dimensions = draw(st.just(len(sizes)) | st.integers(0, 255))
    header = struct.pack(f">BBBB{len(sizes)}I", 0, 0, code, dimensions, *sizes)
    content = header + draw(st.binary(max_size=100))
    if draw(st.booleans()):
        content = gzip.compress(content)
        cut = draw(st.integers(0, len(content)) | st.just(len(content)))
        content = content[:cut] + draw(st.binary(max_size=3))
    return content


@fuzz
@given(idx_files() | st.binary(max_size=200))
@example(IDX)
@example(gzip.compress(IDX))
def test_load_idx_any_bytes(tmp_path, content):
    read_or_refuse(ap.load_idx, tmp_path / "a", content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "compressed"])
def test_load_idx_cut_anywhere_and_changed_anywhere(pack, tmp_path):
    content = pack(IDX)
    for i in range(len(content)):
        (tmp_path / "a").write_bytes(content[:i])
        with pytest.raises(ValueError, match=str(tmp_path)):
            ap.load_idx(tmp_path / "a")
        read_or_refuse(ap.load_idx, tmp_path / "a", content[:i] + b"\xff" + content[i + 1 :])


@pytest.mark.parametrize("dtype", ["u1", ">f8"])
def test_load_idx_takes_less_than_twice_the_file(dtype, tmp_path):
    code = {"u1": 0x08, ">f8": 0x0E}[dtype]
    data = np.random.default_rng(0).bytes(8 << 20)
    n = len(data) // np.dtype(dtype).itemsize
    (tmp_path / "a").write_bytes(struct.pack(">HBBI", 0, code, 1, n) + data)
    with no_more_memory_than(1.5 * len(data)):
        found = ap.load_idx(tmp_path / "a")
    np.testing.assert_array_equal(found, np.frombuffer(data, dtype))
