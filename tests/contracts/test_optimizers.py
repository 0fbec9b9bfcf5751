"""What every optimizer promises, on every backend."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import anyprop as ap
from anyprop import _tree
from anyprop.backend import device_of, dtype_name, namespace
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.registry import OPTIMIZERS
from anyprop.optimizers.state import OptimizerState
from anyprop.schedules import Cosine, Exponential, Warmup
from anyprop.testing.optimizer_cases import COMMON, OPTIMIZER_CASES
from anyprop.testing.place import Place

every_optimizer = pytest.mark.parametrize("opt", OPTIMIZER_CASES.values(), ids=OPTIMIZER_CASES)
one_of_each = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


class Pair(NamedTuple):
    W: Any
    b: Any


W = np.asarray([[1.5, -2.0, 0.5], [0.25, 3.0, -1.0]])
B = np.asarray([0.5, -0.125, 2.0])
GRADS = [
    (np.asarray([[1e-6, -3.0, 0.0], [1e3, 2.0, -1e-2]]), np.asarray([0.5, 0.0, -20.0])),
    (np.asarray([[-2e-6, -1.0, 0.0], [-500.0, 0.1, -1e-3]]), np.asarray([0.25, 1.0, 30.0])),
    (np.asarray([[1e-5, 4.0, 1.0], [20.0, 0.0, 1e-3]]), np.asarray([-0.5, 2.0, 0.0])),
]


def arrays(backend, host, dtype="float64"):
    return _tree.map_leaves(lambda array: backend.asarray(array, dtype), host)


def run(opt, backend, *, dtype="float64", steps=3, **options):
    """Update a pair (W, b) with fixed gradients."""
    params = arrays(backend, (W, B), dtype)
    state = opt.init(params)
    for grads in itertools.islice(itertools.cycle(GRADS), steps):
        params, state = opt.update(params, arrays(backend, grads, dtype), state, **options)
    return params, state


def assert_trees_equal(backend, actual, desired, **tolerance):
    for a, d in zip(_tree.leaves(actual), _tree.leaves(desired), strict=True):
        a, d = (x if isinstance(x, np.ndarray) else backend.to_numpy(x) for x in (a, d))
        np.testing.assert_allclose(a, d, **({"rtol": 0} | tolerance))


def test_every_optimizer_has_a_case_and_every_option_a_variant():
    assert {type(opt) for opt in OPTIMIZER_CASES.values()} == set(OPTIMIZERS.values())
    for make in OPTIMIZERS.values():
        variants = [opt for opt in OPTIMIZER_CASES.values() if type(opt) is make]
        for field in dataclasses.fields(make):
            if field.name not in COMMON | {"lr"}:
                values = {getattr(opt, field.name) for opt in variants}
                assert values - {field.default}, f"no variant of {make} changes {field.name}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_namespace_dtype_device_and_shapes_are_kept(backend, opt, dtype):
    given = arrays(backend, (W, B), dtype)
    params, state = run(opt, backend, dtype=dtype)
    assert state.step == 3
    for tree in (params, *state.slots.values()):
        for array, like in zip(tree, given, strict=True):
            assert namespace(array) is namespace(like)
            assert array.dtype == like.dtype
            assert array.shape == like.shape
            assert device_of(array) == device_of(like)


@every_optimizer
def test_results_equal_those_of_numpy(backend, opt):
    params, state = run(opt, backend)
    expected_params, expected_state = run(opt, Place("numpy"))
    assert_trees_equal(backend, params, expected_params, rtol=1e-13)
    for name, slot in state.slots.items():
        assert_trees_equal(backend, slot, expected_state.slots[name], rtol=1e-13)


@every_optimizer
def test_arguments_are_left_alone(backend, opt):
    params, grads = arrays(backend, (W, B)), arrays(backend, GRADS[0])
    state = opt.init(params)
    before = [backend.to_numpy(a).copy() for a in _tree.leaves((params, grads, state.slots))]
    new_params, new_state = opt.update(params, grads, state)
    after = [backend.to_numpy(a) for a in _tree.leaves((params, grads, state.slots))]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert state.step == 0
    given = {id(array) for array in _tree.leaves((params, grads, state.slots))}
    assert not given & {id(array) for array in _tree.leaves((new_params, new_state.slots))}


@every_optimizer
def test_donated_buffers_are_reused_where_arrays_can_be_written_to(backend, opt):
    expected, expected_state = run(opt, backend)
    params = arrays(backend, (W, B))
    state = opt.init(params)
    slots = _tree.map_arrays(lambda a: backend.asarray(backend.to_numpy(a)), state.slots)
    state = state._replace(slots=slots)
    for grads in GRADS:
        grads = arrays(backend, grads)
        new_params, new_state = opt.update(params, grads, state, donate=True)
        pairs = zip(
            _tree.leaves((new_params, new_state.slots)),
            _tree.leaves((params, state.slots)),
            strict=True,
        )
        for new, old in pairs:
            assert new is old or not backend.mutable
        params, state = new_params, new_state
    assert_trees_equal(backend, params, expected)
    assert_trees_equal(backend, state.slots, expected_state.slots)


@every_optimizer
def test_donated_parameters_keep_their_vectors(backend, opt):
    (w, b), _ = run(opt, backend)
    layout = ap.Affine(2, 3).init().layout

    def vector(w, b):
        return ap.Parameters(layout, backend.asarray(np.concatenate([w.reshape(-1), b])))

    params = vector(W, B)
    state = opt.init(params)
    given = _tree.leaves((params, state.slots))
    for grads in GRADS:
        params, state = opt.update(params, vector(*grads), state, donate=True)
    if backend.mutable:
        pairs = zip(_tree.leaves((params, state.slots)), given, strict=True)
        assert all(new is old for new, old in pairs)
    assert_trees_equal(backend, (params.W, params.b), (backend.to_numpy(w), backend.to_numpy(b)))


@every_optimizer
def test_arrays_need_not_be_contiguous(backend, opt):
    def strided(values):
        array = backend.asarray(np.repeat(np.repeat(values.T, 2, axis=0), 2, axis=1))
        return array[::2, ::2].T

    params, grads = strided(W), strided(GRADS[0][0])
    for donate in (False, True):
        state = opt.init(backend.asarray(W))
        actual, _ = opt.update(params, grads, state, donate=donate)
        state = opt.init(backend.asarray(W))
        expected, _ = opt.update(backend.asarray(W), backend.asarray(GRADS[0][0]), state)
        assert_trees_equal(backend, actual, expected)


@every_optimizer
def test_every_kind_of_tree_gives_the_same_numbers(backend, opt):
    (w, b), _ = run(opt, backend)
    expected = [backend.to_numpy(w), backend.to_numpy(b)]
    layer = ap.Affine(2, 3)
    layout = layer.init().layout

    def flat(w, b):
        vector = np.concatenate([w.reshape(-1), b])
        return ap.Parameters(layout, backend.asarray(vector))

    kinds = {
        "dict": lambda w, b: {"W1": backend.asarray(w), "b1": backend.asarray(b)},
        "named": lambda w, b: Pair(backend.asarray(w), backend.asarray(b)),
        "nested": lambda w, b: {"a": (Pair(backend.asarray(w), ()), {"c": backend.asarray(b)})},
        "parameters": flat,
    }
    for kind, make in kinds.items():
        params = make(W, B)
        state = opt.init(params)
        for grads in GRADS:
            params, state = opt.update(params, make(*grads), state)
        assert type(params) is type(make(W, B))
        found = [params.W, params.b] if kind == "parameters" else _tree.leaves(params)
        assert_trees_equal(backend, tuple(found), tuple(expected))

    single = backend.asarray(W)
    state = opt.init(single)
    for grads in GRADS:
        single, state = opt.update(single, backend.asarray(grads[0]), state)
    assert_trees_equal(backend, single, expected[0])


@one_of_each
def test_a_dict_of_gradients_may_have_another_order(backend, make):
    opt = make(lr=0.1)
    w, b = arrays(backend, (W, B))
    gw, gb = arrays(backend, GRADS[0])
    params = {"W": w, "b": b}
    one, _ = opt.update(params, {"W": gw, "b": gb}, opt.init(params))
    other, _ = opt.update(params, {"b": gb, "W": gw}, opt.init(params))
    assert list(other) == ["W", "b"]
    assert_trees_equal(backend, one, other)


@one_of_each
def test_structures_that_differ_raise_and_show_both(backend, make):
    opt = make(lr=0.1)
    w, b = arrays(backend, (W, B))
    state = opt.init({"W": w, "b": b})
    for grads in ({"W": w}, {"W": b, "b": w}, (w, b), w):
        with pytest.raises(ValueError, match="grads and params differ") as error:
            opt.update({"W": w, "b": b}, grads, state)
        assert "'W': array(2, 3), 'b': array(3,)" in str(error.value)
        assert _tree.describe(grads) in str(error.value)
    if state.slots:
        with pytest.raises(ValueError, match=r"state.slots\['.+'\] and params differ"):
            opt.update(w, w, state)
    opt = ap.SGD(weight_decay=0.1, decay_biases=False)
    with pytest.raises(ValueError, match=r"state.decay_mask and params differ"):
        opt.update(w, w, opt.init({"W": w, "b": b}))


@one_of_each
def test_dtypes_are_never_mixed(backend, make):
    opt = make(lr=0.1)
    p, wide = backend.asarray(W, "float32"), backend.asarray(W, "float64")
    with pytest.raises(TypeError, match="params are float32, but grads float64; cast"):
        opt.update(p, wide, opt.init(p))
    if opt.init(p).slots:
        with pytest.raises(TypeError, match="params are float32, but .* float64; cast"):
            opt.update(p, p, opt.init(wide))
    with pytest.raises(TypeError, match="must be of a floating dtype, not .*int64"):
        opt.init(backend.asarray([1, 2], "int64"))


def test_vectors_of_a_network_must_be_of_one_dtype(backend):
    """Where layouts are the same no tree is walked; dtypes are compared all the same."""
    opt = ap.Momentum()
    params = ap.MLP([2, 3]).init(seed=1, xp=backend.xp, dtype="float32", device=backend.device)
    wide = params.replace(flat=backend.xp.astype(params.flat, backend.xp.float64))
    state = opt.init(params)
    with pytest.raises(TypeError, match="params are float32, but grads float64; cast"):
        opt.update(params, wide, state)
    with pytest.raises(TypeError, match="params are float32, but .* float64; cast"):
        opt.update(params, params, state._replace(slots=dict.fromkeys(state.slots, wide)))


def test_vectors_of_another_network_are_refused(backend):
    """Also if they are as long."""
    opt = ap.Momentum()
    params, other = (
        ap.MLP(sizes).init(seed=1, xp=backend.xp, device=backend.device)
        for sizes in ([2, 3], [8, 1])
    )
    assert params.size == other.size
    with pytest.raises(ValueError, match="grads and params differ in structure"):
        opt.update(params, other, opt.init(params))
    with pytest.raises(ValueError, match=r"state.slots\['v'\] and params differ in structure"):
        opt.update(params, params, opt.init(other))


@one_of_each
def test_a_tree_may_hold_several_dtypes(backend, make):
    for lr in (0.1, backend.asarray(0.1, "float64")):
        if make is ap.Rprop and not isinstance(lr, float):
            continue
        opt = make(lr=lr, clip_global_norm=1.0)
        params = (backend.asarray(W, "float32"), backend.asarray(B, "float64"))
        new, state = opt.update(params, params, opt.init(params))
        for tree in (new, *state.slots.values()):
            assert [dtype_name(a) for a in tree] == ["float32", "float64"]


@one_of_each
def test_namespaces_and_devices_are_never_mixed(backend, make):
    opt = make(lr=0.1)
    p = backend.asarray(W)
    strangers = []
    if backend.name != "numpy":
        strangers.append((W, "numpy"))
    if backend.name == "array_api_strict":
        other = "device2" if backend.device_name else "device1"
        strangers.append((backend.xp.asarray(W, device=backend.xp.Device(other)), "device"))
    for stranger, word in strangers:
        with pytest.raises(TypeError, match=word):
            opt.update(p, stranger, opt.init(p))
        with pytest.raises(TypeError, match=word):
            opt.update((p, stranger), (p, p), opt.init((p, p)))
        if opt.init(p).slots:
            with pytest.raises(TypeError, match=word):
                opt.update(p, p, opt.init(stranger))
        if make is not ap.Rprop and word != "numpy":  # NumPy's scalars are plain numbers
            with pytest.raises(TypeError, match=f"params .* but lr .*{word}"):
                far = make(lr=namespace(stranger).max(stranger))
                far.update(p, p, far.init(p))
            step = namespace(stranger).astype(namespace(stranger).max(stranger), namespace(p).int64)
            with pytest.raises(TypeError, match=f"params .* but state.step .*{word}"):
                opt.update(p, p, opt.init(p)._replace(step=step))


@every_optimizer
def test_gradients_of_zero_leave_the_parameters_where_they_are(backend, opt):
    opt = dataclasses.replace(opt, weight_decay=0.0)
    params = backend.asarray(W)
    state = opt.init(params)
    for _ in range(3):
        params, state = opt.update(params, backend.asarray(0.0 * W), state)
    assert_trees_equal(backend, params, W)
    for slot in state.slots.values():
        assert np.isfinite(backend.to_numpy(slot)).all()


@every_optimizer
def test_a_constant_gradient_stays_finite(backend, opt):
    """Where the centered variance is all rounding."""
    params = backend.asarray(W, "float32")
    state = opt.init(params)
    grads = backend.asarray(np.asarray([[1e-6, 1.0, 0.1], [7.0, 333.3, 1e3]]), "float32")
    for _ in range(300):
        params, state = opt.update(params, grads, state)
    assert np.isfinite(backend.to_numpy(params)).all()


# Learning rates


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_a_learning_rate_in_an_array_equals_a_number(backend, opt, dtype):
    if isinstance(opt, ap.Rprop):
        with pytest.raises(TypeError, match="Rprop: lr must be a number"):
            dataclasses.replace(opt, lr=backend.asarray([0.1]))
        return
    expected, _ = run(opt, backend, dtype=dtype)
    for width in ("float32", "float64"):
        if backend.name == "numpy" and backend.readonly:
            continue
        lr = backend.asarray(np.asarray(opt.lr), width)
        params, state = run(dataclasses.replace(opt, lr=lr), backend, dtype=dtype)
        for tree in (params, *state.slots.values()):
            assert {dtype_name(array) for array in tree} == {dtype}
        tolerance = 1e-5 if "float32" in (width, dtype) else 1e-13
        assert_trees_equal(backend, params, expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_optimizer
def test_a_schedule_sets_the_learning_rate_of_every_step(backend, opt, dtype):
    if isinstance(opt, ap.Rprop):
        with pytest.raises(TypeError, match="Rprop: lr must be a number"):
            dataclasses.replace(opt, lr=Cosine(0.1, 10))
        return
    schedule = Exponential(0.1, factor=0.5)
    params = arrays(backend, (W, B), dtype)
    state = opt.init(params)
    for step, grads in enumerate(GRADS):
        fixed = dataclasses.replace(opt, lr=schedule(step))
        params, state = fixed.update(params, arrays(backend, grads, dtype), state)
    for lr in (schedule, lambda step: np.float64(schedule(step))):
        actual, _ = run(dataclasses.replace(opt, lr=lr), backend, dtype=dtype)
        assert {dtype_name(array) for array in actual} == {dtype}
        assert_trees_equal(backend, actual, params)


@every_optimizer
def test_the_step_may_be_an_array(backend, opt):
    if not isinstance(opt, ap.Rprop):
        opt = dataclasses.replace(opt, lr=Warmup(2, Cosine(0.1, steps=20)))
    expected, _ = run(opt, backend, steps=12)
    for dtype in ("float32", "float64"):
        params = arrays(backend, (W, B), dtype)
        state = opt.init(params)
        state = state._replace(step=backend.asarray(np.asarray(0), "int32"))
        for grads in GRADS * 4:
            params, state = opt.update(params, arrays(backend, grads, dtype), state)
        assert int(state.step) == 12
        assert {dtype_name(array) for array in params} == {dtype}
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert_trees_equal(backend, params, expected, rtol=tolerance, atol=tolerance * 1e-2)


@one_of_each
def test_lr_scale_multiplies_the_learning_rate(backend, make):
    if make is ap.Rprop:
        return  # its learning rate is only where its step sizes start from
    p, g = backend.asarray(W), backend.asarray(GRADS[0][0])
    opt = make(lr=0.1)
    state = opt.init(p)._replace(lr_scale=0.25)
    actual, kept = opt.update(p, g, state)
    half = make(lr=0.025)
    expected, _ = half.update(p, g, half.init(p))
    assert kept.lr_scale == 0.25
    assert_trees_equal(backend, actual, expected, rtol=1e-15)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf, None, "1"])
def test_lr_scale_is_a_number_of_at_least_0(backend, scale):
    p, opt = backend.asarray(W), ap.SGD(lr=0.1)
    with pytest.raises((TypeError, ValueError), match="state: lr_scale must be"):
        opt.update(p, p, opt.init(p)._replace(lr_scale=scale))


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_a_schedule_that_goes_wrong_raises(lr):
    opt = ap.SGD(lr=lambda step: lr if step == 1 else 0.1)
    p, state = opt.update(W, W, opt.init(W))
    with pytest.raises(ValueError, match="SGD: lr after 1 updates must be zero or a positive"):
        opt.update(p, W, state)


def test_a_learning_rate_of_integers_raises(backend):
    with pytest.raises(TypeError, match="SGD: lr must be of a floating dtype, not int64"):
        ap.SGD(lr=backend.asarray(np.asarray(1), "int64"))


def test_numpy_numbers_become_python_numbers():
    for kind in (np.float32, np.float64):
        opt = ap.Adam(lr=kind(0.5), beta1=kind(0.25), weight_decay=kind(0.5))
        assert [type(v) for v in (opt.lr, opt.beta1, opt.weight_decay)] == [float] * 3
    p = W.astype("float32")
    state = ap.Adam().init(p)._replace(step=np.int64(3))
    assert ap.Adam().update(p, p, state)[0].dtype == np.float32


# Weight decay and clipping


@one_of_each
def test_weight_decay_pulls_towards_zero(backend, make):
    decayed = make(lr=0.01, weight_decay=0.5)
    p, g = backend.asarray(W), backend.asarray(0.0 * W)
    new, _ = decayed.update(p, g, decayed.init(p))
    assert (abs(backend.to_numpy(new)) < abs(W)).all() or make is ap.Rprop
    if make.decoupled:
        assert_trees_equal(backend, new, W * (1 - 0.01 * 0.5), rtol=1e-15)


@one_of_each
def test_weight_decay_can_leave_vectors_alone(backend, make):
    def updated(*, w_decay, b_decay):
        new = []
        for array, grad, decay in ((W, GRADS[0][0], w_decay), (B, GRADS[0][1], b_decay)):
            opt = make(lr=0.01, weight_decay=decay)
            p = backend.asarray(array)
            new.append(opt.update(p, backend.asarray(grad), opt.init(p))[0])
        return tuple(new)

    for decay_biases in (True, False):
        expected = updated(w_decay=0.5, b_decay=0.5 if decay_biases else 0.0)
        opt = make(lr=0.01, weight_decay=0.5, decay_biases=decay_biases)
        actual, state = run(opt, backend, steps=1)
        assert (state.decay_mask is None) == decay_biases
        assert_trees_equal(backend, actual, expected)

        layer = ap.Affine(2, 3)
        vectors = [np.concatenate([w.reshape(-1), b]) for w, b in ((W, B), GRADS[0])]
        params, grads = (
            ap.Parameters(layer.init().layout, backend.asarray(vector)) for vector in vectors
        )
        new, _ = opt.update(params, grads, opt.init(params))
        assert_trees_equal(backend, (new.W, new.b), expected)


def gradient_seen(backend, grads, dtype="float64", **clipping):
    """What plain gradient descent with lr 1 subtracts from zero parameters."""
    opt = ap.SGD(lr=1.0, **clipping)
    grads = arrays(backend, grads, dtype)
    params = _tree.map_leaves(lambda g: backend.asarray(0.0 * backend.to_numpy(g)), grads)
    new, _ = opt.update(params, grads, opt.init(params))
    return tuple(-backend.to_numpy(array) for array in new)


def test_clip_value_bounds_every_entry(backend):
    for seen, g in zip(gradient_seen(backend, GRADS[0], clip_value=2.0), GRADS[0], strict=True):
        np.testing.assert_array_equal(seen, np.clip(g, -2.0, 2.0))


def test_clip_norm_bounds_the_norm_of_every_array(backend):
    small = (GRADS[0][0], 1e-3 * B)
    w, b = gradient_seen(backend, small, clip_norm=2.0)
    assert np.linalg.norm(w) == pytest.approx(2.0, rel=1e-14)
    np.testing.assert_allclose(w / 2.0, small[0] / np.linalg.norm(small[0]), rtol=1e-14)
    np.testing.assert_array_equal(b, small[1])


def test_clip_global_norm_bounds_the_norm_of_all(backend):
    w, b = gradient_seen(backend, GRADS[0], clip_global_norm=2.0)
    total = np.concatenate([a.reshape(-1) for a in GRADS[0]])
    seen = np.concatenate([w.reshape(-1), b])
    np.testing.assert_allclose(seen, 2.0 * total / np.linalg.norm(total), rtol=1e-14)
    untouched = gradient_seen(backend, GRADS[0], clip_global_norm=1e6)
    assert_trees_equal(backend, untouched, GRADS[0])


def test_clipping_sees_the_arrays_inside_parameters(backend):
    layer = ap.Affine(2, 3)
    layout = layer.init().layout
    vectors = [np.concatenate([w.reshape(-1), b]) for w, b in ((0 * W, 0 * B), GRADS[0])]
    params, grads = (ap.Parameters(layout, backend.asarray(vector)) for vector in vectors)
    for clipping in ({"clip_norm": 2.0}, {"clip_global_norm": 2.0}, {"clip_value": 2.0}):
        opt = ap.SGD(lr=1.0, **clipping)
        new, _ = opt.update(params, grads, opt.init(params))
        expected = tuple(-a for a in gradient_seen(backend, GRADS[0], **clipping))
        assert_trees_equal(backend, (new.W, new.b), expected, rtol=1e-15)


def test_gradients_of_zero_survive_clipping(backend):
    for clipping in ("clip_value", "clip_norm", "clip_global_norm"):
        for seen in gradient_seen(backend, (0.0 * W, 0.0 * B), **{clipping: 1.0}):
            assert (seen == 0.0).all()


# State


def test_a_state_of_another_optimizer_raises(backend):
    p = backend.asarray(W)
    for theirs, ours, words in (
        (ap.SGD(), ap.Adam(), "Adam keeps ['m', 'v'], but the state has none"),
        (ap.Adam(), ap.SGD(), "SGD keeps no slots, but the state has ['m', 'v']"),
        (ap.Adam(), ap.RMSProp(), "RMSProp keeps ['h'], but the state has ['m', 'v']"),
    ):
        told = re.escape(f"{words}; it comes from another optimizer or other options.")
        with pytest.raises(ValueError, match=told):
            ours.update(p, p, theirs.init(p))
    some, everything = ap.SGD(weight_decay=0.1, decay_biases=False), ap.SGD(weight_decay=0.1)
    for ours, theirs in ((some, everything), (everything, some)):
        with pytest.raises(ValueError, match="create the state with this optimizer's init"):
            ours.update(p, p, theirs.init(p))


def test_a_copy_of_a_state_outlives_an_update_in_place(backend):
    opt, p = ap.Adam(), backend.asarray(W)
    _, state = opt.update(p, p, opt.init(p))
    kept, slots = state.copy(), {n: backend.to_numpy(a).copy() for n, a in state.slots.items()}
    opt.update(p, p, state, donate=True)
    assert kept.step == 1
    assert_trees_equal(backend, kept.slots, slots)


def test_a_rule_must_return_every_slot():
    class Forgetful(ap.Adam):
        def rule(self, xp):
            return lambda p, g, m, v, **scalars: (p, m)

    opt = Forgetful()
    with pytest.raises(TypeError, match="^the rule of Forgetful must return a tuple of 3, .* of 2"):
        opt.update(W, W, opt.init(W))


def test_a_slot_that_is_left_out_reaches_the_rule_as_zero():
    class Watched(ap.RMSProp):
        def rule(self, xp):
            def rule(p, g, h, a, v, **scalars):
                assert (a, v) == (0.0, 0.0)
                return p, h, a, v

            return rule

    opt = Watched()
    _, state = opt.update(W, W, opt.init(W))
    assert list(state.slots) == ["h"]


def test_what_depends_on_the_step_alone_is_computed_once():
    class Counting(ap.Adam):
        calls = 0

        def scalars(self, t, lr):
            type(self).calls += 1
            return super().scalars(t, lr)

    opt = Counting()
    opt.update((W, B), (W, B), opt.init((W, B)))
    assert Counting.calls == 1


@one_of_each
def test_numbers_of_the_step_may_be_computed_before(backend, make):
    """An update is its numbers, computed on the host, and arrays: a compiled step repeats the second."""
    opt = make(lr=0.1, weight_decay=0.0)
    p, g = backend.asarray(W), backend.asarray(GRADS[0][0])
    state = opt.init(p)
    later = state._replace(step=7)
    expected, new = opt.update(p, g, later)
    assert new.step == 8
    assert opt.numbers(later) == (0.1, opt.scalars(8, 0.1))
    actual, slots = opt.apply(p, g, state.slots, None, opt.numbers(later))
    assert_trees_equal(backend, actual, expected)
    for name, slot in slots.items():
        assert_trees_equal(backend, slot, new.slots[name])
    if make is not ap.Rprop:
        halved, _ = opt.apply(p, g, state.slots, None, (0.1, opt.scalars(1, 0.05)))
        expected, _ = opt.update(p, g, state._replace(lr_scale=0.5))
        assert_trees_equal(backend, halved, expected)
    assert_trees_equal(backend, p, W)


def test_an_empty_tree_has_nothing_to_update():
    for empty in ({}, ()):
        opt = ap.Adam()
        params, state = opt.update(empty, empty, opt.init(empty))
        assert params == empty
        assert state.step == 1


def test_running_statistics_are_none_of_an_optimizers_matter(backend):
    net = ap.Sequential(ap.Affine(2, 3), ap.BatchNorm(3))
    params = net.init(seed=1, xp=backend.xp, device=backend.device)
    opt = ap.SGD()
    new, _ = opt.update(params, params.replace(running=params.running + 1.0), opt.init(params))
    assert new.running is params.running


def test_slots_keep_to_their_names_in_whatever_order_the_parameters_come(backend):
    """Of dicts the keys count, not their order."""
    opt = ap.Momentum(lr=0.1)
    a, b = backend.asarray(np.asarray([1.0, 2.0])), backend.asarray(np.asarray([3.0, 5.0]))
    params, state = opt.update({"a": a, "b": b}, {"b": b, "a": a}, opt.init({"a": a, "b": b}))
    turned = {"b": params["b"], "a": params["a"]}
    turned, state = opt.update(turned, {"a": a, "b": b}, state)
    assert_trees_equal(backend, state.slots["v"]["a"], np.asarray([1.9, 3.8]), rtol=1e-15)
    assert_trees_equal(backend, state.slots["v"]["b"], np.asarray([5.7, 9.5]), rtol=1e-15)


@every_optimizer
def test_the_slots_of_a_state_may_come_in_any_order(backend, opt):
    """As they do from a file that lists them by name."""
    params, state = run(opt, backend)
    grads = arrays(backend, GRADS[0])
    turned = state._replace(slots=dict(reversed(state.slots.items())))
    expected, after = opt.update(params, grads, state)
    found, after_turned = opt.update(params, grads, turned)
    assert_trees_equal(backend, found, expected)
    assert after_turned.slots.keys() == after.slots.keys()
    for name, slot in after.slots.items():
        assert_trees_equal(backend, after_turned.slots[name], slot)


@pytest.mark.needs("jax")
@every_optimizer
def test_jit_equals_eager(opt):
    import jax
    import jax.numpy as jnp

    if not isinstance(opt, ap.Rprop):
        opt = dataclasses.replace(opt, lr=Warmup(2, Cosine(0.1, steps=20)))
    opt = dataclasses.replace(opt, weight_decay=0.1, decay_biases=False, clip_global_norm=10.0)
    traces = 0

    @jax.jit
    def step(params, grads, state):
        nonlocal traces
        traces += 1
        return opt.update(params, grads, state, donate=True)

    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        layout = ap.Affine(2, 3).init().layout
        eager = ap.Parameters(layout, jnp.concatenate([W.reshape(-1), B], dtype=dtype))
        jitted, state, kept = eager, opt.init(eager), opt.init(eager)
        traces = 0
        for w, b in GRADS * 4:
            grads = eager.replace(flat=jnp.concatenate([w.reshape(-1), b], dtype=dtype))
            eager, state = opt.update(eager, grads, state)
            jitted, kept = step(jitted, grads, kept)
        assert jitted.flat.dtype == dtype
        assert int(kept.step) == state.step == 12
        assert traces == 1
        np.testing.assert_allclose(jitted.flat, eager.flat, rtol=tolerance, atol=tolerance)


# Wrong hyper-parameters


def wrong_values(make):
    """List (field, value, error) for every field of an optimizer."""
    for field in dataclasses.fields(make):
        name, default = field.name, field.default
        words = [("0.1", TypeError), (b"1", TypeError), ([0.1], TypeError), (1j, TypeError)]
        if isinstance(default, bool):
            yield from ((name, value, TypeError) for value in (0, 1.0, None, "yes"))
            continue
        yield from ((name, value, error) for value, error in words)
        yield from ((name, value, TypeError) for value in (True, np.True_))
        yield from ((name, value, ValueError) for value in (-0.1, -1, math.nan, math.inf))
        if default is not None:
            yield name, None, TypeError
        if name not in ZERO_IS_FINE:
            yield name, 0.0, ValueError
        if name in FRACTIONS:
            yield name, 1.0, ValueError


FRACTIONS = {"rho", "momentum", "beta1", "beta2"}
ZERO_IS_FINE = FRACTIONS | {
    "weight_decay",
    "initial_accumulator",
    "initial_scale",
    "momentum_decay",
}
WRONG = [(make, *wrong) for make in OPTIMIZERS.values() for wrong in wrong_values(make)]


@pytest.mark.parametrize(
    ("make", "name", "value", "error"), WRONG, ids=lambda v: getattr(v, "__name__", repr(v))
)
def test_wrong_hyper_parameters_raise_and_are_named(make, name, value, error):
    with pytest.raises(error, match=f"{make.__name__}: {name} must"):
        make(**{name: value})


@pytest.mark.parametrize("name", sorted(ZERO_IS_FINE))
def test_zero_is_fine_where_it_means_none(name):
    for make in OPTIMIZERS.values():
        if name in {field.name for field in dataclasses.fields(make)}:
            opt = make(**{name: 0.0})
            new, _ = opt.update(W, W, opt.init(W))
            assert np.isfinite(new).all()


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (ap.RMSProp, {"nesterov": True}, "nesterov=True needs a momentum"),
        (ap.Rprop, {"eta_minus": 1.0}, "eta_minus must be below 1"),
        (ap.Rprop, {"eta_plus": 1.0}, "eta_plus above"),
        (ap.Rprop, {"step_min": 60.0}, "step_min must be below step_max"),
    ],
)
def test_hyper_parameters_that_contradict_each_other_raise(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


@pytest.mark.parametrize("make", [ap.RMSProp, ap.AdaGrad])
def test_like_takes_options_and_names_the_nearest_library(make):
    assert set(make.presets) == {"torch", "keras", "optax", "chainer", "book"}
    for library in make.presets:
        opt = make.like(library, 0.5, weight_decay=0.25, decay_biases=False)
        assert (opt.lr, opt.weight_decay) == (0.5, 0.25)
        assert isinstance(opt, make)
    assert make.like("torch", eps=0.5).eps == 0.5
    with pytest.raises(ValueError, match="unknown library 'kears'; did you mean 'keras'"):
        make.like("kears")


@pytest.mark.parametrize(
    ("make", "library", "options", "words"),
    [
        (ap.RMSProp, "torch", {"eps_in_sqrt": True}, "eps_in_sqrt=True"),
        (ap.RMSProp, "torch", {"clip_global_norm": 1.0}, "clip_global_norm=1.0"),
        (ap.RMSProp, "torch", {"decoupled": True}, "decoupled=True"),
        (ap.RMSProp, "keras", {"decoupled": False, "weight_decay": 0.1}, "decoupled=False"),
        (ap.RMSProp, "keras", {"momentum": 0.9, "nesterov": True}, "nesterov=True"),
        (ap.RMSProp, "keras", {"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm and clip_value"),
        (ap.RMSProp, "optax", {"clip_norm": 1.0}, "clip_norm=1.0"),
        (ap.RMSProp, "chainer", {"momentum": 0.9}, "momentum=0.9"),
        (ap.RMSProp, "book", {"eps": 1e-3}, "eps=0.001"),
        (ap.RMSProp, "book", {"weight_decay": 0.1}, "decay_biases=False"),
        (ap.AdaGrad, "keras", {"eps_in_sqrt": False}, "eps_in_sqrt=False"),
        (ap.AdaGrad, "chainer", {"initial_accumulator": 0.1}, "initial_accumulator=0.1"),
    ],
)
def test_like_refuses_what_the_library_does_not_do(make, library, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make.like(library, **options)
    with pytest.raises(TypeError, match="^library must be a name such as 'torch', not"):
        make.like([library])
    own = {name: make.presets[library][name] for name in make.presets[library]}
    assert make.like(library, **own) == make.like(library)


@every_optimizer
def test_a_refused_update_changes_nothing_that_was_donated(backend, opt):
    """The second leaf is at fault, after one that is right."""
    params = arrays(backend, {"a": B, "b": B})
    state = opt.init(params)
    good = backend.asarray(B)
    for bad in (backend.asarray(B[:2]), backend.asarray(B, "float32")):
        with pytest.raises((ValueError, TypeError)):
            opt.update(params, {"a": good, "b": bad}, state, donate=True)
    broken = (
        dataclasses.replace(opt, lr=lambda step: -1.0) if not isinstance(opt, ap.Rprop) else opt
    )
    if broken is not opt:
        with pytest.raises(ValueError, match="lr after 0 updates"):
            broken.update(params, {"a": good, "b": good}, state, donate=True)
    assert_trees_equal(backend, params, {"a": B, "b": B})
    assert_trees_equal(backend, state.slots, opt.init(arrays(backend, {"a": B, "b": B})).slots)


@every_optimizer
def test_donated_leaves_may_share_memory(backend, opt):
    """Each is updated by its own gradient, as without donation."""
    p = backend.asarray(np.concatenate([B, B]))
    params = {"a": p, "b": p, "c": p[1:4], "d": p[4:]}
    grads = {
        name: backend.asarray(rank + np.arange(array.shape[0]) - 1.0)
        for rank, (name, array) in enumerate(params.items())
    }
    expected, _ = opt.update(params, grads, opt.init(params))
    expected = _tree.map_leaves(lambda array: backend.to_numpy(array).copy(), expected)
    updated, _ = opt.update(params, grads, opt.init(params), donate=True)
    assert_trees_equal(backend, updated, expected)


@every_optimizer
def test_donated_leaves_that_lie_side_by_side_are_each_reused(backend, opt):
    """As the arrays of one vector do, which share no number."""
    if not backend.mutable:
        return
    vector = backend.asarray(np.concatenate([B, B]))
    params = (vector[:3], vector[3:])
    grads = arrays(backend, (B, 2.0 * B))
    updated, _ = opt.update(params, grads, opt.init(params), donate=True)
    assert all(new is old for new, old in zip(updated, params, strict=True))
    assert_trees_equal(backend, vector, np.concatenate([*map(backend.to_numpy, updated)]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["clip_norm", "clip_global_norm"])
def test_norms_are_clipped_up_to_the_largest_numbers(backend, kind, dtype):
    if dtype not in backends_dtypes(backend):
        return
    xp, opt = backend.xp, ap.SGD(lr=1.0, **{kind: 1.0})
    for size in (100.0, float(xp.finfo(getattr(xp, dtype)).max), 0.01):
        g = xp.astype(backend.asarray(np.full(100, size)), getattr(xp, dtype))
        p = 0.0 * g
        p, _ = opt.update(p, g, opt.init(p))
        assert p.dtype == g.dtype
        wide = backend.to_numpy(xp.astype(p, xp.float64))
        np.testing.assert_allclose(wide, -min(size, 0.1), rtol=1e-2)


@pytest.mark.parametrize("kind", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_norm_that_is_infinite_makes_everything_nan(backend, kind, bad):
    opt = ap.SGD(lr=1.0, **{kind: 1.0})
    p, _ = opt.update(
        backend.asarray(B), backend.asarray([1.0, bad, 0.0]), opt.init(backend.asarray(B))
    )
    assert np.isnan(backend.to_numpy(p)).all()


def backends_dtypes(backend):
    """List the floating dtypes of a backend."""
    wide = {"float32", "float64"}
    return {"numpy": wide | {"float16"}, "array_api_strict": wide}.get(
        backend.name, wide | {"float16", "bfloat16"}
    )


def test_the_base_class_defines_no_rule():
    opt = Optimizer()
    assert opt.init(W) == OptimizerState(0, 1.0, {}, None)
    with pytest.raises(NotImplementedError):
        opt.update(W, W, opt.init(W))
    with pytest.raises(NotImplementedError):
        opt.rule(np)
