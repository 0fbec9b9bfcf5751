"""A step that `torch.compile` compiles does what the step does, in one graph for each shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import anyprop as ap
from anyprop.distributed import SerialCommunicator, make_data_parallel_step
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from ranks import on_ranks

needs_torch = pytest.mark.needs("torch")

LOSS = ap.SoftmaxCrossEntropy()
NETWORKS = {
    "plain": ap.MLP([4, 8, 8, 3]),
    "dropout and batch norm": ap.MLP([4, 8, 8, 3], "gelu", norm="batch", dropout=0.2),
    "residual": ap.MLP([4, 8, 8, 3], "elu", norm="layer", residual=True),
}
OPTIMIZERS = {
    "cosine": ap.Adam(ap.schedules.Cosine(0.02, 20)),
    "any function": ap.SGD(lambda k: 0.5 / (k + 1), weight_decay=0.1),
    "changing its form": ap.RAdam(0.02, weight_decay=0.1, decay_biases=False),
    "clipped": ap.RMSProp(0.01, momentum=0.5, centered=True, clip_global_norm=0.1),
}
PAIRS = [
    ("plain", "changing its form"),
    ("plain", "any function"),
    ("dropout and batch norm", "cosine"),
    ("dropout and batch norm", "clipped"),
    ("residual", "cosine"),
]


def _start(net, opt, dtype="float32"):
    params = net.init(8, xp="torch", dtype=dtype)
    return params, opt.init(params)


def _batch(net, params, rng, n=6):
    xp = params.xp
    x = rng.standard_normal((n, 4)).astype(str(params.flat.dtype).removeprefix("torch."))
    noise = noise_beside(params, net.noise(rng, x.shape))
    t = ap.from_host(rng.integers(0, 3, n), xp)
    return {"x": ap.from_host(x, xp), "t": t, "noise": noise}


def _assert_equal(ours, theirs, tolerance=1e-6):
    (p, s, value), (q, r, expected) = ours, theirs
    pairs = [(value, expected), (p.flat, q.flat)]
    pairs += [(s.slots[name].flat, slot.flat) for name, slot in r.slots.items()]
    pairs += [] if q.running is None else [(p.running, q.running)]
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_allclose(ap.to_host(a), ap.to_host(b), rtol=tolerance, atol=tolerance)
    assert s.step == r.step


@pytest.fixture
def graphs():
    """Return the function that counts the graphs that PyTorch has compiled since."""
    from torch._dynamo.utils import counters

    counters.clear()

    def count():
        assert not counters["graph_break"]
        assert not counters["recompiles"]
        return counters["stats"]["unique_graphs"]

    return count


@needs_torch
@pytest.mark.parametrize(("network", "optimizer"), PAIRS)
def test_equal_to_the_step_in_one_graph_for_each_shape(network, optimizer, graphs, rng):
    net, opt = NETWORKS[network], OPTIMIZERS[optimizer]
    step = ap.make_step(net, LOSS, opt)
    compiled = ap.compile(step, torch_backend="eager")
    ours, theirs = _start(net, opt), _start(net, opt)
    for i in range(20):
        batch = _batch(net, ours[0], rng, n=4 if i % 5 == 4 else 6)
        ours, theirs = compiled(*ours[:2], **batch), step(*theirs[:2], **batch)
        _assert_equal(ours, theirs)
    assert graphs() == 2


@needs_torch
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of PyTorch's own
def test_inductor(graphs, rng):
    net, opt = NETWORKS["dropout and batch norm"], OPTIMIZERS["cosine"]
    step = ap.make_step(net, LOSS, opt)
    compiled = ap.compile(step, torch_backend="inductor")
    ours, theirs = _start(net, opt), _start(net, opt)
    for _ in range(3):
        batch = _batch(net, ours[0], rng)
        ours, theirs = compiled(*ours[:2], **batch), step(*theirs[:2], **batch)
        _assert_equal(ours, theirs, 1e-5)
    assert graphs() == 1


@dataclass(frozen=True)
class Remembering(ap.SGD):
    """SGD that keeps the last two parameters, so that results are what was in each other's places."""

    def slots(self):
        return {"last": 0.0, "before": 0.0}

    def rule(self, xp):
        return lambda p, g, last, before, lr: (p - lr * g, p, last)


@needs_torch
def test_parameters_and_state_stay_where_they_are(rng):
    net, opt = NETWORKS["dropout and batch norm"], Remembering()
    step = ap.make_step(net, LOSS, opt)
    compiled = ap.compile(step, torch_backend="eager")
    ours, theirs = _start(net, opt), _start(net, opt)

    def places(params, state, *_):
        tensors = [params.flat, params.running, *(slot.flat for slot in state.slots.values())]
        return [tensor.data_ptr() for tensor in tensors]

    before = places(*ours)
    for _ in range(3):
        batch = _batch(net, ours[0], rng)
        ours, theirs = compiled(*ours[:2], **batch), step(*theirs[:2], **batch)
        _assert_equal(ours, theirs)
    assert places(*ours) == before


@needs_torch
def test_a_learning_rate_in_a_tensor_is_read_at_each_step(graphs, rng):
    import torch

    net, lr = NETWORKS["plain"], torch.tensor(0.1, dtype=torch.float64)
    step = ap.make_step(net, LOSS, ap.Momentum(lr))
    compiled = ap.compile(step, torch_backend="eager")
    ours, theirs = _start(net, ap.Momentum(lr)), _start(net, ap.Momentum(lr))
    for _ in range(4):
        lr.mul_(0.5)
        batch = _batch(net, ours[0], rng)
        ours, theirs = compiled(*ours[:2], **batch), step(*theirs[:2], **batch)
        _assert_equal(ours, theirs)
    assert graphs() == 1


