"""Matrix products by cuBLASLt, through its C interface, on arrays that stay where they are.

CuPy's own path to cuBLAS refuses to be captured into a graph. cuBLASLt stores matrices by columns,
we store them by rows, so it is given all of them transposed: out^T = b^T a^T. A bias then goes
along the columns that it knows, as its epilogue wants it.

An epilogue adds the bias and takes max(., 0) before a product is stored, which saves a kernel that reads
and writes all of it. It is not documented to keep NaN, as our ReLU does. So each is tried with a bias of
NaN when it is made, and not used unless every result is NaN. Another epilogue sums the columns of
the second factor, which is how the gradient of a bias goes with that of its matrix.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import partial
from typing import Any

from anyprop.repeatable.stand_in import TraceError

# Bytes that a product may use besides; all products of a graph share them, as they follow each other.
WORKSPACE = 32 * 2**20
# Bytes. At addresses that are not a multiple of it, epilogues have failed.
BIAS_ALIGNMENT = 16
# What cublasLt.h, cublas_api.h and library_types.h call these, the same in CUDA 12 and 13.
TYPES = {"float32": 0, "float64": 1}  # CUDA_R_32F, CUDA_R_64F
COMPUTE = {"float32": 68, "float64": 70}  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F
TRANSA, TRANSB, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8  # CUBLASLT_MATMUL_DESC_
DEFAULT, RELU_BIAS, BGRADA = 1, 6, 256  # CUBLASLT_EPILOGUE_
MAX_WORKSPACE, MIN_ALIGNMENT = 1, (5, 6, 7, 8)  # CUBLASLT_MATMUL_PREF_, for A, B, C and D


class HeuristicResult(Structure):
    """`cublasLtMatmulHeuristicResult_t`."""

    _fields_ = (
        ("algo", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


_IN, _OUT = c_void_p, POINTER(c_void_p)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_OUT,),
    "cublasLtDestroy": (_IN,),
    "cublasLtMatmulDescCreate": (_OUT, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": (_IN, c_int, c_void_p, c_size_t),
    "cublasLtMatmulDescDestroy": (_IN,),
    "cublasLtMatrixLayoutCreate": (_OUT, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutDestroy": (_IN,),
    "cublasLtMatmulPreferenceCreate": (_OUT,),
    "cublasLtMatmulPreferenceSetAttribute": (_IN, c_int, c_void_p, c_size_t),
    "cublasLtMatmulPreferenceDestroy": (_IN,),
    "cublasLtMatmulAlgoGetHeuristic": (
        *(_IN,) * 7,
        c_int,
        POINTER(HeuristicResult),
        POINTER(c_int),
    ),
    "cublasLtMatmul": (
        *(_IN, _IN, c_void_p),  # handle, description, alpha
        *(c_void_p, _IN, c_void_p, _IN),  # A and B
        *(c_void_p, c_void_p, _IN, c_void_p, _IN),  # beta, C and D
        *(c_void_p, c_void_p, c_size_t, c_void_p),  # algorithm, workspace, stream
    ),
}
"""The functions that are called, each of which returns a status; and what they take."""


class CublasLtError(RuntimeError):
    """A call of cuBLASLt that failed, with its status."""


@functools.cache
def library() -> Any:
    """Load cuBLASLt, where CuPy finds its own libraries.

    Returns
    -------
    ctypes.CDLL

    Raises
    ------
    ImportError
        There is none.
    """
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
        found = pathfinder.load_nvidia_dynamic_lib("cublasLt")
        loaded = ctypes.CDLL(found.abs_path)
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(f"cuBLASLt was not found ({error})") from error
    for name, arguments in ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, c_int
    return loaded


def is_available() -> bool:
    """Return whether cuBLASLt is installed, whose products can be captured."""
    try:
        library()
    except ImportError:
        return False
    return True


class Products:
    """Makes products, and holds what they need.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        On which they will be launched.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._library = stream, library()
        self._made: list[tuple[str, c_void_p]] = []  # what destroys it, and what
        self._workspace: Any = None
        self._kept: list[Any] = []  # smaller ones, which products use that were made before
        self._handle = self._create("cublasLt")

    def plain(self, a: Any, b: Any, out: Any) -> Callable[[], None]:
        """Return the launch of out = a b."""
        return self._launch(self._described(a, b, out), a, b, out)

    def rectified(self, a: Any, b: Any, bias: Any, out: Any) -> Callable[[], None] | None:
        """Return the launch of out = max(a b + bias, 0); None if cuBLASLt cannot do it here."""
        return self._along_with(RELU_BIAS, a, b, out, bias)

    def summed(self, a: Any, b: Any, out: Any, sums: Any) -> Callable[[], None] | None:
        """Return the launch of out = a b and sums = b.sum(axis=0); None if cuBLASLt cannot do it."""
        return self._along_with(BGRADA, a, b, out, sums)

    def _along_with(
        self, epilogue: int, a: Any, b: Any, out: Any, bias: Any
    ) -> Callable[[], None] | None:
        """Return the launch of a product with an epilogue, which reads or writes `bias`."""
        if bias.data.ptr % BIAS_ALIGNMENT:
            return None
        described = self._described(a, b, out, epilogue)
        self._set("cublasLtMatmulDesc", described, BIAS_POINTER, c_void_p(bias.data.ptr))
        try:
            launch = self._launch(described, a, b, out)
            usable = epilogue != RELU_BIAS or self._keeps_nan(launch, described, bias, out)
        except CublasLtError:
            return None
        return launch if usable else None

    def _keeps_nan(self, launch: Callable[[], None], described: Any, bias: Any, out: Any) -> bool:
        """Return whether a bias of NaN reaches all of a result."""
        cupy = importlib.import_module("cupy")
        nan = cupy.full(bias.shape, float("nan"), dtype=bias.dtype)
        self._set("cublasLtMatmulDesc", described, BIAS_POINTER, c_void_p(nan.data.ptr))
        launch()
        usable = bool(cupy.isnan(out).all().get())
        self._set("cublasLtMatmulDesc", described, BIAS_POINTER, c_void_p(bias.data.ptr))
        return usable

    def _described(self, a: Any, b: Any, out: Any, epilogue: int = DEFAULT) -> Any:
        """Describe b^T a^T, with what is done besides."""
        name = str(out.dtype)
        if name not in TYPES or {str(a.dtype), str(b.dtype)} != {name}:
            raise TraceError(f"it multiplies matrices of {a.dtype} and {b.dtype}")
        described = self._create("cublasLtMatmulDesc", COMPUTE[name], TYPES[name])
        for attribute, value in (
            (TRANSA, c_int32(not _by_rows(b))),
            (TRANSB, c_int32(not _by_rows(a))),
            (EPILOGUE, c_uint32(epilogue)),
        ):
            self._set("cublasLtMatmulDesc", described, attribute, value)
        return described

    def _launch(self, described: Any, a: Any, b: Any, out: Any) -> Callable[[], None]:
        """Choose how a product is done."""
        matrices = (b, a, out, out)
        layouts = [self._layout(matrix) for matrix in matrices]
        preference = self._create("cublasLtMatmulPreference")
        kind, room = "cublasLtMatmulPreference", c_uint64(WORKSPACE)
        self._set(kind, preference, MAX_WORKSPACE, room)
        for attribute, matrix in zip(MIN_ALIGNMENT, matrices, strict=True):
            # The largest power of two that divides the address, 256 at most.
            alignment = min(256, matrix.data.ptr & -matrix.data.ptr)
            self._set(kind, preference, attribute, c_uint32(alignment))
        chosen, count = HeuristicResult(), c_int()
        self._call(
            "cublasLtMatmulAlgoGetHeuristic",
            *(self._handle, described, *layouts, preference, 1, byref(chosen), byref(count)),
        )
        if not count.value or chosen.state:
            raise CublasLtError(f"cuBLASLt has no way to a product (status {chosen.state})")
        workspace = self._workspace_of(chosen.workspace)
        number = c_float if str(out.dtype) == "float32" else c_double
        one, zero = number(1.0), number(0.0)
        of_b, of_a, of_c, of_out = layouts
        return partial(
            self._call,
            *("cublasLtMatmul", self._handle, described, byref(one)),
            *(b.data.ptr, of_b, a.data.ptr, of_a),
            *(byref(zero), out.data.ptr, of_c, out.data.ptr, of_out),
            byref(chosen.algo),
            *((0, 0) if workspace is None else (workspace.data.ptr, workspace.size)),
            self._stream.ptr,
        )

    def _layout(self, matrix: Any) -> Any:
        rows, columns = matrix.shape if not _by_rows(matrix) else matrix.shape[::-1]
        kind = TYPES[str(matrix.dtype)]
        return self._create("cublasLtMatrixLayout", kind, rows, columns, _distance(matrix))

    def _workspace_of(self, size: int) -> Any:
        """Return memory of at least `size` bytes, which the products that need less share."""
        if size and (self._workspace is None or self._workspace.size < size):
            self._workspace = importlib.import_module("cupy").empty(size, "uint8")
            self._kept.append(self._workspace)
        return self._workspace if size else None

    def _create(self, kind: str, *arguments: int) -> Any:
        made = c_void_p()
        self._call(f"{kind}Create", byref(made), *arguments)
        self._made.append((f"{kind}Destroy", made))
        return made

    def _set(self, kind: str, made: Any, attribute: int, value: Any) -> None:
        self._call(f"{kind}SetAttribute", made, attribute, byref(value), ctypes.sizeof(value))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise CublasLtError(f"{name} failed with status {status}")

    def close(self) -> None:
        """Destroy what the products hold."""
        while self._made:
            destroy, made = self._made.pop()
            getattr(self._library, destroy)(made)


def _by_rows(matrix: Any) -> bool:
    """Return whether the numbers of a row follow each other."""
    return bool(matrix.flags.c_contiguous or matrix.strides[1] == matrix.itemsize)


def _distance(matrix: Any) -> int:
    """Return the distance from one row to the next, or from one column to the next, in numbers."""
    rows, columns = matrix.shape
    if matrix.flags.c_contiguous:
        return int(columns)
    if matrix.flags.f_contiguous:
        return int(rows)
    within, apart = sorted(matrix.strides)
    length = columns if _by_rows(matrix) else rows
    if within != matrix.itemsize or apart % within or apart < length * within:
        raise TraceError("it multiplies a matrix whose numbers are not contiguous")
    return int(apart // within)
