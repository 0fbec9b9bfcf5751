"""MLP, and the loss and gradient of networks and of single layers."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from anyprop.network import noise_beside
from anyprop.parameters import Parameters
from anyprop.testing.layer_cases import LAYER_CASES
from anyprop.testing.loss_cases import LOSS_CASES
from arrays import assert_beside, other_backends_array

# MLP


def test_an_mlp_without_options_is_affine_and_activation():
    net = ap.MLP([784, 200, 200, 10])
    assert net == ap.Sequential(
        ap.Affine(784, 200), ap.ReLU(), ap.Affine(200, 200), ap.ReLU(), ap.Affine(200, 10)
    )
    assert list(net.specs()) == ["0.W", "0.b", "2.W", "2.b", "4.W", "4.b"]


def test_an_mlp_without_hidden_units_is_one_affine():
    assert ap.MLP([3, 2], "tanh", norm="batch", dropout=0.5, residual=True) == ap.Sequential(
        ap.Affine(3, 2)
    )


def test_every_option_adds_its_layer_in_order():
    assert ap.MLP([3, 4, 2], "gelu", norm="batch", dropout=0.2) == ap.Sequential(
        ap.Affine(3, 4, bias=False), ap.BatchNorm(4), ap.GELU(), ap.Dropout(0.2), ap.Affine(4, 2)
    )
    assert ap.MLP([3, 4, 2], "leaky_relu", norm="layer") == ap.Sequential(
        ap.Affine(3, 4), ap.LayerNorm(4), ap.LeakyReLU(), ap.Affine(4, 2)
    )


def test_residual_wraps_the_hidden_blocks_that_keep_the_width():
    net = ap.MLP([4, 4, 3, 3, 3], residual=True, norm="batch", dropout=0.1)

    def block(d, m):
        return ap.Affine(d, m, bias=False), ap.BatchNorm(m), ap.ReLU(), ap.Dropout(0.1)

    assert net == ap.Sequential(
        ap.Residual(ap.Sequential(*block(4, 4))),
        *block(4, 3),
        ap.Residual(ap.Sequential(*block(3, 3))),
        ap.Affine(3, 3),
    )
    assert "5.1.gamma" in net.specs()


def test_sizes_may_be_any_sequence_of_whole_numbers():
    assert ap.MLP(np.asarray([3, 4, 2])) == ap.MLP((3, 4, 2)) == ap.MLP([3, 4, 2])


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (([3],), {}, ValueError, "an input and an output width"),
        (([],), {}, ValueError, "an input and an output width"),
        ((3,), {}, TypeError, "must be a sequence"),
        (("32",), {}, TypeError, "sizes must be a sequence"),
        ((list,), {}, TypeError, "sizes must be a sequence"),
        (([3, 0, 2],), {}, ValueError, r"sizes\[1\] must be a whole number of at least 1, not 0"),
        (([3, -4, 2],), {}, ValueError, "at least 1, not -4"),
        (([3, 4.0, 2],), {}, TypeError, r"whole number, not 4\.0"),
        (([3, True],), {}, ValueError, "whole number"),
        (([3, 2], "rleu"), {}, ValueError, "unknown activation 'rleu'; did you mean 'relu'"),
        (([3, 2], None), {}, TypeError, "activation must be a name such as .relu., not None"),
        (([3, 2],), {"norm": "bach"}, ValueError, "unknown norm 'bach'; did you mean 'batch'"),
        (([3, 2],), {"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
        (([3, 2],), {"dropout": "much"}, TypeError, "dropout must be a number"),
        (([3, 3, 2],), {"residual": "no"}, TypeError, "residual must be True or False, not 'no'"),
    ],
)
def test_wrong_mlps_are_refused(args, options, error, message):
    with pytest.raises(error, match=message):
        ap.MLP(*args, **options)


# value_and_grad


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_the_gradient_of_any_layer_is_laid_out_as_its_parameters(case, backend, rng):
    params, x = case.params(backend), backend.asarray(case.x(rng))
    noise = noise_beside(params, case.layer.noise(rng, tuple(x.shape)))
    t = backend.asarray(rng.standard_normal(case.layer.output_shape(tuple(x.shape))))
    compute = ap.value_and_grad(case.layer, ap.MeanSquaredError(), running=True)
    value, grads, running = compute(params, x, t, noise=noise)
    assert tuple(value.shape) == ()
    assert isinstance(grads, Parameters)
    assert grads.layout == params.layout
    assert tuple(grads.flat.shape) == tuple(params.flat.shape)
    assert_beside(grads.flat, params.flat)
    assert grads.running is None
    assert (running is None) == (params.running is None)
    if params.running is not None:
        assert tuple(running.shape) == tuple(params.running.shape)
        moved = backend.to_numpy(running) != backend.to_numpy(params.running)
        assert moved.any() == ("momentum=0.0" not in repr(case.layer))


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_running_statistics_cannot_be_forgotten(case):
    """Without them a loop would train, and the network would predict by the statistics of its start."""
    if case.layer.init().running is None:
        assert callable(ap.value_and_grad(case.layer, ap.MeanSquaredError()))
        return
    with pytest.raises(ValueError, match=r"give running=True.* params.replace\(running=running\)"):
        ap.value_and_grad(case.layer, ap.MeanSquaredError())


class _Around(ap.Layer):
    """A container that forgets the running statistics of the layer inside."""

    inside = ap.BatchNorm(4)

    def children(self):
        return {"inside.": self.inside}

    def forward(self, params, x):
        return self.inside.forward(params.inside, x)

    def forward_train(self, params, x, noise):
        return self.inside.forward_train(params.inside, x, noise)

    def backward(self, params, residuals, dy):
        dx, grads = self.inside.backward(params.inside, residuals, dy)
        return dx, {f"inside.{name}": grad for name, grad in grads.items()}


def test_a_container_that_forgets_running_statistics_is_told():
    net, x = _Around(), np.ones((5, 4), dtype=np.float32)
    compute = ap.value_and_grad(net, ap.MeanSquaredError(), running=True)
    with pytest.raises(ValueError, match=r"of _Around lacks inside.mean, inside.var; .*theirs"):
        compute(net.init(), x, x)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_layer_without_one_of_its_passes_names_it(method):
    arguments = {"forward": (None, None), "backward": (None, None, None)}[method]
    with pytest.raises(NotImplementedError, match=f"Half must define {method}"):
        getattr(type("Half", (ap.Layer,), {})(), method)(*arguments)


def test_a_loop_of_ones_own_trains_a_batch_norm_as_a_step_does(backend, rng):
    net, loss, optimizer = ap.MLP([3, 5, 2], norm="batch"), ap.SoftmaxCrossEntropy(), ap.Adam()
    ours = theirs = net.init(8, dtype="float64", xp=backend.xp, device=backend.device)
    state = their_state = optimizer.init(ours)
    compute, step = ap.value_and_grad(net, loss, running=True), ap.make_step(net, loss, optimizer)
    for _ in range(3):
        x = backend.asarray(rng.standard_normal((6, 3)))
        t = backend.asarray(rng.integers(0, 2, 6))
        _, grads, running = compute(ours, x, t)
        ours, state = optimizer.update(ours, grads, state)
        ours = ours.replace(running=running)
        theirs, their_state, _ = step(theirs, their_state, x, t)
    for a, b in ((ours.flat, theirs.flat), (ours.running, theirs.running)):
        np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_the_gradient_is_that_of_central_differences(case, rng):
    report = ap.gradcheck(case.layer, case.x(rng), loss=ap.MeanSquaredError())
    assert report.worst.error < 1e-8


@pytest.mark.parametrize("case", LOSS_CASES, ids=str)
def test_every_loss_ends_a_network(case, rng):
    report = ap.gradcheck(ap.MLP([3, 5, 4], "tanh"), loss=case.loss, t=case.t(rng, 4, 4))
    assert report.worst.error < 1e-8


def test_weights_reach_the_loss(rng):
    net, loss = ap.MLP([3, 4, 2]), ap.SoftmaxCrossEntropy()
    params, x = net.init(8, dtype="float64"), rng.standard_normal((4, 3))
    t, keep = np.asarray([0, 1, 1, 0]), np.asarray([True, False, True, True])
    compute = ap.value_and_grad(net, loss)
    value, grads = compute(params, x, t, sample_weight=keep.astype("float64"))
    expected, expected_grads = compute(params, x[keep], t[keep])
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(grads.flat, expected_grads.flat, rtol=1e-12, atol=1e-15)


def test_arrays_that_do_not_belong_together_are_refused(backend, rng):
    net = ap.MLP([3, 2])
    compute = ap.value_and_grad(net, ap.SoftmaxCrossEntropy())
    params = net.init(8, xp=backend.xp, device=backend.device)
    x, t = rng.standard_normal((4, 3)).astype("float32"), np.asarray([0, 1, 1, 0])
    with pytest.raises(TypeError, match=r"params belongs to .*, but x to"):
        compute(params, other_backends_array(backend, x), backend.asarray(t))
    with pytest.raises(TypeError, match=r"params belongs to .*, but t to"):
        compute(params, backend.asarray(x), other_backends_array(backend, t))
    with pytest.raises(TypeError, match="x is float64, but the parameters are float32"):
        compute(params, backend.asarray(x, "float64"), backend.asarray(t))


def test_a_network_that_needs_noise_says_so(rng):
    net = ap.MLP([3, 4, 2], dropout=0.5)
    compute = ap.value_and_grad(net, ap.MeanSquaredError())
    params, x, t = net.init(dtype="float64"), rng.standard_normal((4, 3)), np.zeros((4, 2))
    with pytest.raises(ValueError, match="Dropout trains with a mask"):
        compute(params, x, t)
    with pytest.raises(ValueError, match="the mask has shape"):
        compute(params, x, t, noise=net.noise(rng, (5, 3)))
    for noise in (net.noise(rng, (4, 3))[:-1], np.ones((4, 4), dtype=bool)):
        with pytest.raises(ValueError, match="one entry for each of 4 layers"):
            compute(params, x, t, noise=noise)
    for nothing in ((), [None] * 4):
        with pytest.raises(ValueError, match="one entry for each of 4 layers"):
            compute(params, x, t, noise=nothing)
