"""Long vectors are updated in pieces, and the numbers are those of an update at once, bit for bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import anyprop as ap
from anyprop.layout import Layout, Spec
from anyprop.optimizers import pieces
from anyprop.parameters import Parameters
from anyprop.testing.optimizer_cases import OPTIMIZER_CASES

LAYOUT = Layout.of({"W": Spec((5, 9)), "b": Spec((5,), 0.0)})
SIZE = LAYOUT.size()


@pytest.fixture
def cut(monkeypatch):
    """Pieces of seven numbers; return the lengths of all that are updated."""
    monkeypatch.setattr(pieces, "PIECE", 7)
    monkeypatch.setattr(pieces, "LONG", SIZE - 1)
    lengths, whole = [], pieces.in_pieces

    def counted(update: Any, *args: Any, **options: Any) -> Any:
        def of_piece(p: Any, *rest: Any) -> Any:
            lengths.append(p.shape[0])
            return update(p, *rest)

        return whole(of_piece, *args, **options)

    monkeypatch.setattr("anyprop.optimizers.base.in_pieces", counted)
    return lengths


def vectors(backend, count, dtype="float32"):
    rng = np.random.default_rng(8)
    return [
        Parameters(LAYOUT, backend.asarray(rng.standard_normal(SIZE), dtype)) for _ in range(count)
    ]


def after(backend, opt, update, steps=3):
    """Return the numbers of parameters and slots after some updates by a function."""
    params, *grads = vectors(backend, 1 + steps)
    state = opt.init(params)
    for g in grads:
        params, state = update(params, g, state)
    return [backend.to_numpy(kept.flat) for kept in (params, *state.slots.values())]


VARIANTS = {
    **OPTIMIZER_CASES,
    "decay of all": ap.Adam(weight_decay=0.1),
    "decay of matrices": ap.AdamW(weight_decay=0.1, decay_biases=False),
    "clipped entries": ap.RMSProp(clip_value=0.1),
}


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("opt", VARIANTS.values(), ids=VARIANTS)
def test_the_numbers_are_those_of_an_update_at_once(backend, opt, donate, cut):
    def at_once(params, grads, state):
        slots, mask = state.slots, state.decay_mask
        params, slots = opt.apply(params, grads, slots, mask, opt.numbers(state))
        return params, state._replace(step=state.step + 1, slots=slots)

    def in_pieces(params, grads, state):
        return opt.update(params, grads, state, donate=donate)

    ours, theirs = after(backend, opt, in_pieces), after(backend, opt, at_once)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert cut == ([7] * 7 + [1]) * 3 * (backend.name in ("numpy", "torch"))


@pytest.mark.parametrize("option", ["clip_norm", "clip_global_norm"])
def test_a_norm_is_that_of_the_whole_gradient(backend, option, cut):
    opt = ap.SGD(lr=1.0, **{option: 0.5})
    params, grads = vectors(backend, 2)
    updated, _ = opt.update(params, grads, opt.init(params))
    step = backend.to_numpy(params.flat) - backend.to_numpy(updated.flat)
    parts = [step] if option == "clip_global_norm" else np.split(step, [45])
    np.testing.assert_allclose([np.linalg.norm(part) for part in parts], 0.5, rtol=1e-5)
    assert cut == []


def test_results_are_in_the_buffers_that_were_donated(backend, cut):
    if not backend.mutable:
        return
    opt = ap.RMSProp()
    params, grads = vectors(backend, 2)
    state = opt.init(params)
    given = [params.flat, state.slots["h"].flat]
    updated, new_state = opt.update(params, grads, state, donate=True)
    for buffer, result in zip(given, (updated.flat, new_state.slots["h"].flat), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(buffer), backend.to_numpy(result))


def test_what_is_not_donated_stays(backend, cut):
    opt = ap.RMSProp()
    params, grads = vectors(backend, 2)
    state = opt.init(params)
    before = backend.to_numpy(params.flat).copy()
    opt.update(params, grads, state)
    np.testing.assert_array_equal(backend.to_numpy(params.flat), before)
    assert not backend.to_numpy(state.slots["h"].flat).any()


@pytest.mark.parametrize("shift", [0, 3])
def test_a_gradient_may_lie_in_the_memory_of_the_parameters(backend, shift, cut):
    """What is stored must not be read as a gradient later."""
    opt = ap.SGD(lr=0.5)
    numbers = np.random.default_rng(8).standard_normal(SIZE + 3)
    memory = backend.asarray(numbers)
    params, grads = (Parameters(LAYOUT, memory[i : i + SIZE]) for i in (3, 3 - shift))
    updated, _ = opt.update(params, grads, opt.init(params), donate=True)
    expected = numbers[3:] - 0.5 * numbers[3 - shift : 3 - shift + SIZE]
    np.testing.assert_array_equal(backend.to_numpy(updated.flat), expected)


def test_running_statistics_stay(backend, cut):
    layout = Layout.of({"W": Spec((SIZE,)), "mean": Spec((2,), 0.0, trainable=False)})
    (given, grads), running = vectors(backend, 2), backend.asarray([1.0, 2.0])
    params = Parameters(layout, given.flat, running)
    opt = ap.SGD()
    updated, _ = opt.update(params, Parameters(layout, grads.flat), opt.init(params))
    assert updated.running is running
    assert bool(cut) == (backend.name in ("numpy", "torch"))


def test_an_optimizer_with_its_own_apply_sees_the_whole(backend, cut):
    @dataclasses.dataclass(frozen=True)
    class OfMatrices(ap.SGD):
        def apply(self, params, grads, slots, mask, numbers):
            assert params.W.shape == (5, 9)
            return super().apply(params, grads, slots, mask, numbers)

    params, grads = vectors(backend, 2)
    opt = OfMatrices()
    opt.update(params, grads, opt.init(params))
    assert cut == []


@pytest.mark.needs("torch")
def test_tensors_that_cannot_be_written_to_stay(cut):
    import torch

    opt = ap.SGD(lr=0.5)
    with torch.inference_mode():
        kept = torch.ones(SIZE)
    repeated = torch.ones(1).expand(SIZE)
    for flat in (kept, repeated):
        params, grads = Parameters(LAYOUT, flat), Parameters(LAYOUT, torch.ones(SIZE))
        updated, _ = opt.update(params, grads, opt.init(params), donate=True)
        assert updated.flat.tolist() == [0.5] * SIZE
        assert flat.tolist() == [1.0] * SIZE
    assert cut
