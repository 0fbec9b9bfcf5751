"""Stand-ins for the parts of CuPy 14.2 and cuBLASLt that a compiled step uses, on the host.

Names, arguments, and what is refused are those of their sources (cupy/_core/_kernel.pyx,
cupy/cuda/stream.pyx and graph.pyx, cublasLt.h). The C compiler takes the
operation of a kernel; while a stream is capturing nothing is done, and a graph does it when launched.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anyprop import backend
from anyprop.backend import namespaces, transfer
from anyprop.compiled import cublaslt, graph_loop

_TYPES = {"bool": "bool", "int32": "int", "int64": "long long", "uint8": "unsigned char"}
_TYPES |= {"float32": "float", "float64": "double"}


class ElementwiseKernel:
    """Called with the inputs, numbers among them, and perhaps with the arrays for the results.

    A result may lie in the place of an input. A parameter that is `raw` is not read number by number:
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


class Array(np.ndarray):
    """What `cupy.ndarray` is to a compiled step: reading it waits, and a capture allows neither."""

    def __setitem__(self, key: Any, value: Any) -> None:
        assert isinstance(value, Array), "only arrays of the device are copied into such"
        _note("copy")
        _enqueue(lambda: self.view(np.ndarray).__setitem__(key, value.view(np.ndarray)))

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.ctypes.data, device_id=_device.arrays_on)

    @property
    def device(self) -> Device:
        return Device(_device.arrays_on)

    def copy(self, order: str = "C") -> Array:
        _note("allocate")
        assert _device.capturing is None
        return self.view(np.ndarray).copy(order).view(Array)

    def all(self) -> Array:
        return np.asarray(self.view(np.ndarray).all()).view(Array)

    def get(self) -> Any:
        _note("read")
        assert _device.capturing is None
        return self.view(np.ndarray).copy()

    def _read(self, *args: Any) -> Any:
        raise AssertionError("a number is read to the host")

    __float__ = __int__ = __bool__ = __index__ = item = tolist = _read


class Device:
    """A GPU, and the context in which it is the current one."""

    def __init__(self, device: int) -> None:
        self.id = device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]

    def __enter__(self) -> Device:
        _device.before.append(_device.current)
        _device.current = self.id
        return self

    def __exit__(self, *exception: object) -> None:
        _device.current = _device.before.pop()


def put(array: Any) -> Any:
    """Move an array onto the device; None passes through."""
    if array is None:
        return None
    there = _allocated(np.shape(array), np.asarray(array).dtype)
    there.view(np.ndarray)[...] = array
    return there


def put_params(params: Any) -> Any:
    """Move parameters, or what is laid out like them, onto the device."""
    return params.replace(flat=put(params.flat), running=put(params.running))


def put_state(state: Any) -> Any:
    """Move the state of an optimizer onto the device."""
    slots = {name: put_params(slot) for name, slot in state.slots.items()}
    mask = None if state.decay_mask is None else put_params(state.decay_mask)
    return state._replace(slots=slots, decay_mask=mask)


