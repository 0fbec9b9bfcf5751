"""The tests' stand-ins for CuPy offer nothing that CuPy does not have; no GPU is needed."""

from __future__ import annotations

import inspect
import sys
import types

import pytest

import fake_cupy
from anyprop.compiled import cuda_products
from cupy_wheel.signatures import find, signature_of

pytestmark = pytest.mark.needs("cupy_wheel")
# What the tests read of a stand-in, and the library never does.
OF_THE_TESTS = {
    "calls",
    "does",
    "ended",
    "hosts",
    "ins",
    "launches",
    "log",
    "made",
    "outs",
    "raw",
    "uid",
}
# What is more than a container of names.
CLASSES = {
    fake_cupy.Array: "cupy.ndarray",
    fake_cupy.FakeRank: "cupy.cuda.nccl.NcclCommunicator",
    fake_cupy.Kernel: "cupy.ElementwiseKernel",
    fake_cupy.Device: "cupy.cuda.Device",
    fake_cupy.Event: "cupy.cuda.Event",
    fake_cupy.Stream: "cupy.cuda.Stream",
    fake_cupy.Graph: "cupy.cuda.Graph",
}


def _offered(stand_in, path):
    """Yield everything that a stand-in offers, with full names."""
    names = vars(stand_in) if isinstance(stand_in, type) else dir(stand_in)
    for name in names:
        if name.startswith("_") or name in OF_THE_TESTS:
            continue
        value = getattr(stand_in, name)
        yield f"{path}.{name}", value
        if isinstance(value, types.SimpleNamespace):
            yield from _offered(value, f"{path}.{name}")


def _complaint(path, value):
    try:
        found = find(path)
    except (ImportError, AttributeError) as error:
        return f"{path}: {error}"
    if isinstance(value, int):
        return "" if (type(found), found) == (type(value), value) else f"{path} is {found!r}"
    if not callable(value) or (isinstance(value, type) and issubclass(value, Exception)):
        return ""
    theirs = signature_of(found)
    if theirs is None:
        return f"nothing tells what {path} takes"
    ours = inspect.signature(value).parameters.values()
    positions = [p.name for p in theirs.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    for i, p in enumerate(p for p in ours if p.name != "self"):
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or "args" in positions:
            break
        by_name = p.kind is p.KEYWORD_ONLY and p.name in theirs.parameters
        if not by_name and positions[i : i + 1] != [p.name]:
            return f"{path} takes {theirs}, not {p.name} as number {i + 1}"
    return ""


def test_what_the_stand_in_offers_is_in_cupy():
    with fake_cupy.installed():
        stood_in = ("cupy", "cupyx", "cupy.cuda.nccl")
        modules = [(sys.modules[name], name) for name in stood_in if name in sys.modules]
    ours = [(stand_in, path) for stand_in, path in modules if not hasattr(stand_in, "__file__")]
    offered = [pair for part in (*ours, *CLASSES.items()) for pair in _offered(*part)]
    assert {"cupy.ElementwiseKernel", "cupyx.empty_pinned"} <= dict(offered).keys()
    wrong = list(filter(None, (_complaint(*pair) for pair in offered)))
    assert not wrong, "\n".join(wrong)


def test_the_id_of_a_communicator_is_what_nccl_makes():
    ours, theirs = fake_cupy.FakeNccl().get_unique_id(), find("cupy.cuda.nccl.get_unique_id")()
    assert (type(ours), len(ours)) == (type(theirs), len(theirs))


def test_what_the_stand_in_for_cublaslt_offers_is_in_the_library():
    offered = {name for name in vars(fake_cupy.CublasLt) if name.startswith("cublasLt")}
    assert len(offered) > 5
    assert offered <= set(cuda_products.ARGUMENTS)
    library = cuda_products.library()
    assert all(hasattr(library, name) for name in cuda_products.ARGUMENTS)
    for name in offered:
        function = getattr(fake_cupy.CublasLt(), name)
        inspect.signature(function).bind(*cuda_products.ARGUMENTS[name])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("cupy.cuda.nccl", types.SimpleNamespace(nothing=1), "nothing"),
        ("cupy.cuda.nccl", types.SimpleNamespace(NCCL_SUM=1), "NCCL_SUM is 0"),
        ("cupy.cuda.nccl", types.SimpleNamespace(get_unique_id=lambda n: b""), "not n as number 1"),
        ("cupy", types.SimpleNamespace(empty=lambda dtype, shape: None), "not dtype as number 1"),
    ],
)
def test_what_is_wrong_is_seen(path, value, said):
    ((name, offered),) = _offered(value, path)
    assert said in _complaint(name, offered)
