"""Kernels, whose operation the C compiler compiles; and functions that CuPy launches."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fake_cupy.device import Array, enqueue, note, state

_TYPES = {"bool": "bool", "int32": "int", "int64": "long long", "uint8": "unsigned char"}
_TYPES |= {"float32": "float", "float64": "double"}


class ElementwiseKernel:
    """Called with the inputs, numbers among them, and perhaps with the arrays for the results.

    A result may be in the place of an input. A parameter that is `raw` is not read number by number:
    the operation says where, and `i` counts the numbers of the others.
    """

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel"):
        self.ins = [tuple(p.split()[-2:]) for p in in_params.split(",") if p]
        self.outs = [tuple(p.split()[-2:]) for p in out_params.split(",")]
        params = [*in_params.split(","), *out_params.split(",")]
        self.raw = {p.split()[-1] for p in params if p.split()[:1] == ["raw"]}
        self.operation, self.name, self.launches = operation, name, 0
        assert name.isidentifier()

    def __call__(self, *args: Any, size: int | None = None, block_size: int = 128) -> Any:
        assert block_size % 32 == 0
        assert len(args) in (len(self.ins), len(self.ins) + len(self.outs))
        given, results = list(args[: len(self.ins)]), list(args[len(self.ins) :])
        for array, (dtype, name) in zip(args, [*self.ins, *self.outs], strict=False):
            if isinstance(array, np.ndarray) and array.dtype != dtype:
                raise TypeError(f"Type is mismatched. {name} {array.dtype} {dtype}")
        given = [np.asarray(x, dtype) for x, (dtype, _) in zip(given, self.ins, strict=True)]
        raw = [name in self.raw for _, name in (*self.ins, *self.outs)]
        walked = [x for x, whole in zip([*given, *results], raw, strict=False) if not whole]
        assert (size is None) != (not walked), "a size is for raw parameters alone"
        shape = np.broadcast_shapes(*(x.shape for x in walked)) if size is None else (size,)
        results = results or [np.empty(shape, dtype) for dtype, _ in self.outs]
        for result, whole in zip(results, raw[len(given) :], strict=True):
            if not whole and result.shape != shape:
                raise ValueError("Out shape is mismatched")
        places = [
            x if whole else np.broadcast_to(x, shape) for x, whole in zip(given, raw, strict=False)
        ]
        # The loop walks through C order; other layouts are copied, except for results in place.
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
        kinds = [(f"const {_TYPES[dtype]}", name) for dtype, name in self.ins]
        kinds += [(_TYPES[dtype], name) for dtype, name in self.outs]
        parameters = ", ".join(f"{kind}* raw_{name}" for kind, name in kinds)
        # `const T &x = ...;` in CuPy's loop: a name for the place, not for what it holds.
        at = {name: "" if name in self.raw else "[i]" for _, name in kinds}
        names = "\n".join(f"#define {name} raw_{name}{at[name]}" for _, name in kinds)
        return (
            "#include <stdbool.h>\n#include <tgmath.h>\n"
            "static inline float __int_as_float(int bits)\n"
            "{ union { int i; float f; } of = { bits }; return of.f; }\n"
            f"{names}\nvoid kernel(long long n, {parameters}) {{\n"
            f"for (long long i = 0; i < n; ++i) {{\n{self.operation}\n}}\n}}\n"
        )


@functools.cache
def _compiled(source: str) -> Any:
    """Compile without contracting products and sums, so that results are NumPy's."""
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    library = Path(_folder().name) / f"{name}.so"
    flags = ["-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Werror"]
    command = ["cc", *flags, "-x", "c", "-", "-o", str(library), "-lm"]
    done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{source}"
    return ctypes.CDLL(str(library)).kernel


@functools.cache
def _folder() -> Any:
    return tempfile.TemporaryDirectory(prefix="anyprop-cuda-")


def _half_shared(given: Any, out: Any) -> bool:
    """Return whether a result is where numbers of an input are read for other places."""
    if not isinstance(given, np.ndarray) or not np.shares_memory(given, out):
        return False
    return (given.ctypes.data, given.shape, given.strides) != (
        out.ctypes.data,
        out.shape,
        out.strides,
    )


class Kernel(ElementwiseKernel):
    """A kernel that is launched on the device, with the arrays for its results."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        state.gpu.made.append(self)

    def __call__(self, *args: Any, **size: int) -> None:
        assert len(args) == len(self.ins) + len(self.outs)
        note(self.name)
        plain = [a.view(np.ndarray) if isinstance(a, Array) else a for a in args]
        for given, (_, name) in zip(plain, self.ins, strict=False):
            for out in plain[len(self.ins) :]:
                assert name in self.raw or not _half_shared(given, out), "a race"
        call = super().__call__
        enqueue(lambda: call(*plain, **size))


def launched(function: Any) -> Any:
    """Return CuPy's form of a function of NumPy that stores its result in `out`."""

    def launch(*args: Any, out: Array, **options: Any) -> None:
        assert all(isinstance(a, Array) for a in (args[0], out))
        assert not np.may_share_memory(args[0], out)
        note(function.__name__)
        plain = [a.view(np.ndarray) if isinstance(a, Array) else a for a in args]
        enqueue(lambda: function(*plain, out=out.view(np.ndarray), **options))

    return launch