class _Device:
    """What is done, and the calls that a capture has collected so far."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.capturing: list[Any] | None = None
        self.made: list[ElementwiseKernel] = []
        self.products = CublasLt()
        self.stream, self.allocator = "the user's", "the user's"
        self.epilogue = "keeps NaN"  # or "drops NaN", "no sums", or "refused"
        self.spoiled = ""  # what kind of product comes out wrong
        self.refuse: Exception | None = None  # what the next launch in a capture raises
        self.arrays_on = self.current = 0  # the GPU where arrays lie, and the one that computes
        self.before: list[int] = []


def _note(what: str) -> None:
    assert _device.current == _device.arrays_on, f"{what} on another device than its arrays'"
    _device.log.append(what)


def _enqueue(call: Any) -> None:
    if _device.capturing is None:
        call()
        return
    if _device.refuse is not None:
        raise _device.refuse
    _device.capturing.append(call)


def _half_shared(given: Any, out: Any) -> bool:
    """Tell whether a result lies where numbers of an input are read for other places."""
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
        _device.made.append(self)

    def __call__(self, *args: Any, **size: int) -> None:
        assert len(args) == len(self.ins) + len(self.outs)
        _note(self.name)
        plain = [a.view(np.ndarray) if isinstance(a, Array) else a for a in args]
        for given, (_, name) in zip(plain, self.ins, strict=False):
            for out in plain[len(self.ins) :]:
                assert name in self.raw or not _half_shared(given, out), "a race"
        call = super().__call__
        _enqueue(lambda: call(*plain, **size))


def _launched(function: Any) -> Any:
    """Make what CuPy has of a function of NumPy that stores its result in `out`."""

    def launch(*args: Any, out: Array, **options: Any) -> None:
        assert all(isinstance(a, Array) for a in (args[0], out))
        assert not np.may_share_memory(args[0], out)
        _note(function.__name__)
        plain = [a.view(np.ndarray) if isinstance(a, Array) else a for a in args]
        _enqueue(lambda: function(*plain, out=out.view(np.ndarray), **options))

    return launch


class CublasLt:
    """The library cuBLASLt, as far as a compiled step uses it: numbers by columns, at addresses.

    Descriptions and layouts are given back, and nothing is asked of them after that. Attributes have the
    sizes of cublasLt.h, and results lie at places that are as round as was said.
    """

    def __init__(self) -> None:
        self.living: dict[int, Any] = {}
        self.made = 0

    def _new(self, place: Any, what: Any) -> int:
        self.made += 1
        place._obj.value = self.made
        self.living[self.made] = what
        return 0

    def cublasLtCreate(self, handle: Any) -> int:
        return self._new(handle, "handle")

    def cublasLtMatmulDescCreate(self, place: Any, compute: int, scale: int) -> int:
        assert (compute, scale) in ((68, 0), (70, 1))
        return self._new(place, {"scale": scale})

    def cublasLtMatrixLayoutCreate(self, place: Any, kind: int, m: int, n: int, ld: int) -> int:
        assert m > 0
        assert n > 0
        assert ld >= m
        return self._new(place, (("float32", "float64")[kind], m, n, ld))

    def cublasLtMatmulPreferenceCreate(self, place: Any) -> int:
        return self._new(place, {})

    def _destroy(self, made: Any) -> int:
        del self.living[made.value]
        return 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cublasLt") and name.endswith("Destroy"):
            return self._destroy
        raise AttributeError(name)

    def cublasLtMatmulDescSetAttribute(self, made: Any, name: int, value: Any, size: int) -> int:
        assert size == {3: 4, 4: 4, 7: 4, 8: 8}[name]
        self.living[made.value][name] = value._obj.value
        return 0

    def cublasLtMatmulPreferenceSetAttribute(
        self, made: Any, name: int, value: Any, size: int
    ) -> int:
        assert size == {1: 8, 5: 4, 6: 4, 7: 4, 8: 4}[name]
        self.living[made.value][name] = value._obj.value
        return 0

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle: Any, made: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, *rest: Any
    ) -> int:
        assert _device.capturing is None
        assert self.living[handle.value] == "handle"
        wanted, found, count = rest
        described, preferred = self.living[made.value], self.living[preference.value]
        assert wanted == 1
        assert preferred[1] == 32 * 2**20
        epilogue = described[7]
        assert epilogue in (1, 6, 256)
        if epilogue != 1 and described[8] % 16:
            _note("misaligned")
        refused = {6: ("refused",), 256: ("refused", "no sums")}.get(epilogue, ())
        if _device.epilogue in refused:
            return 15
        self._shapes(described, a, b, d)
        count._obj.value = 1
        found._obj.workspace = 1024
        found._obj.algo[0] = hash((preferred[5], preferred[6], preferred[8])) % 2**32
        described["alignments"] = tuple(preferred[k] for k in (5, 6, 7, 8))
        return 0

    def _shapes(self, described: Any, a: Any, b: Any, d: Any) -> tuple[Any, ...]:
        of_a, of_b, of_d = (self.living[x.value] for x in (a, b, d))
        assert of_a[0] == of_b[0] == of_d[0] == ("float32", "float64")[described["scale"]]
        (m, k), (k_too, n) = (
            of[1:3][::-1] if described[trans] else of[1:3] for of, trans in ((of_a, 3), (of_b, 4))
        )
        assert (m, n) == of_d[1:3]
        assert k == k_too
        return of_a, of_b, of_d

    def cublasLtMatmul(self, handle: Any, made: Any, alpha: Any, *rest: Any) -> int:
        a, la, b, lb, beta, c, _, d, ld, algo, workspace, size, stream = rest
        assert self.living[handle.value] == "handle"
        assert algo._obj[0]
        assert workspace
        assert size == 1024
        described = self.living[made.value]
        assert alpha._obj.value == 1.0
        assert beta._obj.value == 0.0
        assert c == d
        for address, alignment in zip((a, b, c, d), described["alignments"], strict=True):
            assert address % alignment == 0
        assert _device.stream is not None
        assert stream == _device.stream.ptr
        of_a, of_b, of_d = self._shapes(described, la, lb, ld)
        left, right = _by_columns(a, of_a), _by_columns(b, of_b)
        out = _by_columns(d, of_d)
        left = left.T if described[3] else left
        right = right.T if described[4] else right
        assert not np.may_share_memory(out, left)
        assert not np.may_share_memory(out, right)
        epilogue = described[7]
        kind = {1: "product", 6: "rectified", 256: "summed"}[epilogue]
        _note(kind)
        bias = None if epilogue == 1 else _by_columns(described[8], (of_d[0], of_d[1], 1, of_d[1]))

        def work() -> None:
            out[...] = (
                left @ right
            )  # what is in the result before does not count: 0 times NaN would
            if epilogue == 256:
                bias[:, 0] = left.sum(axis=1)
            if epilogue == 6:
                out[...] += bias
                largest = np.fmax if _device.epilogue == "drops NaN" else np.maximum
                largest(out, 0.0, out=out)
            if _device.spoiled == kind:
                out[...] *= 2

        _enqueue(work)
        return 0


def _by_columns(address: int, layout: Any) -> Any:
    """Find the matrix that lies at an address, column after column."""
    dtype, m, n, ld = layout
    size = ((n - 1) * ld + m) * np.dtype(dtype).itemsize
    memory = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(memory, (m, n), (item, ld * item))


_device = _Device()


class Stream:
    """A stream; one capture at a time."""

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.ptr = id(self)

    def __enter__(self) -> Stream:
        self._before, _device.stream = _device.stream, self
        return self

    def __exit__(self, *exception: object) -> None:
        _device.stream = self._before

    def synchronize(self) -> None:
        assert _device.capturing is None
        _note("synchronize")

    def begin_capture(self) -> None:
        assert _device.stream is self
        assert isinstance(_device.allocator, MemoryPool), "what a graph uses is its own"
        _note("begin capture")
        _device.capturing = []

    def end_capture(self) -> Any:
        calls, _device.capturing = _device.capturing, None
        _note("end capture")
        return Graph(calls)


class Graph:
    """What was captured; a launch repeats it on what the same memory holds then."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls

    def launch(self) -> None:
        _note("launch")
        for call in self.calls:
            call()


