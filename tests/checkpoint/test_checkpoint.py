"""Files hold what was saved, on every backend, and say what is wrong with them."""

import json
import os
import re
from functools import partial

import numpy as np
import pytest
import safetensors

import anyprop as ap
from anyprop.checkpoint.tensors import write
from anyprop.layers.base import Layer
from anyprop.layout import Spec
from anyprop.network import noise_beside
from anyprop.testing.layer_cases import LayerCase
from arrays import assert_same_parameters

NET = ap.Sequential(
    *(ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.ReLU(), ap.Dropout(0.25)),
    *(ap.Residual(ap.Sequential(ap.Affine(6, 6), ap.Tanh())), ap.Affine(6, 3)),
)


def params_of(backend, net=NET, dtype="float64"):
    return LayerCase("", net).params(backend, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(backend, dtype, tmp_path):
    params, path = params_of(backend, dtype=dtype), tmp_path / "net.safetensors"
    config = {"lr": 0.1, "hidden": [6, 6], "note": "ä", "nested": {"none": None}}
    ap.save(path, params, net=NET, config=config)
    found = ap.load(path, xp=backend.xp, device=backend.device)
    net, again = found.net, found.params
    assert net == NET
    assert found.config == config
    assert found[2:6] == (None, None, None, None)
    assert_same_parameters(again, params)
    x = backend.asarray(np.random.default_rng(1).standard_normal((5, 4)), dtype)
    np.testing.assert_array_equal(
        backend.to_numpy(ap.predict(net, again, x)), backend.to_numpy(ap.predict(NET, params, x))
    )


def test_a_file_moves_to_numpy_by_default_and_to_other_dtypes_on_demand(backend, tmp_path):
    params, path = params_of(backend), tmp_path / "net.safetensors"
    ap.save(path, params, net=NET)
    assert_same_parameters(ap.load(path).params, params)
    assert isinstance(ap.load(path).params.flat, np.ndarray)
    narrow = ap.load(path, xp=backend.xp, device=backend.device, dtype="float32").params
    np.testing.assert_array_equal(
        backend.to_numpy(narrow.flat), backend.to_numpy(params.flat).astype("float32")
    )
    assert backend.to_numpy(narrow.running).dtype == np.float32


def test_a_file_whose_numbers_do_not_fit_in_the_dtype_is_named(tmp_path):
    """The parameters' numbers or those of a state, in what `load` and `from_torch` read."""
    net, path, theirs = (
        ap.Affine(2, 3),
        tmp_path / "net.safetensors",
        tmp_path / "torch.safetensors",
    )
    small = net.init(dtype="float64")
    large = small.replace(flat=small.flat + 1e300)
    state = ap.Momentum().init(small)
    named = rf"^{re.escape(str(path))}: 1e\+300 does not fit in float32; ask for a wider dtype\."
    for params, slot in ((large, small), (small, large)):
        ap.save(path, params, net=net, state=state._replace(slots=dict.fromkeys(state.slots, slot)))
        with pytest.raises(OverflowError, match=named):
            ap.load(path, dtype="float32")
    ap.interchange.save_torch(theirs, net, large)
    with pytest.raises(OverflowError, match=rf"^{re.escape(str(theirs))}: .* does not fit"):
        ap.interchange.from_torch(net, theirs, dtype="float32")


def test_training_goes_on_from_a_file(tmp_path):
    """The arrays loaded are writable and one vector, as those of `init` are."""
    net, path = ap.MLP([2, 3, 2]), tmp_path / "net.safetensors"
    ap.save(path, net.init(seed=8), net=net)
    params = ap.load(path).params
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
    found = ap.load(path)
    assert found.net is None
    assert found.config == {}
    assert_same_parameters(found.params, params)


@pytest.mark.parametrize("net", [ap.Affine(2, 2), ap.ReLU(), ap.Residual(ap.Affine(2, 2))])
def test_networks_of_one_layer_or_of_no_parameters(net, tmp_path):
    params = net.init(seed=1)
    ap.save(tmp_path / "net.safetensors", params, net=net)
    again = ap.load(tmp_path / "net.safetensors")
    assert again.net == net
    assert_same_parameters(again.params, params)


def test_a_vector_with_gaps_in_memory_is_written_right(tmp_path):
    net = ap.MLP([4, 3, 2])
    params = net.init(seed=8)
    gaps = params.replace(flat=np.repeat(params.flat, 2)[::2])
    assert not gaps.flat.flags.c_contiguous
    ap.save(tmp_path / "net.safetensors", gaps, net=net)
    assert_same_parameters(ap.load(tmp_path / "net.safetensors").params, params)


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
    assert_same_parameters(ap.load(path).params, net.init(seed=9))
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == [path.name, "usual"]


def test_what_cannot_be_saved(tmp_path):
    class Mine(Layer):
        pass

    net, path = ap.MLP([4, 3, 2]), tmp_path / "net.safetensors"
    params = net.init(seed=8)
    with pytest.raises(ValueError, match="do not match net"):
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


OPTIMIZERS = {
    "no slots": ap.SGD(lr=0.1),
    "one slot": ap.RMSProp(lr=ap.schedules.Cosine(0.1, steps=100)),
    "a mask": ap.AMSGrad(lr=0.1, weight_decay=0.1, decay_biases=False),
}


def trained(backend, opt, steps=3):
    """Train a little; return the parameters, the state, and the step that did it."""
    params = params_of(backend)
    state = opt.init(params)
    x = backend.asarray(np.random.default_rng(1).standard_normal((5, 4)))
    t = backend.asarray(np.asarray([0, 1, 2, 1, 0]))
    noise = noise_beside(params, NET.noise(np.random.default_rng(2), (5, 4)))
    step = partial(ap.make_step(NET, ap.SoftmaxCrossEntropy(), opt), x=x, t=t, noise=noise)
    for _ in range(steps):
        params, state, _ = step(params, state)
    return params, state, step


@pytest.mark.parametrize("opt", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_by_hand_goes_on_bit_for_bit_from_the_saved_state(backend, opt, tmp_path):
    params, state, step = trained(backend, opt)
    state = state._replace(lr_scale=0.3)
    ap.save(tmp_path / "run.safetensors", params, net=NET, optimizer=opt, state=state)
    found = ap.load(tmp_path / "run.safetensors", xp=backend.xp, device=backend.device)
    assert found.step == found.state.step == 3
    assert found.state.lr_scale == 0.3
    ours, our_state, value = step(found.params, found.state)
    theirs, their_state, their_value = step(params, state)
    assert float(value) == float(their_value)
    assert_same_parameters(ours, theirs)
    assert our_state.slots.keys() == their_state.slots.keys()
    for name, slot in our_state.slots.items():
        np.testing.assert_array_equal(
            backend.to_numpy(slot.flat), backend.to_numpy(their_state.slots[name].flat)
        )


def test_the_optimizer_is_described(tmp_path):
    net, path = ap.MLP([4, 3, 2]), tmp_path / "net.safetensors"
    opt = ap.RMSProp(lr=ap.schedules.Warmup(10, ap.schedules.Constant(0.1)), clip_norm=1.0)
    ap.save(path, net.init(), optimizer=opt)
    described = ap.load(path).optimizer
    assert described["kind"] == "RMSProp"
    assert described["clip_norm"] == 1.0
    assert described["lr"] == {
        "kind": "Warmup",
        "steps": 10,
        "then": {"kind": "Constant", "lr": 0.1},
    }


@pytest.mark.parametrize("measured", [True, False], ids=["validated", "without validation"])
def test_history_comes_back_as_it_was(measured, tmp_path):
    values = {"validation_loss": 0.1 + 0.2, "validation_accuracy": float("inf")} if measured else {}
    rest = dict.fromkeys(("validation_loss", "validation_accuracy")) | values
    records = [
        ap.EpochRecord(epoch=e, step=3 * e, train_loss=1 / e, lr=0.1**e, seconds=0.7, **rest)
        for e in (1, 2)
    ]
    history, path = ap.History([1 / 3, 2.5e-310, 7.0], records), tmp_path / "net.safetensors"
    ap.save(path, ap.Affine(2, 3).init(), history=history, step=6)
    found = ap.load(path)
    assert found.history == history
    assert [type(record.epoch) for record in found.history.epochs] == [int, int]
    assert found.step == 6


def test_an_empty_history(tmp_path):
    ap.save(tmp_path / "net.safetensors", ap.Affine(2, 3).init(), history=ap.History())
    assert ap.load(tmp_path / "net.safetensors").history == ap.History()


def test_a_state_that_belongs_to_other_parameters_is_refused(tmp_path):
    opt = ap.RMSProp()
    for state in (opt.init(ap.Affine(2, 4).init()), opt.init(np.zeros(9))):
        with pytest.raises(ValueError, match="the state is not that of params"):
            ap.save(tmp_path / "a", ap.Affine(2, 3).init(), state=state)
    assert os.listdir(tmp_path) == []


def test_a_state_of_another_dtype_is_refused(tmp_path):
    net, optimizer = ap.Affine(2, 3), ap.Adam()
    state = optimizer.init(net.init(dtype="float64"))
    with pytest.raises(TypeError, match=r"slots/m is float64, but .* float32; cast it to float32"):
        ap.save(tmp_path / "a", net.init(), state=state)
    assert os.listdir(tmp_path) == []


def test_a_state_of_another_optimizer_is_refused(tmp_path):
    params = ap.Affine(2, 3).init()
    for opt, other in ((ap.SGD(), ap.Adam()), (ap.Adam(), ap.SGD()), (ap.Adam(), ap.RMSProp())):
        with pytest.raises(ValueError, match="comes from another optimizer or other options"):
            ap.save(tmp_path / "a", params, optimizer=opt, state=other.init(params))
        ap.save(tmp_path / "a", params, optimizer=opt, state=opt.init(params))


def test_numbers_that_are_not_finite_are_kept(tmp_path):
    params, path = ap.Affine(2, 3).init(), tmp_path / "net.safetensors"
    params.W[0, :] = np.nan, np.inf, -np.inf
    ap.save(path, params)
    np.testing.assert_array_equal(ap.load(path).params.W, params.W)


def test_more_beside_the_arrays_than_a_file_keeps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1048576 beside its arrays; save less as config"):
        ap.save(tmp_path / "a", ap.Affine(2, 3).init(), config={"text": "a" * (1 << 20)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["history/losses", "__metadata__"])
def test_parameters_whose_names_the_format_needs_are_refused(name, tmp_path):
    class Mine(Layer):
        def specs(self):
            return {name: Spec((2,), 0.0)}

    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        ap.save(tmp_path / "a", Mine().init(), history=ap.History())


AFFINE = '{"layer": "Affine", "d": 2, "m": 3}'
LAYOUT = '[["W", true], ["b", true]]'
STATE = {"$": "state", "step": 0, "lr_scale": 1.0, "slots": [], "decay_mask": False}
HOLDS = {"W": np.zeros((2, 3)), "b": np.zeros(3)}


def forge(path, changes, **arrays):
    """Write a file whose checksum is right and whose contents are not."""
    texts = dict.fromkeys(("optimizer", "state", "step", "history", "run"), "null")
    texts |= {"format": "anyprop", "version": "1", "network": AFFINE, "layout": LAYOUT}
    texts |= {"config": "{}", "dtype": '"float64"', **changes}
    arrays = {name: array for name, array in (HOLDS | arrays).items() if array is not None}
    write(path, arrays, {key: value for key, value in texts.items() if value is not None})


def test_what_is_forged_without_changes_can_be_read(tmp_path):
    forge(tmp_path / "net", {})
    assert ap.load(tmp_path / "net").net == ap.Affine(2, 3)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "pt"}, r"not written by anyprop\.save"),
        ({"version": "2"}, "version '2'.*newer anyprop"),
        ({"version": None}, "version None"),
        ({"network": "{"}, "damaged: it holds no JSON"),
        ({"network": None}, "damaged: it lacks 'network'"),
        ({"network": "[]"}, "does not describe"),
        ({"network": AFFINE.replace("Affine", "os.system")}, "unknown layer"),
        ({"network": AFFINE.replace("Affine", "Residual")}, "does not describe"),
        ({"network": AFFINE.replace("2", '2, "d": 2')}, "'d' comes twice"),
        ({"network": AFFINE.replace("3", "4")}, r"'W' of shape \(2, 4\).*\(2, 3\)"),
        ({"network": AFFINE.replace("3", "4e400")}, "not inf"),
        ({"network": AFFINE.replace("3", "NaN")}, "NaN is no number"),
        ({"network": AFFINE.replace("3", "9" * 5000)}, "damaged"),
        ({"network": "[" * 100_000}, "nested too deeply"),
        ({"network": '{"layer": "Residual", "block":' * 100 + AFFINE + "}" * 100}, "64 levels"),
        ({"network": '{"layer": "ReLU"}'}, r"'W' of shape None.*\(2, 3\)"),
        ({"layout": '[["W", true]]'}, r"network has 'b' of shape \(3,\), but .* None"),
        ({"layout": '[["W", true]]', "network": "null"}, "nothing in it speaks of: 'b'"),
        ({"layout": '[["W", true], ["c", true]]'}, "without holding them: 'W', 'c'"),
        ({"layout": '[["W", true], ["W", false], ["b", true]]'}, "twice"),
        ({"layout": '[["b", true], ["W", true]]'}, "another order"),
        ({"layout": '[["W", true], ["b", false]]'}, "another order"),
        ({"layout": "3"}, "damaged"),
        ({"layout": "[3]"}, "damaged"),
        ({"layout": '[[["W"], true], ["b", true]]'}, "damaged"),
        ({"dtype": '"int64"'}, "'int64' is no dtype of parameters"),
        ({"dtype": '["float64"]'}, "is no dtype of parameters"),
        ({"dtype": '"float32"'}, "'W' has dtype float64, but the parameters float32"),
        ({"config": None}, "damaged"),
        ({"config": "3"}, "its config is 3"),
        ({"config": '"\\u001b[2J"'}, r"its config is '\\x1b\[2J'"),
        ({"optimizer": "[]"}, r"its optimizer is \[\]"),
        ({"step": "-1"}, "step must be a whole number of at least 0"),
        ({"step": "true"}, "step must be a whole number"),
        ({"step": "1.5"}, "step must be a whole number"),
        ({"history": "[]"}, "lacks 'history/losses'"),
        ({"run": "3"}, "its run is 3"),
        ({"run": '{"a": {"$": "parameters", "running": false}}'}, "lacks 'run/a/flat'"),
        ({"state": "3"}, "does not describe the state"),
        ({"state": json.dumps(STATE | {"slots": ["h"]})}, "lacks 'state/slots/h'"),
        ({"state": json.dumps(STATE | {"slots": [["h"]]})}, "damaged"),
        ({"state": json.dumps(STATE | {"step": -3})}, "step must be"),
        ({"state": json.dumps(STATE | {"lr_scale": -3})}, "lr_scale must be"),
        ({"state": json.dumps(STATE | {"lr_scale": "3"})}, "lr_scale must be"),
        ({"state": json.dumps({"$": "state", "slots": []})}, "it lacks 'decay_mask'"),
    ],
)
def test_files_that_contradict_themselves(tmp_path, changes, match):
    path = tmp_path / "net.safetensors"
    forge(path, changes)
    with pytest.raises(ValueError, match=match) as caught:
        ap.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


