"""Sequential and Residual: what fits together, and what the names are."""

from __future__ import annotations

import platform
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import to_host


def test_names_pass_through_a_residual_unchanged():
    block = ap.Sequential(ap.Affine(4, 3), ap.ReLU(), ap.Affine(3, 4))
    assert ap.Residual(block).specs() == block.specs()
    net = ap.Sequential(ap.ReLU(), ap.Tanh(), ap.Residual(block))
    assert list(net.specs()) == ["2.0.W", "2.0.b", "2.2.W", "2.2.b"]
    params = net.init(8)
    assert params["2.0.W"].shape == params[2][0].W.shape == (4, 3)


def test_a_residual_knows_its_width():
    assert ap.Residual(ap.Affine(4, 4)).width_in == 4
    assert ap.Residual(ap.Sequential(ap.ReLU(), ap.BatchNorm(3))).width_in == 3
    assert ap.Residual(ap.ReLU()).width_in is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: ap.Residual(ap.Affine(4, 3)),
        lambda: ap.Residual(ap.Sequential(ap.ReLU(), ap.Affine(4, 3))),
        lambda: ap.Residual(ap.MLP([4, 8, 3])),
    ],
)
def test_a_residual_refuses_a_block_that_changes_the_width(make):
    with pytest.raises(ValueError, match="makes rows of 3 numbers out of rows of 4"):
        make()


