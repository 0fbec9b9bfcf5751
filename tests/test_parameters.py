"""One flat vector and its named views."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import device_of, dtype_name
from anyprop.layout import Layout, Spec
from anyprop.parameters import Parameters


def _net() -> ap.Sequential:
    return ap.Sequential(
        ap.Affine(4, 3), ap.BatchNorm(3), ap.ReLU(), ap.Sequential(ap.Affine(3, 3)), ap.Affine(3, 2)
    )


def _init(backend, **kwargs) -> Parameters:
    return _net().init(seed=8, xp=backend.xp, device=backend.device, **kwargs)


def test_names_shapes_and_order(backend):
    params = _init(backend)
    shapes = {name: tuple(array.shape) for name, array in params.named().items()}
    assert shapes == {
        "0.W": (4, 3), "0.b": (3,),
        "1.gamma": (3,), "1.beta": (3,), "1.mean": (3,), "1.var": (3,),
        "3.0.W": (3, 3), "3.0.b": (3,),
        "4.W": (3, 2), "4.b": (2,),
    }  # fmt: skip
    assert params.size == params.flat.shape[0] == 15 + 6 + 12 + 8
    assert params.running.shape == (6,)


def test_views_hold_the_flat_vectors_numbers_in_order(backend):
    params = _init(backend)
    trainable = [a for n, a in params.named().items() if not n.endswith(("mean", "var"))]
    joined = np.concatenate([backend.to_numpy(a).ravel() for a in trainable])
    np.testing.assert_array_equal(joined, backend.to_numpy(params.flat))
    np.testing.assert_array_equal(backend.to_numpy(params.running), [0, 0, 0, 1, 1, 1])


def test_every_way_to_name_an_array_finds_it(backend):
    params = _init(backend)
    for found in (params["3.0.W"], params[3]["0.W"], params[3][0].W, params[3]["0"]["W"]):
        np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(params["3.0.W"]))
    assert tuple(params[1].mean.shape) == (3,)


def test_views_are_views_where_arrays_can_be_written(backend):
    if not backend.mutable:
        return
    params = _init(backend)
    params[3][0].W[1, 2] = 42.0
    start = 15 + 6 + 3 * 1 + 2
    assert float(params.flat[start]) == 42.0
    params.flat[start] = 7.0
    assert float(params["3.0.W"][1, 2]) == 7.0
    assert float(params[3].flat[5]) == 7.0


def test_dtype_and_device(backend):
    for dtype in ("float32", "float64"):
        params = _init(backend, dtype=dtype)
        for array in (params.flat, params.running, params[0].W):
            assert dtype_name(array) == dtype
            assert backend.device is None or device_of(array) == backend.device


def test_the_same_seed_gives_the_same_bits(backend):
    ours = _init(backend, dtype="float32")
    numpys = _net().init(seed=8)
    np.testing.assert_array_equal(backend.to_numpy(ours.flat), numpys.flat)
    assert not np.array_equal(_net().init(seed=9).flat, numpys.flat)


def test_a_layer_without_parameters_has_an_empty_vector(backend):
    params = _init(backend)[2]
    assert params.size == 0
    assert params.flat.shape == (0,)
    assert params.named() == {}


def test_an_unknown_name_says_what_there_is(backend):
    params = _init(backend)
    with pytest.raises(AttributeError, match="no parameter 'V'; this layer has W, b"):
        _ = params[0].V
    with pytest.raises(KeyError, match="no parameter 'V'"):
        params["0.V"]
    with pytest.raises(IndexError, match="negative"):
        params[-1]


def test_a_layer_says_which_array_it_misses_in_parameters_of_a_class_of_ones_own():
    class Own(ap.Parameters):
        pass

    params, layer = ap.LayerNorm(3).init(), ap.Affine(3, 2)
    for kind in (ap.Parameters, Own):
        with pytest.raises(AttributeError, match="no parameter 'W'"):
            layer.forward(kind(params.layout, params.flat), np.ones((1, 3), "float32"))


def test_slots_say_that_they_lack_running_statistics(backend):
    slot = ap.Adam().init(_init(backend)).slots["m"]
    assert "1.gamma" in slot.named()
    for _ in range(2):
        with pytest.raises(AttributeError, match="no parameter 'mean'; this layer has gamma, beta"):
            _ = slot[1].mean


def test_a_layer_says_where_the_running_statistics_are_that_it_misses():
    net, x = ap.MLP([4, 6, 3], norm="batch", residual=True), np.ones((2, 4), "float32")
    params = net.init()
    alone = ap.Parameters(params.layout, params.flat)
    told = (
        r"'mean'; .* running statistics in what net.init\(\) and params.replace\(flat=...\) return"
    )
    for call in (net, net.forward, lambda params, x: params["1.mean"]):
        with pytest.raises((AttributeError, KeyError), match=told):
            call(alone, x)
    assert net(params.replace(flat=2 * params.flat), x).shape == (2, 3)


def test_a_view_is_made_once_and_none_in_advance(backend):
    params = _init(backend)
    if backend.name in ("jax", "torch"):
        return
    assert params[0].W is params[0].W
    assert params["3.0.W"] is params[3][0].W
    assert params[2] is params[2]


def test_a_view_cannot_be_replaced(backend):
    params = _init(backend)
    with pytest.raises(AttributeError):
        params[0].W = params[0].W


def test_arrays_of_one_part_are_listed_together():
    scattered = Layout.of({name: Spec((2,)) for name in ("0.W", "1.W", "0.b")})
    with pytest.raises(
        ValueError, match=r"specs\(\) must list the arrays of '0' one after another"
    ):
        _ = Parameters(scattered, np.arange(6.0))["0.b"]


def test_layouts_compare_by_names_and_shapes():
    specs = {"W": Spec((2, 3)), "b": Spec((3,), 0.0)}
    assert Layout.of(specs) == ap.Affine(2, 3).init().layout
    assert hash(Layout.of(specs)) == hash(ap.Affine(2, 3).init().layout)
    assert Layout.of(specs) != ap.Affine(3, 2).init().layout
    assert Layout.of({"W": Spec((2, 3))}) != Layout.of({"V": Spec((2, 3))})


def test_repr_tells_names_shapes_and_count():
    assert repr(ap.Affine(2, 3).init()) == "Parameters(9 numbers: W (2, 3), b (3,))"


def test_replace_and_copy(backend):
    params = _init(backend)
    doubled = params.replace(flat=params.flat * 2.0)
    assert doubled.running is params.running
    assert doubled.layout is params.layout
    before = backend.to_numpy(params.flat).copy()
    copied = params.copy()
    if backend.mutable:
        copied.flat[0] = 1e3
        copied.running[0] = 1e3
    np.testing.assert_array_equal(backend.to_numpy(params.flat), before)
    assert float(params.running[0]) == 0.0


def test_a_vector_of_another_shape_does_not_replace_one(backend):
    params = _init(backend)
    short = params.running[:2]
    with pytest.raises(ValueError, match=r"running has shape \(2,\), expected \(6,\)"):
        params.replace(running=short)
    with pytest.raises(ValueError, match=r"running has shape \(2,\), expected \(6,\)"):
        ap.Parameters(params.layout, params.flat).replace(running=short)
    with pytest.raises(ValueError, match=r"flat has shape \(2,\), expected \(41,\)"):
        params.replace(flat=short)


def test_copies_and_pickles_keep_views_views(backend):
    params = _init(backend)
    _ = params[0].W, params[3][0].b
    for other in (copy.deepcopy(params), pickle.loads(pickle.dumps(params))):
        assert other.layout == params.layout
        np.testing.assert_array_equal(backend.to_numpy(other.flat), backend.to_numpy(params.flat))
        if backend.mutable:
            other.flat[0] = 5.0
            assert float(other[0].W[0, 0]) == 5.0
            assert float(params[0].W[0, 0]) != 5.0


@pytest.mark.needs("jax")
def test_jax_sees_one_leaf_and_traces_views():
    import jax

    net = ap.MLP([4, 3, 2])
    params = net.init(seed=8, xp="jax")
    assert len(jax.tree_util.tree_leaves(params)) == 1
    assert len(jax.tree_util.tree_leaves(_net().init(xp="jax"))) == 2
    total = jax.jit(lambda p: p[0].W.sum() + p["2.b"].sum())(params)
    np.testing.assert_allclose(float(total), float(params[0].W.sum()), rtol=1e-6)
    grads = jax.grad(lambda p: (p[0].W ** 2).sum())(params)
    assert isinstance(grads, Parameters)
    np.testing.assert_allclose(np.asarray(grads[0].W), 2 * np.asarray(params[0].W), rtol=1e-6)


@pytest.mark.needs("jax")
def test_a_trace_leaves_no_tracer_in_parameters_it_closes_over():
    import jax

    net = ap.MLP([4, 3, 2])
    params = net.init(seed=8, xp="jax")
    x = ap.from_host(np.ones((2, 4), dtype="float32"), "jax")
    traced = jax.jit(lambda x: net.forward(params, x)[0])(x)
    np.testing.assert_allclose(traced, net.forward(params, x)[0], rtol=1e-6)


@pytest.mark.needs("jax")
def test_parameters_made_before_jax_was_imported_can_be_traced():
    code = (
        "import sys, anyprop as ap\n"
        "params = ap.Affine(2, 3).init()\n"
        "assert 'jax' not in sys.modules\n"
        "import jax\n"
        "ap.Affine(2, 3).init()\n"
        "print(len(jax.tree_util.tree_leaves(params)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_layout_is_hashed_anew_in_another_process():
    """Strings have other hashes there, and so does whatever is equal to the layout that was sent."""
    layout = ap.MLP([2, 3, 1]).init(0).layout
    hash(layout)
    code = (
        "import pickle, sys, anyprop as ap; layout = pickle.load(sys.stdin.buffer); "
        "assert layout in {ap.MLP([2, 3, 1]).init(0).layout}"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(layout),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def _after_compiled_steps(count, params):
    """Return the network, and what some compiled steps return, which are in parts."""
    net, opt = _net(), ap.Momentum(weight_decay=0.1, decay_biases=False)
    xp = params.xp
    x = xp.asarray(np.random.default_rng(0).standard_normal((6, 4)).astype("float32"))
    t = xp.asarray([0, 1, 0, 1, 1, 0])
    step = ap.compile(ap.make_step(net, ap.SoftmaxCrossEntropy(), opt))
    state = opt.init(params)
    for _ in range(count):
        params, state, _ = step(params, state, x, t)
    return net, params, state, (step, x, t)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr("anyprop.compiled.on_jax.LARGE", 0)
    return partial(_after_compiled_steps, 3, _net().init(seed=8, xp="jax"))


@pytest.mark.needs("jax")
def test_in_parts_they_are_what_they_are_in_one_vector(in_parts):
    import jax

    net, params, state, (_, x, _) = in_parts()
    theirs = _after_compiled_steps(3, _net().init(seed=8))[1:3]
    y, named, leaves = net(params, x), params.named(), params.copy()
    kept = params.replace(running=params.running)
    assert None not in (params._parts, leaves._parts, kept._parts)
    pairs = [(named[name], array) for name, array in theirs[0].named().items()]
    for ours in (params.copy(), kept, pickle.loads(pickle.dumps(params)), params):
        pairs += [(ours.flat, theirs[0].flat), (ours.running, theirs[0].running)]
    pairs += [(state.slots["v"].flat, theirs[1].slots["v"].flat), (y, net(params, x))]
    pairs += [(params[2].flat, np.zeros(0)), (jax.tree.leaves(params)[0], theirs[0].flat)]
    for ours, numpys in pairs:
        np.testing.assert_allclose(ours, numpys, rtol=1e-5, atol=1e-6)
    assert list(named) == list(theirs[0].named())


@pytest.mark.needs("jax")
def test_whoever_asks_for_the_vector_can_go_on_with_the_compiled_step(in_parts):
    _, params, state, (step, x, t) = in_parts()
    params.flat, state.slots["v"].flat
    assert params._parts is state.slots["v"]._parts is None
    params = step(params, state, x, t)[0]
    theirs = _after_compiled_steps(4, _net().init(seed=8))[1]
    np.testing.assert_allclose(params.flat, theirs.flat, rtol=1e-5, atol=1e-6)


@pytest.mark.needs("jax")
def test_a_trace_leaves_no_tracer_in_parts_that_it_closes_over(in_parts):
    import jax

    net, params, state, (step, x, t) = in_parts()
    traced = jax.jit(lambda x: net(params, x) + params.flat.sum())(x)
    np.testing.assert_allclose(traced, net(params, x) + params.flat.sum(), rtol=1e-5)
    value = jax.jit(lambda x: step(params, state, x, t)[2])(x)  # which splits it
    np.testing.assert_allclose(value, step(params.copy(), state.copy(), x, t)[2], rtol=1e-5)
    assert params.flat.shape == (params.size,)
