"""The curve in one line."""

from __future__ import annotations

import pytest

from anyprop._text import block_characters, curve


def test_the_curve_is_logarithmic():
    assert curve([1000, 100, 10, 1], characters="0123") == "3210"


def test_many_values_are_averaged_and_none_is_left_out():
    assert curve([1, 1, 8, 8, 1, 1, 1, 1], width=4, characters="ab") == "abaa"
    assert len(curve([1.0] * 1001, width=60)) == 60
    values = [1.0] * 100
    for i in range(100):
        changed = [*values[:i], 50.0, *values[i + 1 :]]
        assert curve(changed, width=7, characters="ab").count("b") == 1


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [1.0, 0.0]])
def test_few_constant_and_vanishing_values(values):
    assert len(curve(values)) == len(values)


def test_an_output_without_blocks_gets_other_characters():
    assert block_characters("utf-8") == "▁▂▃▄▅▆▇█"
    for encoding in ("ascii", "cp1252", None, "no such encoding"):
        block_characters(encoding).encode("ascii")
