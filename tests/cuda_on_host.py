"""A stand-in for `cupy.ElementwiseKernel` of CuPy 14.2, whose operation the C compiler takes.

It works on NumPy's arrays. Its parameters, what it refuses, and how arrays and numbers are broadcast are
those of CuPy's source (cupy/_core/_kernel.pyx); a result may lie in the place of an input, as there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"bool": "bool", "int32": "int", "int64": "long long"}
_TYPES |= {"float32": "float", "float64": "double"}


class ElementwiseKernel:
    """Called with the inputs, numbers among them, and perhaps with the arrays for the results."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel"):
        self.ins = [tuple(p.split()) for p in in_params.split(",") if p]
        self.outs = [tuple(p.split()) for p in out_params.split(",")]
        self.operation, self.name, self.launches = operation, name, 0
        assert name.isidentifier()

    def __call__(self, *args: Any) -> Any:
        assert len(args) in (len(self.ins), len(self.ins) + len(self.outs))
        given, results = list(args[: len(self.ins)]), list(args[len(self.ins) :])
        for array, (dtype, name) in zip(args, [*self.ins, *self.outs], strict=False):
            if isinstance(array, np.ndarray) and array.dtype != dtype:
                raise TypeError(f"Type is mismatched. {name} {array.dtype} {dtype}")
        given = [np.asarray(x, dtype) for x, (dtype, _) in zip(given, self.ins, strict=True)]
        shape = np.broadcast_shapes(*(x.shape for x in [*given, *results]))
        results = results or [np.empty(shape, dtype) for dtype, _ in self.outs]
        for result in results:
            if result.shape != shape:
                raise ValueError("Out shape is mismatched")
        places = [np.broadcast_to(x, shape) for x in given]
        # The loop walks through C order; what lies otherwise is copied, but for results in place.
        flat = [p if p.flags.c_contiguous else p.copy() for p in [*places, *results]]
        _compiled(self._source())(
            ctypes.c_longlong(int(np.prod(shape))),
            *(ctypes.c_void_p(x.ctypes.data) for x in flat),
        )
        for result, stored in zip(results, flat[len(given) :], strict=True):
            if stored is not result:
                result[...] = stored
        self.launches += 1
        return results[0] if len(results) == 1 else tuple(results)

    def _source(self) -> str:
        kinds = [(_TYPES[dtype], name) for dtype, name in (*self.ins, *self.outs)]
        parameters = ", ".join(f"{kind}* raw_{name}" for kind, name in kinds)
        # `const T &x = ...;` in CuPy's loop: a name for the place, not for what it holds.
        names = "\n".join(f"#define {name} raw_{name}[i]" for _, name in kinds)
        return (
            "#include <stdbool.h>\n#include <tgmath.h>\n"
            f"{names}\nvoid kernel(long long n, {parameters}) {{\n"
            f"for (long long i = 0; i < n; ++i) {{\n{self.operation}\n}}\n}}\n"
        )


@functools.cache
def _compiled(source: str) -> Any:
    """Compile without contracting products and sums, so that results are NumPy's."""
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    library = Path(_folder().name) / f"{name}.so"
    flags = ["-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Wno-unused", "-Werror"]
    command = ["cc", *flags, "-x", "c", "-", "-o", str(library), "-lm"]
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{source}"
    return ctypes.CDLL(str(library)).kernel


@functools.cache
def _folder() -> Any:
    return tempfile.TemporaryDirectory(prefix="anyprop-cuda-")


@contextlib.contextmanager
def installed() -> Iterator[list[ElementwiseKernel]]:
    """Put the stand-in where `import cupy` finds it; give the kernels that are made."""
    made: list[ElementwiseKernel] = []

    class Noted(ElementwiseKernel):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    cupy = types.ModuleType("cupy")
    cupy.ElementwiseKernel = Noted
    cupy.ndarray = type("ndarray", (), {})  # array-api-compat asks whether an array is one
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    try:
        yield made
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
