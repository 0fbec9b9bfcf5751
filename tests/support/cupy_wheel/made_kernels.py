"""A plugin of pytest that writes down every kernel that the tests launch on the stand-in of CuPy.

`pytest -p cupy_wheel.made_kernels` writes to the file that the variable ANYPROP_KERNELS names, as JSON:
what `cupy.ElementwiseKernel` is made of, and for each of its arguments the number of dimensions and
whether it is contiguous, as CuPy sees them, or null for a number.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import fake_cupy

_made: set[tuple[Any, ...]] = set()


def _arguments(kernel: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [name for _, name in (*kernel.ins, *kernel.outs)]
    walked = [
        x
        for x, name in zip(args, names, strict=False)
        if isinstance(x, np.ndarray) and name not in kernel.raw
    ]
    shape = np.broadcast_shapes(*(x.shape for x in walked))
    alike = all(x.shape == shape and x.flags.c_contiguous for x in walked)
    ndim = min(len(shape), 1) if alike else len(shape)  # CuPy sees what is contiguous as vectors

    def seen(x: Any, name: str) -> tuple[int, bool] | None:
        if not isinstance(x, np.ndarray):
            return None
        if name in kernel.raw:
            return x.ndim, x.flags.c_contiguous
        return ndim, x.shape == shape and x.flags.c_contiguous

    given = [seen(x, name) for x, name in zip(args, names, strict=False)]
    return (*given, *[(ndim, True)] * (len(names) - len(args)))


def pytest_configure() -> None:
    init, call = fake_cupy.ElementwiseKernel.__init__, fake_cupy.ElementwiseKernel.__call__

    def made(self: Any, *strings: str) -> None:
        init(self, *strings)
        self.strings = (*strings, "kernel")[:4]

    def called(self: Any, *args: Any, **options: Any) -> Any:
        _made.add((*self.strings, _arguments(self, args)))
        return call(self, *args, **options)

    fake_cupy.ElementwiseKernel.__init__ = made  # type: ignore[method-assign]
    fake_cupy.ElementwiseKernel.__call__ = called  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    Path(os.environ["ANYPROP_KERNELS"]).write_text(json.dumps(sorted(_made, key=str)))
