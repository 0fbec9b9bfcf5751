"""CuPy's way from an elementwise kernel to what a GPU runs, with a named architecture for the device's.

The C++ is CuPy's, and so are the headers and the options of NVRTC. What needs a driver is left out: the
question which GPU there is, and the loading of what was compiled.
"""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import cupy
import numpy as np
from cupy._core import _carray, _kernel, _scalar, core
from cupy.cuda import compiler

_NDARRAY, _INDEXER, _SCALAR = 1, 2, 3  # _ArgKind in cupy/_core/_kernel.pxd


class _CompiledError(Exception):
    """Ends the compilation of a kernel before CuPy loads it."""

    def __init__(self, cubin: bytes, log: str) -> None:
        self.cubin, self.log = cubin, log


class _Module:
    def load(self, cubin: bytes) -> None:
        self.cubin = cubin

    def _set_mapping(self, mapping: Any) -> None: ...


compiler.function = SimpleNamespace(Module=_Module)
compiler._kernel_cache_backend = SimpleNamespace(load=lambda name: None, save=lambda *args: None)
compiler._get_arch_for_options_for_nvrtc = lambda arch: (f"-arch=sm_{arch}", "cubin")
_compile_module = compiler._compile_module_with_cache


def source_of(kernel: tuple[Any, ...]) -> str:
    """Return the C++ that CuPy makes of a kernel that `made_kernels` has written down."""
    *strings, arguments = kernel
    made = cupy.ElementwiseKernel(*strings)
    infos, ndim = [], 1
    for parameter, argument in zip(made.params, arguments, strict=False):
        if argument is None:
            kind = (_SCALAR, _scalar.CScalar, np.dtype(parameter.dtype), 0, True, True)
        else:
            kind = (_NDARRAY, cupy.ndarray, np.dtype(parameter.dtype), *argument, True)
            ndim = ndim if parameter.raw else argument[0]
        infos.append(_kernel._ArgInfo(*kind))
    infos.append(_kernel._ArgInfo(_INDEXER, _carray.Indexer, None, ndim, True, True))
    source: str = _kernel._get_elementwise_kernel_code(
        tuple(infos), _kernel._TypeMap(()), made.params, made.operation, made.name, made.preamble
    )
    return source


def compiled(source: str, arch: str) -> tuple[bytes, str]:
    """Compile C++ for an architecture; return the code for the GPU, and what NVRTC says besides."""

    def compile_module(source: str, options: tuple[str, ...], **others: Any) -> None:
        log = io.StringIO()
        module = _compile_module(source, options, **(others | {"arch": arch, "log_stream": log}))
        raise _CompiledError(module.cubin, log.getvalue())

    compiler._compile_module_with_cache = compile_module
    try:
        core.compile_with_cache(source)
    except _CompiledError as done:
        return done.cubin, done.log
    raise AssertionError("CuPy compiles in another way")


def complaint(kernel: tuple[Any, ...], arch: str) -> str:
    """Return what NVRTC objects to in a kernel, with the kernel; "" if nothing."""
    source = source_of(kernel)
    try:
        cubin, said = compiled(source, arch)
    except compiler.CompileException as error:
        return f"{error}\n{source}"
    said = said.strip().strip("\0")
    return f"{said}\n{source}" if said or not cubin else ""
