"""What `cuda_products.py` says about cuBLASLt, against its header and library; without a GPU."""

from __future__ import annotations

import ctypes
import importlib
import re
from ctypes import byref, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

import pytest

from anyprop.compiled import cuda_products

pytestmark = pytest.mark.needs("cupy_wheel")
NAMES = {"cublasLt.h", "cublas_api.h", "library_types.h"}


@pytest.fixture(scope="module")
def headers():
    """Find the headers next to the library that is loaded."""
    pathfinder = importlib.import_module("cuda.pathfinder")
    found = Path(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
    # Those of CUDA 13 are in one folder; of CUDA 12, each package has its own.
    packages = found.parent.parent.parent
    return {
        path.name: path.read_text() for path in packages.glob("*/include/*.h") if path.name in NAMES
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CUBLAS_COMPUTE_32F", cuda_products.COMPUTE["float32"]),
        ("CUBLAS_COMPUTE_64F", cuda_products.COMPUTE["float64"]),
        ("CUDA_R_32F", cuda_products.TYPES["float32"]),
        ("CUDA_R_64F", cuda_products.TYPES["float64"]),
        ("CUBLASLT_MATMUL_DESC_TRANSA", cuda_products.TRANSA),
        ("CUBLASLT_MATMUL_DESC_TRANSB", cuda_products.TRANSB),
        ("CUBLASLT_MATMUL_DESC_EPILOGUE", cuda_products.EPILOGUE),
        ("CUBLASLT_MATMUL_DESC_BIAS_POINTER", cuda_products.BIAS_POINTER),
        ("CUBLASLT_EPILOGUE_DEFAULT", cuda_products.DEFAULT),
        ("CUBLASLT_EPILOGUE_BGRADA", cuda_products.BGRADA),
        ("CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", cuda_products.MAX_WORKSPACE),
        *(
            (f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{matrix}_BYTES", value)
            for matrix, value in zip("ABCD", cuda_products.MIN_ALIGNMENT, strict=True)
        ),
    ],
)
def test_numbers_are_those_of_the_headers(name, value, headers):
    text = "\n".join(headers.values())
    assert {int(found) for found in re.findall(rf"\b{name}\s*=\s*(\d+)", text)} == {value}


def test_the_epilogue_of_bias_and_relu_is_both(headers):
    text = headers["cublasLt.h"]
    relu, bias = (
        int(re.findall(rf"\bCUBLASLT_EPILOGUE_{name}\s*=\s*(\d+)", text)[0])
        for name in ("RELU", "BIAS")
    )
    assert relu | bias == cuda_products.RELU_BIAS
    assert "CUBLASLT_EPILOGUE_RELU_BIAS = (CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_BIAS)" in text


def test_functions_take_as_many_arguments_as_are_given(headers):
    for name, arguments in cuda_products.ARGUMENTS.items():
        (declared,) = set(
            re.findall(rf"CUBLASWINAPI\s+{name}\(([^)]*)\)", _uncommented(headers["cublasLt.h"]))
        )
        assert declared.count(",") + 1 == len(arguments), name


def _uncommented(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


def test_a_result_of_the_heuristic_is_laid_out_as_in_c():
    """uint64_t[8], size_t, cublasStatus_t, float, int[4]."""
    assert ctypes.sizeof(cuda_products.HeuristicResult) == 96
    assert cuda_products.HeuristicResult.workspace.offset == 64
    assert cuda_products.HeuristicResult.state.offset == 72


@pytest.fixture
def library():
    return cuda_products.library()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (cuda_products.TRANSA, c_int32(1)),
        (cuda_products.TRANSB, c_int32(1)),
        (cuda_products.EPILOGUE, c_uint32(cuda_products.RELU_BIAS)),
        (cuda_products.EPILOGUE, c_uint32(cuda_products.BGRADA)),
        (cuda_products.BIAS_POINTER, c_void_p(4096)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_description_holds_what_it_is_given(dtype, attribute, value, library):
    made, size = c_void_p(), ctypes.sizeof(value)
    kinds = cuda_products.COMPUTE[dtype], cuda_products.TYPES[dtype]
    assert library.cublasLtMatmulDescCreate(byref(made), *kinds) == 0
    assert library.cublasLtMatmulDescSetAttribute(made, attribute, byref(value), size) == 0
    assert library.cublasLtMatmulDescSetAttribute(made, attribute, byref(value), size + 1) != 0
    read, written = type(value)(), c_size_t()
    get = library.cublasLtMatmulDescGetAttribute
    assert get(made, attribute, byref(read), c_size_t(size), byref(written)) == 0
    assert (read.value, written.value) == (value.value, size)
    assert library.cublasLtMatmulDescDestroy(made) == 0


def test_layouts_and_preferences_are_taken(library):
    layout, preference = c_void_p(), c_void_p()
    kind = cuda_products.TYPES["float32"]
    assert library.cublasLtMatrixLayoutCreate(byref(layout), kind, 200, 100, 200) == 0
    assert library.cublasLtMatrixLayoutDestroy(layout) == 0
    assert library.cublasLtMatmulPreferenceCreate(byref(preference)) == 0
    wanted = [(cuda_products.MAX_WORKSPACE, c_uint64(cuda_products.WORKSPACE))]
    wanted += [(attribute, c_uint32(4)) for attribute in cuda_products.MIN_ALIGNMENT]
    for attribute, value in wanted:
        size = ctypes.sizeof(value)
        taken = library.cublasLtMatmulPreferenceSetAttribute(
            preference, attribute, byref(value), size
        )
        assert taken == 0
    assert library.cublasLtMatmulPreferenceDestroy(preference) == 0
