"""Reading numbers from the device."""

from __future__ import annotations

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import read


@pytest.mark.parametrize(
    ("shapes", "values"),
    [
        ([], []),
        ([None, None], [1.0, 2.0]),
        ([(), ()], [1.0, 2.0]),
        ([(3,), (), (2,)], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ([None, (2,), (1,), None, (0,)], [1.0, 2.0, 3.0, 4.0, 5.0]),
    ],
)
def test_numbers_and_vectors_are_read_in_their_order(shapes, values, backend):
    """None marks a number on the host."""
    left, given = iter(values), []
    for shape in shapes:
        if shape is None:
            given.append(next(left))
        elif shape == ():
            given.append(backend.asarray(next(left)))
        else:
            numbers = [next(left) for _ in range(shape[0])]
            given.append(backend.xp.reshape(backend.asarray(numbers), shape))
    found = read(given)
    assert found == values
    assert all(type(value) is float for value in found)


def test_bfloat16_that_a_package_adds_to_numpy():
    """What NumPy makes of JAX's arrays of bfloat16; its own functions refuse that dtype."""
    dtypes = pytest.importorskip("ml_dtypes")
    x = np.asarray([[1.0, -2.5], [0.5, 3.0]])
    narrow, t = x.astype(dtypes.bfloat16), np.asarray([0, 1])
    for moved in (ap.from_host(narrow), ap.from_host(narrow, dtype="float32"), ap.to_host(narrow)):
        assert moved.dtype == "float32"
        np.testing.assert_array_equal(moved, x)
    with pytest.raises(
        TypeError, match=r"x is bfloat16, which NumPy lacks; copy it by anyprop.to_"
    ):
        ap.Source((narrow, t))
    assert ap.Source((ap.to_host(narrow), t)).read([1])[0].tolist() == [[0.5, 3.0]]
    net, loss = ap.MLP([2, 2]), ap.SoftmaxCrossEntropy()
    runs = [
        ap.fit(net, net.init(), (a, t), loss=loss, optimizer=ap.SGD(0.1), epochs=2).history.losses
        for a in (narrow, x.astype("float32"))
    ]
    assert runs[0] == runs[1]
    with pytest.raises(TypeError, match="must be of a floating dtype, not bfloat16"):
        ap.SGD().init(narrow)
    with pytest.raises(TypeError, match="not of bfloat16; cast it to float32"):
        ap.MeanSquaredError().forward(narrow, narrow)


@pytest.mark.needs("torch")
def test_what_a_library_does_not_hand_to_numpy_is_said():
    import torch

    with pytest.raises(TypeError, match="array cannot be read by NumPy: TypeError: .*BFloat16"):
        ap.from_host(torch.ones(2, dtype=torch.bfloat16))