class MemoryPool:
    def malloc(self, size: int) -> Any: ...

    def total_bytes(self) -> int:
        return 32 * 2**20


@contextlib.contextmanager
def _using_allocator(allocator: Any) -> Iterator[None]:
    before, _device.allocator = _device.allocator, allocator.__self__
    yield
    _device.allocator = before


def _empty(shape: Any, dtype: Any) -> Array:
    assert _device.capturing is None
    _note("allocate")
    return _allocated(shape, dtype)


def _allocated(shape: Any, dtype: Any) -> Array:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    # NaN, or -1: nobody may count on zeros. CuPy's pools give multiples of 512 bytes.
    memory = np.frombuffer(bytearray(b"\xff" * (size + 512)), "uint8")
    start = -memory.ctypes.data % 512
    return memory[start : start + size].view(dtype).reshape(shape).view(Array)


def _made(function: Any, *args: Any, device: Any = None, **options: Any) -> Array:
    return function(*args, **options).view(Array)


def _of_device(name: str) -> Any:
    """Find a function of NumPy's namespace; what it returns stays on the device."""
    found = getattr(backend.get_namespace("numpy"), name)
    if isinstance(found, type) or not callable(found):
        return found

    def function(*args: Any, **options: Any) -> Any:
        if any(isinstance(a, Array) for a in args):
            assert _device.current == _device.arrays_on, f"{name} on another device"
        result = found(*args, **options)
        return result.view(Array) if type(result) is np.ndarray else result

    return function


@contextlib.contextmanager
def installed(*, products: bool = True, arrays_on: int = 0) -> Iterator[_Device]:
    """Put the stand-ins where `import` finds them; give what is done with them.

    All arrays lie on one GPU, and number 0 is the current one.
    """
    global _device
    _device = _Device()
    _device.arrays_on = arrays_on
    cupy = types.ModuleType("cupy")
    cupy.ElementwiseKernel, cupy.ndarray = Kernel, Array
    cupy.empty, cupy.may_share_memory = _empty, np.may_share_memory
    cupy.asarray = lambda a: np.array(a).view(Array)
    cupy.full = partial(_made, np.full)
    cupy.isnan = lambda x: np.isnan(x.view(np.ndarray)).view(Array)
    cupy.sum, cupy.amax, cupy.sin = map(_launched, (np.sum, np.amax, np.sin))
    cupy.cuda = types.SimpleNamespace(
        Stream=Stream,
        MemoryPool=MemoryPool,
        compiler=types.SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
        using_allocator=_using_allocator,
        get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: _note("synchronize")),
    )
    modules: dict[str, Any] = {"cupy": cupy}

    def library() -> CublasLt:
        if not products:
            raise ImportError("cuBLASLt was not found")
        return _device.products

    library_before, cublaslt.library = cublaslt.library, library
    # The stand-ins know no devices, on which CuPy would have arrays made.
    on_before = namespaces.on_device
    for module in (namespaces, transfer):
        module.on_device = lambda xp, device: contextlib.nullcontext()
    namespace = types.ModuleType("array_api_compat.cupy")
    namespace.__getattr__ = _of_device
    namespace.empty = _empty
    for name in ("full", "asarray", "stack"):
        setattr(namespace, name, partial(_made, getattr(np, name)))
    namespaces._NAMESPACE_OF_TYPE[Array] = namespace
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules |= modules
    try:
        yield _device
    finally:
        graph_loop.kept.clear()
        del namespaces._NAMESPACE_OF_TYPE[Array]
        cublaslt.library = library_before
        namespaces.on_device = transfer.on_device = on_before
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
