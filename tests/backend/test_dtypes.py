"""Which dtypes hold all numbers of which: compared with what becomes of the numbers themselves."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import holds_exactly

FLOATING = ["float16", "float32", "float64", "longdouble"]
WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def telling(dtype: str) -> np.ndarray:
    """Return numbers of a dtype, among them all that a narrower one would lose first."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray([False, True])
    if kind.itemsize <= 2:  # all there are
        every = np.arange(1 << 8 * kind.itemsize, dtype=f"uint{8 * kind.itemsize}").view(kind)
        return every[np.isfinite(every)]
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        ends = [int(limits.min) + k for k in range(3)] + [int(limits.max) - k for k in range(3)]
        return np.asarray(ends, dtype=kind)
    limits, one = np.finfo(kind), kind.type(1)
    sizes = [limits.max, np.nextafter(limits.max, one), limits.smallest_subnormal, limits.tiny]
    sizes += [np.nextafter(one, -one), np.nextafter(one, limits.max), one / 3]
    return np.asarray([sign * size for size in sizes for sign in (1, -1)], dtype=kind)


def exactly(number: np.generic) -> Fraction | None:
    """Return a number as a fraction; None of an infinity."""
    if not np.isfinite(number):
        return None
    if number.dtype.kind == "f":
        return Fraction(*number.as_integer_ratio())
    return Fraction(int(number))


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("other", ["bool", *WHOLE, *FLOATING, ">u2", ">i4", ">f4", "<f8", "<f2"])
def test_a_dtype_holds_what_numpy_casts_to_the_same_number(dtype, other):
    numbers = telling(other)
    with np.errstate(over="ignore"):
        cast = numbers.astype(dtype)
    kept = all(map(lambda a, b: exactly(a) == exactly(b), numbers, cast))
    assert holds_exactly(np.dtype(dtype).name, other) == kept


@pytest.mark.parametrize(
    "other", ["complex64", "object", "str", "datetime64[s]", "float8_e4m3fn", "float12"]
)
def test_what_is_not_real_or_unknown_is_held_by_nothing(other):
    assert not holds_exactly("float64", other)


def _dtypes(backend):
    names = ["bool", *WHOLE, "float16", "bfloat16", "float32", "float64"]
    return [name for name in names if hasattr(backend.xp, name)]


def test_what_is_held_stays_the_same_on_every_backend(backend):
    xp = backend.xp
    floating = [name for name in _dtypes(backend) if "float" in name]
    for other in _dtypes(backend):
        # bfloat16 is the upper half of float32.
        bits = np.arange(1 << 16, dtype="uint32") << 16
        every = bits.view("float32") if other == "bfloat16" else telling(other)
        every = every[np.isfinite(every)]
        if backend.name == "jax" and "float" in other:  # XLA makes 0 of the smallest
            every = every[np.abs(every) >= np.finfo(every.dtype).tiny]
        given = ap.from_host(every, xp, dtype=other, device=backend.device)
        for dtype in floating:
            with np.errstate(over="ignore"):
                cast = xp.astype(given, getattr(xp, dtype))
            kept = all(map(lambda a, b: exactly(a) == exactly(b), *map(ap.to_host, (given, cast))))
            assert holds_exactly(dtype, other) == kept, (dtype, other)