@needs_torch
def test_weights_of_rows_and_float64(rng):
    net, opt = NETWORKS["plain"], ap.Adam()
    step = ap.make_step(net, LOSS, opt, accumulate=2)
    compiled = ap.compile(step, torch_backend="eager")
    params, state = _start(net, opt, "float64")
    batch = _batch(net, params, rng)
    batch["sample_weight"] = ap.from_host(rng.random(6), params.xp)
    expected = step(params, state, **batch)
    _assert_equal(compiled(params, state, **batch), expected, 1e-12)


@needs_torch
def test_no_gradients_are_recorded(rng):
    net, opt = NETWORKS["plain"], ap.SGD()
    params, state = _start(net, opt)
    params.flat.requires_grad_()
    compiled = ap.compile(ap.make_step(net, LOSS, opt), torch_backend="eager")
    params, _, value = compiled(params, state, **_batch(net, params, rng))
    assert not params.flat.requires_grad
    assert not value.requires_grad


@needs_torch
def test_wrong_batches_raise_what_the_step_raises(rng):
    net, opt = NETWORKS["plain"], ap.SGD()
    params, state = _start(net, opt)
    step, given = ap.make_step(net, LOSS, opt), _batch(net, params, rng)
    compiled = ap.compile(step, torch_backend="eager")
    for wrong, error in (
        ({"x": given["x"].double()}, TypeError),
        ({"x": given["x"].numpy()}, TypeError),
        ({"x": given["x"][:, :3]}, ValueError),
        ({"t": given["t"][:3]}, ValueError),
    ):
        with pytest.raises(error) as eager:
            step(params, state, **(given | wrong))
        with pytest.raises(error) as ours:
            compiled(params, state, **(given | wrong))
        assert str(ours.value) == str(eager.value)


@dataclass(frozen=True)
class Peeking(Layer):
    """A layer that looks at a number, which no graph can."""

    def forward(self, params, x):
        return (x if float(x[0, 0]) > 0 else 2.0 * x), None

    def backward(self, params, residuals, dy):
        return dy, {}


@needs_torch
def test_what_cannot_be_traced_runs_as_it_is_with_one_warning(rng):
    net, opt = ap.Sequential(ap.Affine(4, 3), Peeking()), ap.SGD()
    step = ap.make_step(net, LOSS, opt)
    compiled = ap.compile(step, torch_backend="eager")
    params, state = _start(net, opt)
    batch = _batch(net, params, rng)
    with pytest.warns(RuntimeWarning, match="uncompiled: PyTorch cannot trace it"):
        ours = compiled(params, state, **batch)
    _assert_equal(ours, step(params, state, **batch), 0.0)
    compiled(params, state, **batch)


@needs_torch
def test_fit(graphs, rng):
    net = NETWORKS["dropout and batch norm"]
    params, _ = _start(net, ap.Adam())
    batch = _batch(net, params, rng, n=10)

    def fitted(**how):
        return ap.fit(
            *(net, params, (batch["x"], batch["t"])),
            loss=LOSS,
            optimizer=ap.Adam(),
            epochs=2,
            batch_size=4,
            **how,
        )

    given = params.copy()
    ours, theirs = fitted(torch_backend="eager"), fitted(compile=False)
    assert graphs() == 2
    np.testing.assert_array_equal(params.flat, given.flat)
    np.testing.assert_allclose(ours.history.losses, theirs.history.losses, rtol=1e-6)
    np.testing.assert_allclose(ours.params.flat, theirs.params.flat, rtol=1e-6, atol=1e-7)


@needs_torch
def test_an_unknown_backend(rng):
    net, opt = NETWORKS["plain"], ap.SGD()
    params, state = _start(net, opt)
    batch = _batch(net, params, rng)
    compiled = ap.compile(ap.make_step(net, LOSS, opt), torch_backend="inducter")
    with pytest.raises(ValueError, match=r"torch.compile 'inducter'; did you mean 'inductor'\?"):
        compiled(params, state, **batch)
    with pytest.raises(ValueError, match="did you mean 'inductor'"):
        ap.fit(
            *(net, params, (batch["x"], batch["t"])),
            loss=LOSS,
            optimizer=opt,
            torch_backend="inducter",
        )


def test_other_arrays_are_refused(rng):
    net, opt = NETWORKS["plain"], ap.SGD()
    params = net.init(8)
    x, t = rng.random((6, 4), dtype=np.float32), rng.integers(0, 3, 6)
    compiled = ap.compile(ap.make_step(net, LOSS, opt), torch_backend="inductor")
    with pytest.raises(ValueError, match="for PyTorch arrays, but the parameters are numpy's"):
        compiled(params, opt.init(params), x, t)
    with pytest.raises(ValueError, match="for PyTorch arrays, but the parameters are numpy's"):
        ap.fit(net, params, (x, t), loss=LOSS, optimizer=opt, torch_backend="inductor")


def test_a_step_of_several_ranks_is_refused():
    step = make_data_parallel_step(NETWORKS["plain"], LOSS, ap.SGD(), SerialCommunicator())
    with pytest.raises(TypeError, match="'inductor' is for a step of one process; leave it out"):
        ap.compile(step, torch_backend="inductor")


@needs_torch
def test_a_run_of_several_ranks_is_refused(rng):
    net, opt = NETWORKS["plain"], ap.SGD()
    params, _ = _start(net, opt)
    batch = _batch(net, params, rng)

    def train(communicator):
        with pytest.raises(ValueError, match="'inductor' is for one process; leave it out"):
            ap.fit(
                *(net, params, (batch["x"], batch["t"])),
                **{"loss": LOSS, "optimizer": opt, "communicator": communicator},
                torch_backend="inductor",
            )
        return communicator.rank

    assert on_ranks(2, train) == [0, 1]
