"""What every layer guarantees, on every backend."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import pytest

import anyprop as ap
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.parameters import Parameters
from anyprop.testing.layer_cases import LAYER_CASES, LayerCase
from anyprop.testing.place import Place
from arrays import assert_beside, other_backends_array, with_gaps

every_layer = pytest.mark.parametrize("case", LAYER_CASES, ids=str)
every_layer_of_fixed_width = pytest.mark.parametrize(
    "case", [c for c in LAYER_CASES if c.layer.width_in], ids=str
)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_modes = pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])


def _forward(case: LayerCase, params: Parameters, x, *, training: bool, seed: int = 3):
    """Run the layer; what it draws depends on the seed alone."""
    if not training:
        return case.layer.forward(params, x)
    noise = case.layer.noise(np.random.default_rng(seed), tuple(x.shape))
    return case.layer.forward_train(params, x, noise_beside(params, noise))


def _named(grads) -> dict:
    return grads.named() if isinstance(grads, Parameters) else dict(grads)


def _trainable(layer: Layer) -> dict:
    return {name: spec.shape for name, spec in layer.specs().items() if spec.trainable}


def _run(case: LayerCase, backend, x, dy, *, training: bool, dtype: str = "float64") -> list:
    """All results of one forward and one backward pass, as NumPy arrays."""
    params = case.params(backend, dtype)
    y, residuals = _forward(case, params, x, training=training)
    dx, grads = case.layer.backward(params, residuals, dy)
    return [backend.to_numpy(a) for a in (y, dx, *_named(grads).values())]


@both_modes
@pytest.mark.parametrize("layer", [ap.Softmax(), ap.BatchNorm(3), ap.LayerNorm(3)], ids=repr)
def test_layers_with_sums_refuse_whole_numbers(layer, training, backend):
    params = layer.init(xp=backend.xp, device=backend.device)
    x = backend.asarray(np.ones((2, 3), "int32"))
    with pytest.raises(TypeError, match="floating dtype, not of int32; cast it to float32"):
        _forward(LayerCase("whole", layer), params, x, training=training)


@both_modes
@both_dtypes
@every_layer
def test_results_lie_beside_the_inputs_and_inputs_stay_as_they_are(
    case, dtype, training, backend, rng
):
    params = case.params(backend, dtype)
    x_host = case.x(rng).astype(dtype)
    x = backend.asarray(x_host)
    flat = backend.to_numpy(params.flat).copy()
    y, residuals = _forward(case, params, x, training=training)
    dy_host = rng.standard_normal(tuple(y.shape)).astype(dtype)
    dy = backend.asarray(dy_host)
    y_host = backend.to_numpy(y).copy()
    dx, grads = case.layer.backward(params, residuals, dy)

    assert tuple(y.shape) == case.layer.output_shape(tuple(x.shape))
    assert tuple(dx.shape) == tuple(x.shape)
    assert_beside(y, x)
    assert_beside(dx, x)
    grads = _named(grads)
    assert {name: tuple(g.shape) for name, g in grads.items()} == _trainable(case.layer)
    assert list(grads) == list(_trainable(case.layer))
    for g in grads.values():
        assert_beside(g, x)
    for array, host in ((x, x_host), (dy, dy_host), (params.flat, flat), (y, y_host)):
        np.testing.assert_array_equal(backend.to_numpy(array), host)


@every_layer
def test_gradients_are_those_of_central_differences(case, backend, rng):
    report = ap.gradcheck(
        case.layer, backend.asarray(case.x(rng)), params=case.params(backend), tol=1e-6
    )
    assert report.checked >= case.x(rng).size


@both_modes
@every_layer
def test_numbers_are_those_of_numpy(case, training, backend, rng):
    x = case.x(rng)
    dy = rng.standard_normal(case.layer.output_shape(x.shape))
    reference = _run(case, Place("numpy"), x, dy, training=training)
    results = _run(case, backend, backend.asarray(x), backend.asarray(dy), training=training)
    for result, expected in zip(results, reference, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


@both_modes
@every_layer
def test_memory_may_have_gaps(case, training, backend, rng):
    x = case.x(rng)
    dy = rng.standard_normal(case.layer.output_shape(x.shape))
    plain = _run(case, backend, backend.asarray(x), backend.asarray(dy), training=training)
    gaps = _run(case, backend, with_gaps(backend, x), with_gaps(backend, dy), training=training)
    for one, other in zip(plain, gaps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@both_modes
@pytest.mark.parametrize("n", [0, 1])
@every_layer
def test_batches_of_no_row_and_of_one_row(case, n, training, backend, rng):
    x = backend.asarray(case.x(rng, n))
    dy = backend.asarray(rng.standard_normal(case.layer.output_shape(tuple(x.shape))))
    y, dx, *grads = _run(case, backend, x, dy, training=training)
    assert y.shape == tuple(dy.shape)
    assert dx.shape == tuple(x.shape)
    for array in (y, dx, *grads):
        assert np.isfinite(array).all()
    if n == 0:
        assert not any(g.any() for g in grads)


@both_modes
@every_layer
def test_a_layer_can_be_used_twice_before_either_backward(case, training, backend, rng):
    params = case.params(backend)
    xs = [backend.asarray(case.x(rng, n)) for n in (5, 3)]
    dys = [
        backend.asarray(rng.standard_normal(case.layer.output_shape(tuple(x.shape)))) for x in xs
    ]
    alone = [_run(case, backend, x, dy, training=training) for x, dy in zip(xs, dys, strict=True)]
    passes = [_forward(case, params, x, training=training) for x in xs]
    for (y, residuals), dy, expected in zip(passes, dys, alone, strict=True):
        dx, grads = case.layer.backward(params, residuals, dy)
        for result, right in zip((y, dx, *_named(grads).values()), expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(result), right)


@both_modes
@every_layer
def test_backward_params_gives_the_gradients_of_backward(case, training, backend, rng):
    params = case.params(backend)
    y, residuals = _forward(case, params, backend.asarray(case.x(rng)), training=training)
    dy = backend.asarray(rng.standard_normal(tuple(y.shape)))
    only = _named(case.layer.backward_params(params, residuals, dy))
    both = _named(case.layer.backward(params, residuals, dy)[1])
    assert list(only) == list(both)
    for name, g in both.items():
        np.testing.assert_array_equal(backend.to_numpy(only[name]), backend.to_numpy(g))


@both_modes
@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1), (-4, 0)], ids=str)
@every_layer
def test_dy_of_another_shape_is_refused(case, change, training, backend, rng):
    params = case.params(backend)
    y, residuals = _forward(case, params, backend.asarray(case.x(rng)), training=training)
    shape = (y.shape[0] + change[0], y.shape[1] + change[1])
    with pytest.raises(ValueError, match=rf"^dy has shape \({shape[0]}, {shape[1]}\), expected "):
        case.layer.backward(params, residuals, backend.asarray(np.ones(shape)))


@both_modes
@pytest.mark.parametrize("shape", [(5, 7), (7,), (2, 5, 7)], ids=str)
@every_layer_of_fixed_width
def test_x_of_another_width_is_refused(case, shape, training, backend):
    params = case.params(backend)
    x = backend.asarray(np.ones(shape))
    with pytest.raises(ValueError, match=rf"^x has shape .*, expected \(N, {case.d}\)"):
        _forward(case, params, x, training=training)


@both_modes
@every_layer
def test_arrays_of_two_namespaces_are_refused(case, training, backend, rng):
    params = case.params(backend)
    x = case.x(rng)
    y, residuals = _forward(case, params, backend.asarray(x), training=training)
    foreign_dy = other_backends_array(backend, np.ones(tuple(y.shape)))
    if not _passes_on(case.layer, training):
        with pytest.raises(TypeError, match="together"):
            case.layer.backward(params, residuals, foreign_dy)
    if params.size or (training and case.layer.noise(rng, x.shape) is not None):
        with pytest.raises(TypeError, match="together"):
            _forward(case, params, other_backends_array(backend, x), training=training)


def _passes_on(layer: Layer, training: bool) -> bool:
    """Whether the layer passes dy on without computing anything with it."""
    return isinstance(layer, ap.Identity) or (isinstance(layer, ap.Dropout) and not training)


@both_modes
@every_layer
def test_large_numbers_neither_overflow_nor_warn(case, training, backend):
    """NumPy's warnings are errors in this suite."""
    x = np.asarray([[1e4, -1e4, 0.0, 1.0], [-1e4] * 4, [1e4] * 4], dtype="float32")
    x = backend.asarray(x[:, : case.d])
    params = case.params(backend, "float32")
    y, residuals = _forward(case, params, x, training=training)
    dy = backend.asarray(np.ones(tuple(y.shape), dtype="float32"))
    dx, grads = case.layer.backward(params, residuals, dy)
    for array in (y, dx, *_named(grads).values()):
        assert np.isfinite(backend.to_numpy(array)).all()