def test_a_residual_of_any_width_notices_at_its_first_forward(backend):
    class FirstColumn(ap.Identity):
        def forward(self, params, x):
            return x[:, :1], x.shape

    layer, x = ap.Residual(FirstColumn()), backend.asarray(np.ones((2, 3)))
    for forward in (layer.forward, lambda p, x: layer.forward_train(p, x, None)):
        with pytest.raises(ValueError, match=r"block\(x\) has shape \(2, 1\), expected \(2, 3\)"):
            forward(layer.init(), x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ap.Sequential(), ValueError, r"^Sequential needs at least one layer\.$"),
        (lambda: ap.Sequential(ap.ReLU), TypeError, "forget the"),
        (lambda: ap.Sequential([ap.ReLU()]), TypeError, "takes layers"),
        (lambda: ap.Residual(ap.ReLU), TypeError, "forget the"),
        (lambda: ap.Sequential(ap.Affine(3, 4), ap.ReLU(), ap.Affine(3, 2)), ValueError,
         r"layer 2, Affine\(d=3, m=2, bias=True\), takes rows of 3 numbers.* give 4"),
        (lambda: ap.Sequential(ap.Affine(3, 4), ap.MLP([3, 2])), ValueError, "layer 1"),
        (lambda: ap.Sequential(ap.MLP([3, 2]), ap.BatchNorm(3)), ValueError, "give 2"),
        (lambda: ap.Sequential(ap.Affine(3, 4), ap.Residual(ap.LayerNorm(3))), ValueError,
         "layer 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_first_layers_dx_is_not_computed_when_nobody_needs_it():
    class Counting(ap.Affine):
        calls = 0

        def backward(self, params, residuals, dy):
            type(self).calls += 1
            return super().backward(params, residuals, dy)

    net = ap.Sequential(ap.Tanh(), ap.Sequential(Counting(3, 2), ap.ReLU()), ap.Affine(2, 2))
    params = net.init(8)
    y, residuals = net.forward(params, np.ones((4, 3), dtype="float32"))
    net.backward_params(params, residuals, np.ones_like(y))
    assert Counting.calls == 0
    net.backward(params, residuals, np.ones_like(y))
    assert Counting.calls == 1


def test_gradients_are_put_in_the_order_of_the_parameters_and_checked():
    class Shuffled(ap.Affine):
        def backward_params(self, params, residuals, dy):
            return dict(reversed(super().backward_params(params, residuals, dy).items()))

    class Transposed(ap.Affine):
        def backward_params(self, params, residuals, dy):
            return {"W": residuals.T @ dy, "b": dy}

    class Forgetful(ap.Affine):
        def backward_params(self, params, residuals, dy):
            return {"W": residuals.T @ dy}

    x, dy = np.ones((4, 3), dtype="float32"), np.ones((4, 2), dtype="float32")

    def gradient(layer):
        net = ap.Sequential(ap.Sequential(layer))
        params = net.init(8)
        return net.backward(params, net.forward(params, x)[1], dy)[1].flat

    np.testing.assert_array_equal(gradient(Shuffled(3, 2)), gradient(ap.Affine(3, 2)))
    with pytest.raises(ValueError, match=r"gradient of b has shape \(4, 2\), expected \(2,\)"):
        gradient(Transposed(3, 2))
    with pytest.raises(ValueError, match="no gradient for the parameter 'b'"):
        gradient(Forgetful(3, 2))


def test_layers_of_one_sequential_are_independent_even_if_they_are_one_object():
    layer = ap.Affine(3, 3)
    params = ap.Sequential(layer, layer).init(8)
    assert not np.array_equal(params[0].W, params[1].W)


def test_noise_for_another_number_of_layers_is_refused(rng):
    net, x = ap.Sequential(ap.Tanh(), ap.Dropout(0.5)), np.ones((2, 3))
    whole = net.noise(rng, x.shape)
    for noise in (whole[:1], list(whole)):
        with pytest.raises(ValueError, match=r"for each of 2 layers; draw it by noise\(rng"):
            net.forward_train(net.init(), x, noise)


def test_a_notebook_shows_the_table():
    net, shown = ap.MLP([4, 8, 3]), []
    net._repr_pretty_(SimpleNamespace(text=shown.append), cycle=False)
    assert shown == [str(net)]


def test_a_width_that_is_not_known_yet_is_not_asked_about():
    class Twice(ap.Identity):
        def output_shape(self, shape):
            return (shape[0], 2 * shape[1])

    assert ap.Sequential(Twice(), ap.Affine(4, 3)).width_in == 4


def test_layers_without_running_statistics_have_no_vector_of_them():
    assert ap.Affine(2, 3).init(0).running is None
    assert ap.BatchNorm(3).init(0).running is not None


@pytest.mark.parametrize("sizes", [(0, 3), (2.5, 3), (3, 0), (3, 2.5)])
def test_an_affine_map_refuses_widths_that_are_no_counts(sizes):
    with pytest.raises((TypeError, ValueError), match="Affine: [dm] must be"):
        ap.Affine(*sizes)


NETS = {
    "activations": lambda: ap.Sequential(ap.Tanh(), ap.Affine(4, 4, bias=False), ap.Identity()),
    "norms": lambda: ap.MLP([4, 6, 6, 4], norm="batch", dropout=0.5, residual=True),
    "residual": lambda: ap.Residual(ap.Sequential(ap.Identity(), ap.MLP([4, 5, 4], "gelu"))),
    "nested": lambda: ap.Sequential(ap.Sequential(ap.Affine(4, 5), ap.ReLU()), ap.Affine(5, 4)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_call_is_the_forward_pass_without_what_that_keeps(backend, rng, name):
    net = NETS[name]()
    params = net.init(3, xp=backend.xp, device=backend.device)
    x = backend.asarray(rng.standard_normal((7, 4), dtype="float32"))
    before = to_host(x).copy(), to_host(params.flat).copy()
    y = net(params, x)
    assert np.array_equal(to_host(y), to_host(net.forward(params, x)[0]))
    after = to_host(x), to_host(params.flat)
    assert all(map(np.array_equal, before, after))


def test_a_call_holds_few_arrays_at_a_time():
    net = ap.MLP([100] * 21, "tanh")
    params, x = net.init(), np.ones((1000, 100), dtype="float32")
    net(params, x)
    tracemalloc.start()
    try:
        net(params, x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * x.nbytes


@pytest.mark.skipif(not platform.libc_ver()[0].startswith("glibc"), reason="glibc's own way")
@pytest.mark.parametrize(
    "computed", ["ap.predict(net, params, x, batch_size=4096)", "f(params, x, t)"]
)
def test_memory_that_is_freed_is_used_again(computed):
    """In a process that has freed nothing large, each batch would ask the system for all pages anew."""
    program = f"""
import resource
import numpy as np, anyprop as ap
net = ap.MLP([4, 256, 1])
params, x, t = net.init(), np.ones((4096, 4), "float32"), np.ones((4096, 1), "float32")
f = ap.value_and_grad(net, ap.MeanSquaredError())
def faults():
    {computed}
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults(), faults()
print(-faults() + faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(done.stdout) < 500  # 1,251 otherwise


@pytest.mark.parametrize("base", [ap.Sequential, ap.Residual])
def test_a_class_derived_from_a_container_is_called_by_its_own_forward(base):
    class Halved(base):
        def forward(self, params, x):
            y, residuals = super().forward(params, x)
            return 0.5 * y, residuals

    net, x = Halved(ap.ReLU()), np.asarray([[2.0, -4.0]])
    params = net.init()
    assert np.array_equal(net(params, x), net.forward(params, x)[0])
    assert np.array_equal(ap.predict(net, net.init(dtype="float64"), x), net(params, x))
