"""Arrays on another GPU than the current one: the stand-in refuses to compute elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
import fake_cupy
from anyprop.backend import on_device_of
from fake_cupy import Device, put, put_params, put_state

pytestmark = pytest.mark.needs("cc")
NET, LOSS, OPT = ap.MLP([4, 5, 3]), ap.SoftmaxCrossEntropy(), ap.Adam()


@pytest.fixture
def given(rng):
    """Parameters, state and a batch on GPU 1, while GPU 0 is the current one."""
    params = NET.init(8)
    state = OPT.init(params)
    x, t = rng.standard_normal((6, 4)).astype("float32"), rng.integers(0, 3, 6)
    with fake_cupy.installed(arrays_on=1) as device:
        yield put_params(params), put_state(state), put(x), put(t)
        assert device.current == 0


DOORS = {
    "value_and_grad": lambda params, state, x, t: ap.value_and_grad(NET, LOSS)(params, x, t),
    "step": lambda *given: ap.make_step(NET, LOSS, OPT)(*given),
    "compiled step": lambda *given: ap.compile(ap.make_step(NET, LOSS, OPT))(*given),
    "init": lambda params, state, x, t: OPT.init(params),
    "update": lambda params, state, x, t: OPT.update(params, params, state),
    "update of a dict": lambda params, state, x, t: ap.SGD().update(
        {"x": x}, {"x": x}, ap.SGD().init({"x": x})
    ),
    "predict": lambda params, state, x, t: ap.predict(NET, params, x, batch_size=4),
    "evaluate": lambda params, state, x, t: ap.evaluate(NET, params, (x, t), loss=LOSS),
    "fit": lambda params, state, x, t: ap.fit(
        NET, params, (x, t), loss=LOSS, optimizer=OPT, batch_size=2, validation=(x, t)
    ),
    "fit, by name": lambda params, state, x, t: ap.fit(
        net=NET, params=params, data=(x, t), loss=LOSS, optimizer=OPT, steps=1, batch_size=2
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_all_is_computed_where_the_arrays_lie(name, given):
    DOORS[name](*given)


def test_the_stand_in_refuses_the_current_device(given):
    params, _, x, _ = given
    with pytest.raises(AssertionError, match="another device"):
        NET.forward(params, x)


def test_the_current_device_is_the_callers_again_also_after_an_error(given):
    params, _, x, t = given
    with pytest.raises(ValueError, match="shape"):
        ap.value_and_grad(NET, LOSS)(params, x[:, :3], t)


def test_only_arrays_of_cupy_have_a_device_that_is_entered(given):
    params, *_ = given
    assert on_device_of(params.flat) == Device(1)
    for other in (np.zeros(3), [1.0], None, "x"):
        with on_device_of(other) as entered:
            assert entered is None