@every_layer
def test_noise_depends_on_its_generator_alone_and_training_on_the_noise(case, backend, rng):
    draw = partial(case.layer.noise, shape=(5, case.d))
    one, same, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    params, x = case.params(backend), backend.asarray(case.x(rng))
    outputs = [
        backend.to_numpy(case.layer.forward_train(params, x, noise_beside(params, noise))[0])
        for noise in (one, same, other)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    drops = "Dropout" in repr(case.layer) and "rate=0.0" not in repr(case.layer)
    assert (one is not None) == ("Dropout" in repr(case.layer))
    assert np.array_equal(outputs[0], outputs[2]) != drops


@both_dtypes
@every_layer
def test_running_statistics_are_returned_and_not_stored(case, dtype, backend, rng):
    params, x = case.params(backend, dtype), backend.asarray(case.x(rng).astype(dtype))
    running = {name: s.shape for name, s in case.layer.specs().items() if not s.trainable}
    before = None if params.running is None else backend.to_numpy(params.running).copy()
    for training in (False, True):
        _, residuals = _forward(case, params, x, training=training)
        updated = case.layer.updated_running(params, residuals)
        assert {name: tuple(a.shape) for name, a in updated.items()} == running
        for name, array in updated.items():
            assert_beside(array, x)
            if not training:
                old = backend.to_numpy(params[name])
                np.testing.assert_array_equal(backend.to_numpy(array), old)
    if before is not None:
        np.testing.assert_array_equal(backend.to_numpy(params.running), before)


@every_layer
def test_a_layer_is_a_value(case):
    """Its text makes an equal one, which is what files and error messages rely on."""
    copy = eval(repr(case.layer), vars(ap))
    assert copy == case.layer
    assert hash(copy) == hash(case.layer)
    assert copy != ap.Affine(99, 99)


@every_layer
def test_every_number_of_a_layer_is_checked(case):
    options = dataclasses.fields(case.layer) if dataclasses.is_dataclass(case.layer) else ()
    for option in options:
        if isinstance(getattr(case.layer, option.name), (bool, int, float)):
            told = f"{type(case.layer).__name__}: {option.name} must"
            with pytest.raises((TypeError, ValueError), match=told):
                dataclasses.replace(case.layer, **{option.name: math.nan})


@pytest.mark.needs("jax")
@every_layer
def test_jax_can_trace_it(case, rng):
    import jax

    backend = Place("jax")
    params, x = case.params(backend), backend.asarray(case.x(rng))
    dy = backend.asarray(rng.standard_normal(case.layer.output_shape(tuple(x.shape))))
    drawn = case.layer.noise(rng, tuple(x.shape))
    noise = noise_beside(params, drawn)

    def both(params, x, dy, noise):
        y, residuals = case.layer.forward_train(params, x, noise)
        dx, grads = case.layer.backward(params, residuals, dy)
        return y, dx, _named(grads), dict(case.layer.updated_running(params, residuals))

    eager = jax.tree_util.tree_leaves(both(params, x, dy, noise))
    traced = jax.tree_util.tree_leaves(jax.jit(both)(params, x, dy, noise))
    for one, other in zip(eager, traced, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12, atol=1e-13)


@every_layer
def test_a_layer_around_its_own_children_is_the_same(case):
    layer, children = case.layer, case.layer.children()
    assert layer.with_children(children) == layer
    inside = {
        f"{prefix}{name}": spec
        for prefix, child in children.items()
        for name, spec in child.specs().items()
    }
    assert inside == (layer.specs() if children else {})
    twice = {name: ap.Sequential(child) for name, child in children.items()}
    if children:
        assert list(layer.with_children(twice).children().values()) == list(twice.values())


@every_layer_of_fixed_width
def test_a_layer_refuses_rows_of_another_width(case, backend):
    x = backend.asarray(np.zeros((2, case.layer.width_in + 1)))
    with pytest.raises(ValueError, match=rf"expected \(N, {case.layer.width_in}\)|x has shape"):
        case.layer(case.params(backend), x)


def test_what_has_children_but_cannot_be_made_anew_says_so():
    class Around(Layer):
        def children(self):
            return {"inner.": ap.ReLU()}

    with pytest.raises(NotImplementedError, match="Around has children but no with_children"):
        Around().with_children({"inner.": ap.Tanh()})
