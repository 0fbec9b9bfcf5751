"""Files hold what was saved, on every backend, and say what is wrong with them."""

import json
import os
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import anyprop as ap
from anyprop.layers.base import Layer

NET = ap.Sequential(
    *(ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.ReLU(), ap.Dropout(0.25)),
    *(ap.Residual(ap.Sequential(ap.Affine(6, 6), ap.Tanh())), ap.Affine(6, 3)),
)


def params_of(backend, net=NET, dtype="float64"):
    params = net.init(seed=8, xp=backend.xp, dtype=dtype, device=backend.device)
    if params.running is None:
        return params
    running = np.random.default_rng(0).uniform(1, 2, params.running.shape)
    return params.replace(running=backend.asarray(running, dtype))


def assert_same(ours, theirs):
    assert ours.layout == theirs.layout
    theirs = {name: ap.to_host(array) for name, array in theirs.named().items()}
    for name, array in ours.named().items():
        assert ap.to_host(array).dtype == theirs[name].dtype
        np.testing.assert_array_equal(ap.to_host(array), theirs[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(backend, dtype, tmp_path):
    params, path = params_of(backend, dtype=dtype), tmp_path / "net.safetensors"
    config = {"lr": 0.1, "hidden": [6, 6], "note": "ä", "nested": {"none": None}}
    ap.save(path, params, net=NET, config=config)
    net, again, config_again = ap.load(path, xp=backend.xp, device=backend.device)
    assert net == NET
    assert config_again == config
    assert_same(again, params)
    x = backend.asarray(np.random.default_rng(1).standard_normal((5, 4)), dtype)
    np.testing.assert_array_equal(
        backend.to_numpy(ap.predict(net, again, x)), backend.to_numpy(ap.predict(NET, params, x))
    )


def test_a_file_moves_to_numpy_by_default_and_to_other_dtypes_on_demand(backend, tmp_path):
    params, path = params_of(backend), tmp_path / "net.safetensors"
    ap.save(path, params, net=NET)
    assert_same(ap.load(path).params, params)
    assert isinstance(ap.load(path).params.flat, np.ndarray)
    narrow = ap.load(path, xp=backend.xp, device=backend.device, dtype="float32").params
    np.testing.assert_array_equal(
        backend.to_numpy(narrow.flat), backend.to_numpy(params.flat).astype("float32")
    )
    assert backend.to_numpy(narrow.running).dtype == np.float32


def test_training_goes_on_from_a_file(tmp_path):
    """The arrays loaded are writable and one vector, as those of `init` are."""
    net, path = ap.MLP([2, 3, 2]), tmp_path / "net.safetensors"
    ap.save(path, net.init(seed=8), net=net)
    _, params, _ = ap.load(path)
    params[0].W[0, 0] = 7.0
    assert params.flat[0] == 7.0


def test_any_safetensors_reader_finds_the_arrays_by_name(backend, tmp_path):
    params, path = params_of(backend), tmp_path / "net.safetensors"
    ap.save(path, params, net=NET)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(params.named())
        for name, array in params.named().items():
            np.testing.assert_array_equal(file.get_tensor(name), backend.to_numpy(array))
        metadata = file.metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata["network"])["layers"][3] == {"layer": "Dropout", "rate": 0.25}


@pytest.mark.needs("torch")
def test_torch_reads_the_file(tmp_path):
    from safetensors.torch import load_file

    params = ap.MLP([4, 3, 2]).init(seed=8)
    ap.save(tmp_path / "net.safetensors", params)
    theirs = load_file(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(theirs["0.W"].numpy(), params[0].W)


def test_without_a_network(backend, tmp_path):
    params, path = params_of(backend), tmp_path / "net.safetensors"
    ap.save(path, params)
    net, again, config = ap.load(path)
    assert net is None
    assert config == {}
    assert_same(again, params)


@pytest.mark.parametrize("net", [ap.Affine(2, 2), ap.ReLU(), ap.Residual(ap.Affine(2, 2))])
def test_networks_of_one_layer_or_of_no_parameters(net, tmp_path):
    params = net.init(seed=1)
    ap.save(tmp_path / "net.safetensors", params, net=net)
    again = ap.load(tmp_path / "net.safetensors")
    assert again.net == net
    assert_same(again.params, params)


def test_a_vector_with_gaps_in_memory_is_written_right(tmp_path):
    net = ap.MLP([4, 3, 2])
    params = net.init(seed=8)
    gaps = params.replace(flat=np.repeat(params.flat, 2)[::2])
    assert not gaps.flat.flags.c_contiguous
    ap.save(tmp_path / "net.safetensors", gaps, net=net)
    assert_same(ap.load(tmp_path / "net.safetensors").params, params)


def test_more_than_ten_layers_keep_their_order(tmp_path):
    net = ap.MLP([2] * 14)
    params = net.init(seed=8)
    for described in (net, None):
        ap.save(tmp_path / "net.safetensors", params, net=described)
        np.testing.assert_array_equal(
            ap.load(tmp_path / "net.safetensors").params.flat, params.flat
        )


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    net, path = ap.MLP([4, 3, 2]), tmp_path / "net.safetensors"
    ap.save(path, net.init(seed=8), net=net)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        ap.save(path, net.init(seed=9), net=net)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_is_replaced_and_has_the_usual_permissions(tmp_path):
    net, path = ap.MLP([4, 3, 2]), tmp_path / "net.safetensors"
    for seed in (8, 9):
        ap.save(path, net.init(seed=seed), net=net)
    assert_same(ap.load(path).params, net.init(seed=9))
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == [path.name, "usual"]


def test_what_cannot_be_saved(tmp_path):
    class Mine(Layer):
        pass

    net, path = ap.MLP([4, 3, 2]), tmp_path / "net.safetensors"
    params = net.init(seed=8)
    with pytest.raises(ValueError, match="not those of net"):
        ap.save(path, params, net=ap.MLP([4, 4, 2]))
    with pytest.raises(TypeError, match="not one of anyprop's layers"):
        ap.save(path, Mine().init(), net=Mine())
    with pytest.raises(TypeError, match=r"net\.init"):
        ap.save(path, {"W": np.zeros(3)})
    for config in ({"a": np.float32(1)}, {"a": float("nan")}, {"a": object()}):
        with pytest.raises(TypeError, match="JSON"):
            ap.save(path, params, config=config)
    norm = ap.BatchNorm(3).init()
    with pytest.raises(ValueError, match="running statistics"):
        ap.save(path, ap.Parameters(norm.layout, norm.flat))
    with pytest.raises(FileNotFoundError):
        ap.save(tmp_path / "missing" / "net.safetensors", params)
    assert os.listdir(tmp_path) == []


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors"):
        ap.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -4])