COLUMNS = ["epoch", "step", "train_loss", "lr", "seconds"]


@pytest.mark.parametrize(
    ("changes", "arrays", "match"),
    [
        ({}, {"b": np.zeros(3, "float32")}, "'b' has dtype float32, but the parameters float64"),
        ({}, {"b": None}, "lists arrays twice or without"),
        ({}, {"more": np.zeros(3)}, "nothing in it speaks of: 'more'"),
        (
            {"state": json.dumps(STATE | {"slots": ["h"]})},
            {"state/slots/h": np.zeros(8)},
            r"'state/slots/h' has shape \(8,\), expected \(9,\)",
        ),
        (
            {"state": json.dumps(STATE | {"slots": ["h"]})},
            {"state/slots/h": np.zeros(9, "float32")},
            "'state/slots/h' has dtype float32",
        ),
        (
            {"history": json.dumps(COLUMNS)},
            {"history/losses": np.zeros(3), "history/epochs": np.zeros((2, 4))},
            "unfit arrays",
        ),
        (
            {"history": json.dumps(COLUMNS[1:])},
            {"history/losses": np.zeros(3), "history/epochs": np.zeros((2, 4))},
            "unfit arrays",
        ),
        (
            {"history": json.dumps([*COLUMNS, ["a"]])},
            {"history/losses": np.zeros(3), "history/epochs": np.zeros((2, 6))},
            "damaged",
        ),
        (
            {"history": json.dumps(COLUMNS)},
            {"history/losses": np.zeros(3), "history/epochs": np.full((2, 5), 0.5)},
            "counts 0.5 epochs",
        ),
        (
            {"history": json.dumps(COLUMNS)},
            {"history/losses": np.zeros(3), "history/epochs": np.full((2, 5), np.nan)},
            "counts nan epochs",
        ),
    ],
)
def test_arrays_that_belie_what_the_file_says_of_them(tmp_path, changes, arrays, match):
    path = tmp_path / "net.safetensors"
    forge(path, changes, **arrays)
    with pytest.raises(ValueError, match=match) as caught:
        ap.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("config", [{1: 2, "1": 3}, {"a": [{None: 1}]}, {"a": {True: 1}}])
def test_keys_that_are_no_names_are_refused_and_nothing_is_written(config, tmp_path):
    net = ap.Affine(2, 2)
    with pytest.raises(TypeError, match="config has a key that is no str"):
        ap.save(tmp_path / "a", net.init(), config=config)
    assert not list(tmp_path.iterdir())
