"""A stand-in for CuPy 14.2, cuBLASLt and NCCL on the host, as far as the library uses them.

Names, arguments, and what is refused are those of their sources (cupy/_core/_kernel.pyx,
cupy/cuda/stream.pyx and graph.pyx, cupy_backends/cuda/libs/nccl.pyx, cublasLt.h);
`tests/cupy_wheel` compares them with the real packages. What is called is written down, and done:
by NumPy, and kernels by what the C compiler makes of them.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import namespaces, transfer
from anyprop.compiled import cuda_products, on_cupy
from fake_cupy.cublaslt import CublasLt
from fake_cupy.device import (
    Array,
    Device,
    Event,
    Gpu,
    Graph,
    MemoryPool,
    Stream,
    empty,
    empty_pinned,
    made,
    of_device,
    put,
    put_params,
    put_state,
    state,
    using_allocator,
)
from fake_cupy.kernels import ElementwiseKernel, Kernel, launched
from fake_cupy.nccl import FakeNccl, FakeRank

__all__ = [
    "Array",
    "CublasLt",
    "Device",
    "ElementwiseKernel",
    "Event",
    "FakeNccl",
    "FakeRank",
    "Graph",
    "Kernel",
    "Stream",
    "installed",
    "put",
    "put_params",
    "put_state",
]


@contextlib.contextmanager
def installed(*, products: bool = True, arrays_on: int = 0, gpus: int = 4) -> Iterator[Gpu]:
    """Install the stand-ins where `import` finds them; yield a record of what is done with them.

    All arrays are on one GPU, and number 0 is the current one.
    """
    state.gpu = gpu = Gpu()
    gpu.arrays_on, gpu.products = arrays_on, CublasLt()
    cupy = types.ModuleType("cupy")
    cupy.ElementwiseKernel, cupy.ndarray = Kernel, Array
    cupy.empty, cupy.may_share_memory = empty, np.may_share_memory
    cupy.asarray = lambda a: np.array(a).view(Array)
    cupy.full = partial(made, np.full)
    cupy.isnan = lambda x: np.isnan(x.view(np.ndarray)).view(Array)
    cupy.sum, cupy.amax, cupy.sin = map(launched, (np.sum, np.amax, np.sin))
    cupy.cuda = types.SimpleNamespace(
        Stream=Stream,
        MemoryPool=MemoryPool,
        compiler=types.SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
        using_allocator=using_allocator,
        get_current_stream=lambda: gpu.computing,
        Event=Event,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: gpus),
        Device=Device,
    )
    cupy.ascontiguousarray = lambda a: a
    cupyx = types.ModuleType("cupyx")
    cupyx.empty_pinned = empty_pinned
    modules: dict[str, Any] = {"cupy": cupy, "cupyx": cupyx, "cupy.cuda.nccl": FakeNccl()}

    def library() -> CublasLt:
        if not products:
            raise ImportError("cuBLASLt was not found")
        return gpu.products

    library_before, cuda_products.library = cuda_products.library, library
    # The stand-ins have no devices, on which CuPy would create arrays.
    on_before = namespaces.on_device
    for module in (namespaces, transfer):
        module.on_device = lambda xp, device: contextlib.nullcontext()
    namespace = types.ModuleType("array_api_compat.cupy")
    namespace.__getattr__ = of_device
    namespace.empty = empty
    for name in ("full", "asarray", "stack"):
        setattr(namespace, name, partial(made, getattr(np, name)))
    namespaces._NAMESPACE_OF_TYPE[Array] = namespace
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules |= modules
    try:
        yield gpu
    finally:
        on_cupy.kept.objects.clear()
        del namespaces._NAMESPACE_OF_TYPE[Array]
        cuda_products.library = library_before
        namespaces.on_device = transfer.on_device = on_before
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