def test_truncated_files(tmp_path, keep):
    path = tmp_path / "net.safetensors"
    ap.save(path, ap.MLP([4, 3, 2]).init(seed=8), net=ap.MLP([4, 3, 2]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"net\.safetensors is no safetensors file, or is truncated"
    ):
        ap.load(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(ValueError, match="no safetensors file"):
        ap.load(path)
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(safetensors.numpy.save({"W": np.zeros(3)}, metadata=metadata))
        with pytest.raises(ValueError, match=r"not written by anyprop\.save"):
            ap.load(path)


AFFINE = '{"layer": "Affine", "d": 2, "m": 3}'
LAYOUT = '[["W", true], ["b", true]]'


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": "2"}, "version '2'.*newer anyprop"),
        ({"network": "{"}, "damaged"),
        ({"network": None}, "damaged"),
        ({"network": "[]"}, "does not describe"),
        ({"network": AFFINE.replace("Affine", "os.system")}, "unknown layer"),
        ({"network": AFFINE.replace("3", "4")}, r"W of shape \(2, 4\).*\(2, 3\)"),
        ({"network": "[" * 100_000}, "damaged"),
        ({"network": '{"layer": "ReLU"}'}, r"W of shape None.*\(2, 3\)"),
        ({"layout": '[["W", true]]'}, "other arrays than it holds"),
        ({"layout": '[["W", true], ["c", true]]'}, "other arrays than it holds"),
        ({"layout": '[["b", true], ["W", true]]'}, "another order"),
        ({"layout": '[["W", true], ["b", false]]'}, "another order"),
        ({"layout": "3"}, "damaged"),
        ({"layout": "[3]"}, "damaged"),
        ({"config": None}, "damaged"),
    ],
)
def test_files_that_contradict_themselves(tmp_path, changes, match):
    metadata = {
        "format": "anyprop",
        "version": "1",
        "network": AFFINE,
        "layout": LAYOUT,
        "config": "{}",
    } | changes
    metadata = {key: value for key, value in metadata.items() if value is not None}
    arrays = {"W": np.zeros((2, 3)), "b": np.zeros(3)}
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    with pytest.raises(ValueError, match=match) as caught:
        ap.load(path)
    assert str(path) in str(caught.value)


def test_arrays_of_several_dtypes(tmp_path):
    metadata = {"format": "anyprop", "version": "1", "network": AFFINE, "layout": LAYOUT}
    arrays = {"W": np.zeros((2, 3)), "b": np.zeros(3, dtype="float32")}
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors.numpy.save(arrays, metadata={**metadata, "config": "{}"}))
    with pytest.raises(ValueError, match="differ in dtype: float32, float64"):
        ap.load(path)


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (
        lambda: ap.save(tmp_path / "a", ap.Affine(2, 3).init()),
        lambda: ap.load(tmp_path / "a"),
    ):
        with pytest.raises(ImportError, match=r"pip install \"anyprop\[cli\]\""):
            call()
