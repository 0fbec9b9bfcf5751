"""The kernel by which a graph takes its batch out of the training set."""

from __future__ import annotations

import importlib
import math
from typing import Any

from anyprop._typing import Array
from anyprop.compiled.cuda_kernels import type_of


def gather_kernel(data: list[Array], places: list[Array], numbers: Array) -> tuple[Any, int]:
    """Make the kernel that takes the rows of the present batch and its numbers; and its size.

    The data lie at addresses that it finds behind the count of steps, before the rows.
    """
    n, widths = places[0].shape[0], [math.prod(array.shape[1:]) for array in data]
    width, count = sum(widths), numbers.size
    first_row = 1 + len(data)
    lines = [
        f"if (i < {n * width}) {{",
        f"const long long row = i / {width};",
        f"const long long source = rows[{first_row} + rows[0] * {n} + row];",
        f"long long column = i % {width};",
    ]
    for k, (array, own) in enumerate(zip(data, widths, strict=True)):
        address, kind = f"rows[{1 + k}] + {_offset(array)}", type_of(array)
        store = f"y{k}[row * {own} + column] = *(const {kind}*)({address});"
        lines += [f"if (column >= 0 && column < {own}) {store}", f"column -= {own};"]
    lines += [
        "} else {",
        f"const long long k = i - {n * width};",
        f"numbers[k] = table[rows[0] * {count} + k];",
        "}",
    ]
    outs = [f"raw {array.dtype} y{k}" for k, array in enumerate(data)]
    kernel = importlib.import_module("cupy").ElementwiseKernel(
        f"raw int64 rows, raw {numbers.dtype} table",
        ", ".join([*outs, f"raw {numbers.dtype} numbers"]),
        "\n".join(lines),
        "anyprop_gather",
    )
    return kernel, n * width + count


def _offset(array: Array) -> str:
    """Write down how many bytes a number of an array lies behind its first."""
    terms, left = [f"source * {array.strides[0]}"], math.prod(array.shape[1:])
    for length, stride in zip(array.shape[1:], array.strides[1:], strict=True):
        left //= length
        terms.append(f"column / {left} % {length} * {stride}")
    return " + ".join(terms)
