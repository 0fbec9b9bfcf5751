"""What the library uses of CuPy and of NCCL exists, and takes what it is given; no GPU is needed."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from anyprop.distributed import nccl as nccl_module
from cupy_wheel.signatures import find, signature_of
from cupy_wheel.uses import Use, uses, uses_of_namespaces

pytestmark = pytest.mark.needs("cupy_wheel")


def _complaint(use):
    try:
        found = find(use.path)
    except (ImportError, AttributeError) as error:
        return f"{use.place}: {use.path}: {error}"
    if use.call is None:
        return ""
    signature = signature_of(found)
    if signature is None:
        return f"{use.place}: nothing tells what {use.path} takes"
    count, names = use.call
    try:
        signature.bind_partial(*[None] * (count or 0), **dict.fromkeys(names))
        if count is not None:
            signature.bind(*[None] * count, **dict.fromkeys(names))
    except TypeError as error:
        return f"{use.place}: {use.path}{signature}: {error}"
    return ""


@pytest.mark.parametrize("listed", [uses, uses_of_namespaces])
def test_all_that_is_used_is_there_and_takes_what_it_is_given(listed):
    found = listed()
    assert len({use.path for use in found}) > 40
    wrong = set(filter(None, map(_complaint, found)))
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (Use("cupy.cuda.nothing", "here", None), "nothing"),
        (Use("cupy.cuda.nccl.get_unique_id", "here", (1, ())), "too many"),
        (Use("cupy.cuda.Stream", "here", (0, ("blocking",))), "unexpected keyword"),
        (Use("cupy.cuda.nccl.NcclCommunicator.allReduce", "here", (5, ())), "missing"),
        (Use("array_api_compat.cupy.sum", "here", (1, ("axes",))), "unexpected keyword"),
    ],
)
def test_what_is_wrong_is_seen(use, said):
    assert said in _complaint(use)


def test_functions_that_are_looked_up_by_name_are_there():
    """`cuda_graph.py` launches those ufuncs of NumPy that no kernel of its own computes."""
    cupy = importlib.import_module("cupy")
    for name in ("sum", "amax"):
        parameters = signature_of(getattr(cupy, name)).parameters
        assert {"axis", "out", "keepdims"} <= set(parameters)
    assert "dtype" in signature_of(cupy.sum).parameters
    standard = importlib.import_module("array_api_strict")
    ufuncs = [
        found.__name__
        for name in standard.__all__
        if isinstance(found := getattr(np, name, None), np.ufunc) and found.signature is None
    ]
    assert len(ufuncs) > 30
    assert all(isinstance(getattr(cupy, name, None), cupy.ufunc) for name in ufuncs)


def test_a_kernel_takes_its_size_and_the_size_of_its_blocks():
    cupy = importlib.import_module("cupy")
    told = inspect.getdoc(cupy.ElementwiseKernel.__call__)
    assert {"size", "block_size"} <= {line.split(" ")[0] for line in told.replace(":", " ").split()}


def test_nccl_is_imported_without_a_warning_and_knows_its_constants():
    code = (
        "import cupy.cuda.nccl as nccl\n"
        "uid = nccl.get_unique_id()\n"
        "print(nccl.available, type(uid).__name__, len(uid), nccl.get_version() >= 22700)\n"
        f"print(nccl.NCCL_SUM, {', '.join(f'nccl.{n}' for n in nccl_module._DTYPES.values())})"
    )
    assert _printed(code) == ["True bytes 128 True", "0 7 8 6"]


# Only what a driver answers is made up.
_ANSWERING = (
    "import cupy, anyprop.backend as backend\n"
    "cupy.cuda.runtime.driverGetVersion = lambda: 13000\n"
    "cupy.cuda.runtime.getDeviceCount = lambda: 2\n"
)


def test_cupy_is_usable_where_a_driver_answers_and_pip_has_brought_the_libraries():
    code = _ANSWERING + (
        "(found,) = backend.available_backends(only=['cupy'])\n"
        "print(found.available, found.devices, found.reason or None)\n"
        "print(backend.get_namespace('cupy').__name__)"
    )
    assert _printed(code) == ["True ('cuda:0', 'cuda:1') None", "array_api_compat.cupy"]


@pytest.mark.parametrize("library", ["cublas", "nvrtc"])
def test_a_library_that_is_missing_is_named(library):
    """The loader that looks where pip puts libraries finds all but one."""
    code = _ANSWERING + (
        "import cuda.pathfinder as pathfinder\n"
        "load = pathfinder.load_nvidia_dynamic_lib\n"
        "def other(name):\n"
        f"    if name == {library!r}:\n"
        "        raise pathfinder.DynamicLibNotFoundError('lib' + name + '.so was not found')\n"
        "    return load(name)\n"
        "pathfinder.load_nvidia_dynamic_lib = other\n"
        "print(backend.available_backends(only=['cupy'])[0].reason)"
    )
    (reason,) = _printed(code)
    assert library in reason
    assert "install the extra anyprop[cuda13]" in reason


def test_without_a_driver_it_is_the_driver_that_is_missing():
    code = "import anyprop as ap\nprint(ap.available_backends(only=['cupy'])[0].reason)"
    assert _printed(code) == [
        "there is no CUDA driver; install the NVIDIA driver on a machine with a GPU."
    ]


def _printed(code):
    """Run a program where nothing has loaded CUDA's libraries yet; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
