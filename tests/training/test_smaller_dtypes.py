"""x of a dtype that the parameters' holds exactly: the numbers are those of x cast beforehand."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import dtype_name
from anyprop.training.inputs import ArrayInputs
from anyprop.training.pace import ManyAtOnce
from arrays import assert_same_parameters
from ranks import on_ranks

HELD = {
    "float32": ["bool", "uint8", "int8", "uint16", "int16", "float16"],
    "float64": ["int32", "uint32", "float32"],
}
NOT_HELD = ["int32", "uint32", "int64", "uint64", "float64"]
NET = ap.MLP([4, 6, 3], activation="tanh")
LOSS = ap.SoftmaxCrossEntropy()


def whole(dtype, n=30):
    """Return examples of a dtype, and of some that another dtype would wrap or cut off."""
    rng = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        return (rng.standard_normal((n, 4)) / 3).astype(dtype)
    most = 1 if dtype == "bool" else np.iinfo(dtype).max
    return (rng.random((n, 4)) * most).astype(dtype)


T = np.arange(30) % 3


class Given:
    """The same examples of a narrow dtype and cast, beside parameters of a backend."""

    def __init__(self, backend, held="float32", dtype="uint8", net=NET):
        # So that no layer is saturated by numbers of thousands.
        self.net = ap.Sequential(ap.LayerNorm(4), *net.layers)
        self.params = self.net.init(8, xp=backend.xp, dtype=held, device=backend.device)
        x = whole(dtype)
        if not hasattr(backend.xp, dtype):
            pytest.skip(f"{backend.name} has no {dtype}")
        self.narrow = backend.asarray(x)
        self.cast = backend.asarray(x.astype(held))
        self.t = backend.asarray(T)
        self.weight = backend.asarray(np.linspace(0, 2, 30).astype(held))

    def fit(self, x, *, validation=None, **options):
        given = {"loss": LOSS, "optimizer": ap.RMSProp(lr=0.02), "batch_size": 7, "epochs": 2}
        data = (x, self.t)
        return ap.fit(self.net, self.params, data, validation=validation or data, **given | options)

    def assert_alike(self, fit):
        ours, theirs = fit(self.narrow), fit(self.cast)
        assert ours.history.losses == theirs.history.losses
        assert len(ours.history.epochs) == len(theirs.history.epochs)
        for one, other in zip(ours.history.epochs, theirs.history.epochs, strict=True):
            assert one.validation_loss == other.validation_loss
            assert one.validation_accuracy == other.validation_accuracy
        assert_same_parameters(ours.params, theirs.params)


@pytest.mark.parametrize(("held", "dtype"), [(h, d) for h, ds in HELD.items() for d in ds])
def test_a_run_is_that_of_cast_numbers(backend, held, dtype):
    given = Given(backend, held, dtype)
    assert dtype_name(given.narrow) == dtype
    given.assert_alike(given.fit)


OPTIONS = {
    "eager": {"compile": False},
    "in parts": {"accumulate": 3},
    "one step at a time": {"report_every": 1},
    "own batches": {"batches": lambda n, size, epoch: [np.asarray([3, 3, 29]), np.arange(9)]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_however_the_steps_are_done(backend, name):
    given = Given(backend)
    given.assert_alike(lambda x: given.fit(x, **OPTIONS[name]))


@pytest.mark.parametrize("how", [True, False])
def test_with_noise_weights_and_running_statistics(backend, how):
    given = Given(backend, net=ap.MLP([4, 6, 3], norm="batch", dropout=0.5))
    given.assert_alike(lambda x: given.fit(x, sample_weight=given.weight, compile=how))


@pytest.mark.parametrize("parts", [1, 2])
def test_on_several_ranks(backend, parts):
    given = Given(backend)

    def fit(x):
        return on_ranks(3, lambda c: given.fit(x, communicator=c, accumulate=parts))[1]

    given.assert_alike(fit)


@pytest.mark.parametrize(("held", "dtype"), [(h, d) for h, ds in HELD.items() for d in ds])
def test_what_is_measured_and_predicted_is_that_of_cast_numbers(backend, held, dtype):
    given = Given(backend, held, dtype)
    narrow, cast = (
        ap.evaluate(given.net, given.params, (x, given.t), loss=LOSS, batch_size=8)
        for x in (given.narrow, given.cast)
    )
    assert narrow == cast
    outputs = [
        backend.to_numpy(ap.predict(given.net, given.params, x, batch_size=8))
        for x in (given.narrow, given.cast)
    ]
    np.testing.assert_array_equal(*outputs, strict=True)


@pytest.mark.parametrize("dtype", [*NOT_HELD, "complex64"])
def test_what_would_be_rounded_is_refused_before_any_work(backend, dtype):
    given = Given(backend)
    if not hasattr(backend.xp, dtype):
        pytest.skip(f"{backend.name} has no {dtype}")
    x, before = backend.asarray(T[:, None] * np.ones((1, 4)), dtype), given.params.copy()
    good = given.cast, given.t
    for call in (
        lambda: given.fit(x, validation=good),
        lambda: given.fit(given.narrow, validation=(x, given.t)),
        lambda: ap.evaluate(given.net, given.params, (x, given.t), loss=LOSS),
        lambda: ap.predict(given.net, given.params, x),
    ):
        with pytest.raises(
            TypeError, match=f"x is {dtype}, but the parameters are float32; cast x to float32"
        ):
            call()
    assert_same_parameters(given.params, before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int8", "bool", "int16"])
def test_parameters_of_16_bits_take_what_they_hold(backend, dtype):
    if not hasattr(backend.xp, "bfloat16"):
        pytest.skip(f"{backend.name} has no bfloat16")
    x = backend.asarray(whole(dtype))
    params = NET.init(8, xp=backend.xp, dtype="bfloat16", device=backend.device)
    if dtype in ("float16", "float32", "int16"):
        with pytest.raises(TypeError, match="but the parameters are bfloat16"):
            ap.predict(NET, params, x)
        return
    wanted = ap.predict(NET, params, backend.xp.astype(x, backend.xp.bfloat16))
    y = ap.predict(NET, params, x)
    assert dtype_name(y) == "bfloat16"
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(wanted))


@pytest.mark.parametrize("dtype", [">u2", ">i2", ">f2", ">f4"])
def test_numbers_in_another_byte_order_are_the_same(dtype):
    x, params = whole(dtype.replace(">", "=")), NET.init(8)
    fits = [
        ap.fit(NET, params, (data, T), loss=LOSS, optimizer=ap.SGD(lr=1e-6), batch_size=7)
        for data in (x.astype(dtype), x.astype("float32"))
    ]
    assert fits[0].history.losses == fits[1].history.losses


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", ">u2", ">i2", ">f4"])
def test_steps_that_are_compiled_together_cast_alike(dtype):
    """As those of large arrays are, from the first on."""
    rng = np.random.default_rng(0)
    x, t = (rng.random((400, 300)) * 100).astype(dtype), rng.integers(0, 10, 400)
    net = ap.Sequential(ap.Rescale(1 / 255), *ap.MLP([300, 200, 200, 10]).layers)
    narrow, cast = (
        ap.fit(net, net.init(8), (data, t), loss=LOSS, optimizer=ap.RMSProp(lr=1e-3), epochs=3)
        for data in (x, x.astype("float32"))
    )
    assert narrow.history.losses == cast.history.losses
    assert_same_parameters(narrow.params, cast.params)


def test_a_file_in_memory_is_read_a_batch_at_a_time(tmp_path):
    np.save(tmp_path / "x.npy", whole("uint8"))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    fits = [
        ap.fit(NET, NET.init(8), (data, T), loss=LOSS, optimizer=ap.SGD(lr=1e-3))
        for data in (x, whole("uint8").astype("float32"))
    ]
    assert_same_parameters(fits[0].params, fits[1].params)


def test_on_numpy_batches_of_one_size_are_cast_into_the_same_memory():
    inputs = ArrayInputs(NET, whole("uint8"), T, None, seed=0, reuse=True, trusted=True)
    params = NET.init(8)
    first, second, short = (
        inputs.of(rows, params, 0, 0)["x"]
        for rows in (np.arange(7), np.arange(7, 14), np.arange(2))
    )
    assert first.dtype == np.float32
    assert first is second
    assert not np.shares_memory(first, short)


@pytest.mark.needs("jax")
def test_on_jax_many_steps_read_the_narrow_numbers_themselves(monkeypatch):
    import jax.numpy as jnp

    seen, take = [], ManyAtOnce.take

    def spy(self, run, batches):
        data, rows = self.inputs.many(batches)
        seen.append((str(data["x"].dtype), len(rows)))
        take(self, run, batches)

    monkeypatch.setattr(ManyAtOnce, "take", spy)
    x, params = jnp.asarray(whole("uint8")), NET.init(8, xp="jax")
    ap.fit(NET, params, (x, jnp.asarray(T)), loss=LOSS, optimizer=ap.SGD(), batch_size=2, epochs=9)
    assert {dtype for dtype, _ in seen} == {"uint8"}
    assert max(count for _, count in seen) > 1


def test_a_step_takes_what_the_network_computes_with(backend):
    given = Given(backend)
    gradient = ap.value_and_grad(given.net, LOSS)
    with pytest.raises(TypeError, match="x is uint8, but the parameters are float32; cast x"):
        gradient(given.params, given.narrow, given.t)
    x = backend.xp.astype(given.narrow, given.params.flat.dtype)
    gradient(given.params, x, given.t)
