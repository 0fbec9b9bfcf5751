"""Reading numbers from the device."""

from __future__ import annotations

import pytest

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
