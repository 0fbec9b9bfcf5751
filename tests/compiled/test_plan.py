"""Plans repeat a recording on new numbers, in memory that they share out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import anyprop as ap
from anyprop.compiled import namespace as xp
from anyprop.compiled.numpy_plan import lister, make_plan
from anyprop.compiled.program import Program, taken_apart, values_of
from anyprop.compiled.trace import Recording
from anyprop.repeatable.stand_in import TraceError
from rules import Remembering


def _planned(function, *arrays, targets=()):
    """Record a function on copies of the arrays; return its plan and the arrays that it reads."""
    arrays = [np.array(a) for a in arrays]
    with Recording() as recording:
        given = [Recording.given(a) for a in arrays]
        outputs = function(*given)
    chosen = [None if i is None else given[i].value for i in targets]
    return make_plan(Program(recording.calls, values_of(outputs), chosen)), arrays


def test_a_plan_computes_on_what_the_arrays_hold_now(rng):
    def function(a, b):
        y = xp.maximum(xp.matmul(a, b), 0.0)
        return [y, xp.sum(y, axis=0), xp.mean(y), xp.concat([xp.reshape(y, (-1,)), y[0]])]

    plan, (a, b) = _planned(function, rng.random((3, 4)), rng.random((4, 2)))
    for _ in range(2):
        a[...], b[...] = rng.standard_normal(a.shape), rng.standard_normal(b.shape)
        plan.run()
        y = np.maximum(a @ b, 0.0)
        wanted = [y, y.sum(axis=0), y.mean(), np.concatenate([y.reshape(-1), y[0]])]
        for output, expected in zip(plan.outputs, wanted, strict=True):
            np.testing.assert_array_equal(output, expected)


def test_a_target_that_is_read_later_is_written_last():
    plan, (x,) = _planned(lambda x: [x + 1.0, x * 2.0], [1.0, 2.0], targets=[0])
    plan.run()
    np.testing.assert_array_equal(x, [2.0, 3.0])
    np.testing.assert_array_equal(plan.outputs[1], [2.0, 4.0])


def test_two_targets_may_change_places():
    plan, (x, y) = _planned(lambda x, y: [y * 1.0, x * 1.0], [1.0], [2.0], targets=[0, 1])
    plan.run()
    assert (x.tolist(), y.tolist()) == ([2.0], [1.0])


def test_overlapping_inputs_are_read_whole():
    def function(x):
        y = x * 1.0
        row = x[0] * 2.0
        return [y + y.T, row + x]

    x = [[1.0, 2.0], [3.0, 4.0]]
    plan, _ = _planned(function, x)
    plan.run()
    np.testing.assert_array_equal(plan.outputs[0], [[2.0, 5.0], [5.0, 8.0]])
    np.testing.assert_array_equal(plan.outputs[1], [[3.0, 6.0], [5.0, 8.0]])


def test_pieces_are_computed_in_their_places():
    def function(x):
        return [xp.concat([xp.reshape(x * 2.0, (-1,)), xp.sum(x, axis=0)])]

    plan, _ = _planned(function, [[1.0, 2.0], [3.0, 4.0]])
    assert len(plan.calls) == 2  # no call is left for the join
    plan.run()
    np.testing.assert_array_equal(plan.outputs[0], [2.0, 4.0, 6.0, 8.0, 4.0, 6.0])


def test_a_vector_that_is_joined_twice_is_copied():
    def function(x):
        y = x * 2.0
        return [xp.concat([y, y]), xp.concat([y, x])]

    plan, (x,) = _planned(function, [1.0, 2.0])
    x[...] = [3.0, 4.0]
    plan.run()
    np.testing.assert_array_equal(plan.outputs[0], [6.0, 8.0, 6.0, 8.0])
    np.testing.assert_array_equal(plan.outputs[1], [6.0, 8.0, 3.0, 4.0])


def test_a_long_chain_needs_two_buffers():
    def function(x):
        y = x
        for _ in range(50):
            y = xp.exp(y) * 0.1
        return [y]

    plan, _ = _planned(function, np.ones(1000))
    assert plan.nbytes <= 2 * 8000


def test_recording_needs_no_memory():
    x = np.ones((1000, 1000))
    tracemalloc.start()
    try:
        with Recording() as recording:
            y = Recording.given(x)
            for _ in range(20):
                y = xp.exp(xp.matmul(y.T, y)) * 0.1
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(recording.calls) == 60
    assert kept < 100_000
    assert peak < 2 * x.nbytes


def test_matrices_are_not_joined():
    with pytest.raises(TraceError, match="joins arrays that are not vectors"):
        _planned(lambda x: [xp.concat([x, x])], np.ones((2, 2)))


def test_an_array_of_a_recording_is_an_array_already():
    x = Recording.given(np.ones(2))
    assert xp.asarray(x) is x


def test_a_number_of_a_recording_adds_to_numbers_alone():
    with pytest.raises(TypeError, match="unsupported operand"):
        Recording.number(1.0) + "1"


def test_shapes_without_a_product_are_refused():
    with Recording():
        a, b = Recording.given(np.ones((2, 3))), Recording.given(np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 3\) have no product"):
            xp.matmul(a, b)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3,), (3,)), ((3,), (3, 2)), ((4, 3), (3,)), ((4, 3), (3, 2)), ((5, 1, 4, 3), (6, 3, 2))],
)
def test_products_have_the_shapes_of_numpy(left, right):
    a, b = np.ones(left, np.float32), np.ones(right)
    plan, _ = _planned(lambda a, b: [xp.matmul(a, b)], a, b)
    plan.run()
    assert plan.outputs[0].shape == np.matmul(a, b).shape
    assert plan.outputs[0].dtype == np.float64
    np.testing.assert_array_equal(plan.outputs[0], np.matmul(a, b))


def test_donated_parameters_may_lie_in_bytes():
    net, opt = ap.MLP([3, 4, 2]), ap.Adam()
    params = net.init(seed=0)
    step = ap.make_step(net, ap.SoftmaxCrossEntropy(), opt)
    x, t = np.ones((5, 3), dtype=np.float32), np.asarray([0, 1, 0, 1, 1])
    expected, *_ = step(params, opt.init(params), x, t)
    memory = bytearray(params.flat.tobytes())  # as after pickle.loads
    copy = params.replace(flat=np.frombuffer(memory, dtype=np.float32))
    actual, *_ = ap.compile(step)(copy, opt.init(copy), x, t)
    np.testing.assert_array_equal(actual.flat, expected.flat)


def test_a_view_that_goes_backwards_is_no_place_for_what_it_shows():
    """A gradient may be such a view; what is joined has its numbers in another order."""

    def function(x):
        return [xp.concat([xp.exp(x)[::-1], x * 2.0])]

    plan, (x,) = _planned(function, [1.0, 2.0, 3.0])
    plan.run()
    np.testing.assert_array_equal(plan.outputs[0], np.concatenate([np.exp(x)[::-1], x * 2.0]))


def test_vectors_of_two_dtypes_are_joined_in_the_wider_one():
    x, y = np.asarray([0.1, 0.2], "float32"), np.asarray([0.3, 0.4])
    plan, _ = _planned(lambda x, y: [xp.concat([x * 2.0, y * 2.0])], x, y)
    plan.run()
    np.testing.assert_array_equal(plan.outputs[0], np.concatenate([x * np.float32(2.0), y * 2.0]))


def test_an_argument_that_is_written_over_is_not_handed_back_too_late():
    """The slot would take the updated parameters."""
    net, opt = ap.MLP([3, 2]), Remembering(lr=0.1)
    step = ap.make_step(net, ap.SoftmaxCrossEntropy(), opt)
    params = net.init(seed=0)
    x, t = np.ones((5, 3), dtype=np.float32), np.asarray([0, 1, 0, 1, 1])
    wanted, state, _ = step(params, opt.init(params), x, t)
    with pytest.warns(RuntimeWarning, match="returns an argument in another place"):
        ours, after, _ = ap.compile(step)(params.copy(), opt.init(params), x, t)
    np.testing.assert_array_equal(ours.flat, wanted.flat)
    np.testing.assert_array_equal(after.slots["before"].flat, state.slots["before"].flat)


def _batches():
    x, wide = np.ones((2, 3), np.float32), np.ones((2, 3))
    return {
        "all": {"x": x, "t": wide, "noise": None},
        "other numbers": {"x": x + 1, "t": wide + 1, "noise": None},
        "other dtypes": {"x": wide, "t": wide, "noise": None},
        "other shape": {"x": x[:1], "t": wide, "noise": None},
        "other names": {"x": x, "y": wide, "noise": None},
        "other order": {"t": wide, "x": x, "noise": None},
        "another": {"x": x, "t": wide, "noise": wide},
        "one less": {"x": x, "t": wide},
        "other type": {"x": np.ma.masked_array(x), "t": wide, "noise": None},
        "nested": {"x": x, "t": wide, "noise": {"0": None, "1": [wide, x]}},
        "nested otherwise": {"x": x, "t": wide, "noise": {"0": None, "1": [wide]}},
        "nested deeper": {"x": x, "t": wide, "noise": {"0": None, "1": [[wide, x]]}},
        "nested nothing": {"x": x, "t": wide, "noise": {}},
        "parts": [{"x": x, "t": wide, "noise": None}],
        "two parts": [{"x": x, "t": wide, "noise": None}, {"x": x, "t": wide, "noise": None}],
        "no parts": [],
    }


@pytest.mark.parametrize("name", _batches())
def test_a_batch_is_listed_by_what_lists_its_like_and_no_other(name):
    batch = _batches()[name]
    _, kinds = taken_apart(batch)
    arrays_of = lister(batch)
    for other in _batches().values():
        others, other_kinds = taken_apart(other)
        found = arrays_of(other)
        if other_kinds == kinds:
            assert [*map(id, found)] == [*map(id, others)]
        else:
            assert found is None
