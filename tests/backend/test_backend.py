"""Namespaces, devices, transfers, and why a backend cannot be used."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import (
    BackendUnavailableError,
    availability,
    available_backends,
    check_same_place,
    concatenated,
    create,
    device_of,
    devices,
    dtype_name,
    get_device,
    memory_range,
    name_of,
    namespace,
    transfer,
)
from jax_process import printed
from made_library import make_library


def test_namespace_computes_with_the_array(backend):
    x = backend.asarray([1.0, 4.0], dtype="float32")
    y = namespace(x).sqrt(x)
    assert type(y) is type(x)
    np.testing.assert_array_equal(backend.to_numpy(y), [1.0, 2.0])
    assert namespace(x, y) is namespace(y)
    assert namespace(x) is backend.xp
    assert name_of(namespace(x)) == backend.name


def test_namespace_of_a_0d_result_is_the_same(backend):
    x = backend.asarray([1.0, 4.0])
    assert namespace(backend.xp.sum(x)) is namespace(x)


@pytest.mark.parametrize("value", [3.0, [1.0, 2.0], "x", None])
def test_what_is_no_array_is_refused_by_its_type(value):
    with pytest.raises(TypeError, match=f"{type(value).__name__} is not an Array API array"):
        namespace(value)


def test_mixtures_are_refused_by_name(backend):
    foreign = np.zeros(2) if backend.name != "numpy" else _strict().zeros(2)
    with pytest.raises(TypeError, match=f"{backend.name}.*to_namespace"):
        namespace(backend.asarray([1.0, 2.0]), foreign)


def _strict():
    return importlib.import_module("array_api_strict")


def test_check_same_place_names_the_arrays(backend):
    x = backend.asarray([1.0])
    foreign = np.zeros(2) if backend.name != "numpy" else _strict().zeros(2)
    assert check_same_place([("x", x), ("t", x)]) is backend.xp
    with pytest.raises(TypeError, match=r"x belongs to .*, but labels to .*"):
        check_same_place([("x", x), ("labels", foreign)])


def test_check_same_place_names_the_devices():
    strict = _strict()
    here = strict.zeros(1, device=strict.Device("CPU_DEVICE"))
    there = strict.zeros(1, device=strict.Device("device1"))
    with pytest.raises(TypeError, match=r"x is on device .*CPU_DEVICE.*, but t on .*device1"):
        check_same_place([("x", here), ("t", there)])


@pytest.mark.parametrize("module", ["numpy", "array_api_strict"])
def test_a_module_gives_the_namespace_of_its_arrays(module):
    xp = ap.get_namespace(importlib.import_module(module))
    assert xp is ap.get_namespace(module)
    assert namespace(xp.zeros(1)) is xp


def test_a_namespace_passes_through(backend):
    assert ap.get_namespace(backend.xp) is backend.xp


def test_unknown_name_gets_the_nearest_match():
    with pytest.raises(ValueError, match=r"unknown backend 'numpi'; did you mean 'numpy'\?"):
        ap.get_namespace("numpi")


def test_what_is_no_namespace_is_refused():
    with pytest.raises(TypeError, match="not an Array API namespace"):
        ap.get_namespace(os)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        BackendUnavailableError, match=r"'jax'.*not installed; install anyprop\[jax\]"
    ):
        ap.get_namespace("jax")


def test_broken_package_says_how(monkeypatch):
    def broken(name):
        raise OSError("libfoo.so: wrong ELF class")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("importlib.import_module", broken)
    (probed,) = available_backends(only=["cupy"])
    assert not probed.available
    assert probed.version == ""
    assert probed.reason == "importing cupy failed (OSError: libfoo.so: wrong ELF class)."


class _CUDARuntimeError(RuntimeError):
    pass


def _cupy(*, driver=13000, count=1):
    def answer(value):
        if isinstance(value, str):
            raise _CUDARuntimeError(value)
        return value

    runtime = SimpleNamespace(
        CUDARuntimeError=_CUDARuntimeError,
        driverGetVersion=lambda: answer(driver),
        getDeviceCount=lambda: answer(count),
    )
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("cupy", "reason"),
    [
        (_cupy(driver=0), "there is no CUDA driver"),
        (_cupy(driver="cudaErrorUnknown: unknown"), "driver does not answer"),
        (_cupy(count="cudaErrorInsufficientDriver: too old"), "driver refuses this CuPy"),
        (_cupy(count="cudaErrorNoDevice: no CUDA-capable device"), "no GPU is visible"),
        (_cupy(count=0), "no GPU is visible"),
    ],
)
def test_the_reasons_against_cupy_are_told_apart(cupy, reason):
    assert reason in availability._why_no_cupy(cupy)


def test_a_cupy_without_a_gpu_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(availability, "_missing", lambda name: "")
    monkeypatch.setitem(sys.modules, "cupy", _cupy(count=0))
    with pytest.raises(BackendUnavailableError, match="'cupy' cannot be used here: no GPU is vis"):
        ap.get_namespace("cupy")


def test_the_namespace_of_dask_is_that_of_its_compatible_arrays(monkeypatch):
    compatible = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "array_api_compat.dask.array", compatible)
    assert ap.get_namespace(SimpleNamespace(__name__="dask.array")) is compatible


@pytest.mark.needs("jax")
def test_the_cpu_is_a_device_of_jax_beside_its_gpus(monkeypatch):
    def listed(platform="gpu"):
        return [SimpleNamespace(platform=platform, id=0)]

    monkeypatch.setattr("jax.devices", listed)
    assert list(devices(ap.get_namespace("jax"))) == ["gpu:0", "cpu:0"]


@pytest.mark.parametrize("missing", ["cublas", "nvrtc", None])
def test_missing_toolkit_libraries_are_named(monkeypatch, missing):
    def libraries(name):
        assert name.endswith("nvrtc")

        def version():
            if missing == "nvrtc":
                raise RuntimeError("libnvrtc.so.13 not found\nlooked everywhere")
            return (13, 0)

        return SimpleNamespace(getVersion=version)

    monkeypatch.setattr("importlib.import_module", libraries)
    cupy = _cupy()

    class Cuda:
        runtime = cupy.cuda.runtime

        @property
        def cublas(self):
            if missing == "cublas":
                raise ImportError("libcublas.so.13: cannot open shared object file")
            return SimpleNamespace()

    reason = availability._why_no_cupy(SimpleNamespace(cuda=Cuda()))
    if missing is None:
        assert reason == ""
    else:
        assert f"lib{missing}.so.13" in reason
        assert "anyprop[cuda13]" in reason
        assert "\n" not in reason


def test_available_backends_agrees_with_get_namespace():
    for probed in ap.available_backends():
        if probed.available:
            assert probed.reason == ""
            assert probed.devices
            assert probed.version
            ap.get_namespace(probed.name)
        else:
            assert probed.reason
            with pytest.raises(BackendUnavailableError) as caught:
                ap.get_namespace(probed.name)
            assert probed.reason in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_host_round_trip(backend, dtype, rng):
    host = rng.integers(0, 2, size=(3, 4)).astype(dtype)
    array = ap.from_host(host, backend.xp, device=backend.device)
    assert dtype_name(array) == dtype
    assert backend.device is None or device_of(array) == backend.device
    np.testing.assert_array_equal(ap.to_host(array), host)


def test_from_host_converts(backend):
    array = ap.from_host(np.asarray([1, 2]), backend.xp, dtype="float32", device=backend.device)
    assert dtype_name(array) == "float32"


def test_numbers_become_flags_and_flags_numbers(backend):
    numbers = np.asarray([0.0, 0.5, -2.0], "float32")
    flags = ap.from_host(numbers, backend.xp, dtype="bool", device=backend.device)
    np.testing.assert_array_equal(ap.to_host(flags), [False, True, True], strict=True)


def test_structures_are_refused_by_the_library_itself(backend):
    structures = np.zeros(2, "i4,f4")
    if backend.name == "numpy":
        assert ap.from_host(structures, backend.xp) is structures
        return
    with pytest.raises(TypeError) as told:
        ap.from_host(structures, backend.xp, device=backend.device)
    assert "cannot make an array" not in str(told.value)


def test_an_array_is_stored_where_its_numbers_are(backend):
    x = backend.asarray(np.arange(12.0).reshape(3, 4))
    found = memory_range(x)
    if found is not None:  # JAX does not say
        assert found[1] - found[0] == 12 * 8
    assert (found is None) == (backend.name == "jax")
    assert memory_range(x[:0, :]) is None


def test_from_host_takes_read_only_and_strided(backend, rng):
    host = rng.standard_normal((4, 6))
    host.flags.writeable = False
    np.testing.assert_array_equal(
        ap.to_host(backend.asarray(host[::2, ::-1].copy())), host[::2, ::-1]
    )
    array = ap.from_host(host[::2].T, backend.xp, device=backend.device)
    np.testing.assert_array_equal(ap.to_host(array), host[::2].T)


def test_vectors_are_joined_in_their_order(backend, rng):
    hosts = [rng.standard_normal(size) for size in (3, 0, 1, 5)]
    vectors = [backend.asarray(host) for host in hosts]
    joined = concatenated(vectors)
    np.testing.assert_array_equal(ap.to_host(joined), np.concatenate(hosts))
    assert joined.dtype == vectors[0].dtype
    assert device_of(joined) == device_of(vectors[0])
    assert concatenated(vectors[:1]) is vectors[0]


@pytest.mark.needs("jax")
def test_jax_joins_vectors_at_once_where_nothing_is_traced(monkeypatch, rng):
    import jax

    hosts = [rng.standard_normal(size).astype("float32") for size in (3, 1, 5)]
    vectors = [ap.from_host(host, "jax") for host in hosts]
    traced = jax.jit(lambda vectors: concatenated(vectors))(vectors)
    np.testing.assert_array_equal(ap.to_host(traced), np.concatenate(hosts))
    monkeypatch.setattr("jax.numpy.zeros", None)  # with which it begins while it is traced
    np.testing.assert_array_equal(ap.to_host(concatenated(vectors)), np.concatenate(hosts))


def test_to_namespace_moves_between_libraries(backend):
    x = backend.asarray([[1.0, 2.0]], dtype="float32")
    moved = ap.to_namespace(x, "numpy", dtype="float64")
    assert type(moved) is np.ndarray
    assert moved.dtype == np.float64
    back = ap.to_namespace(moved, backend.xp, device=backend.device)
    assert type(back) is type(x)


def test_devices_can_be_asked_for_by_name(backend):
    for name in devices(backend.xp):
        array = ap.from_host(np.zeros(2), backend.xp, device=name)
        assert get_device(backend.xp, name) == device_of(array)
        assert device_of(create(backend.xp.ones, 3, like=array)) == device_of(array)


def test_unknown_device_lists_those_there_are(backend):
    with pytest.raises(ValueError, match=r"no device 'gpu:77' here; choose one of: .*"):
        ap.from_host(np.zeros(2), backend.xp, device="gpu:77")


def test_to_host_asks_unknown_namespaces_for_an_exchange(monkeypatch):
    strict = _strict()
    monkeypatch.setattr(transfer, "name_of", lambda xp: "some_library")
    np.testing.assert_array_equal(ap.to_host(strict.asarray([1.0, 2.0])), [1.0, 2.0])


def test_to_host_asks_arrays_of_ndonnx_for_the_values_that_they_know():
    library = make_library("ndonnx")
    array = library.asarray([1.0, 2.0])
    type(array).unwrap_numpy = lambda self: self.data + 1.0
    np.testing.assert_array_equal(ap.to_host(array), [2.0, 3.0])


@pytest.mark.parametrize("exchange", [BufferError("not exported"), RuntimeError("no such device")])
def test_to_host_takes_the_conversion_where_there_is_no_exchange(exchange):
    def refuses(*args, **options):
        raise exchange

    library = make_library("lazy_library")
    array = library.asarray([1.0, 2.0])
    type(array).__dlpack__ = type(array).__dlpack_device__ = refuses
    np.testing.assert_array_equal(ap.to_host(array), [1.0, 2.0])


def test_arrays_that_numpy_cannot_have_are_refused():
    library = make_library("closed_library")
    array = library.asarray([1.0, 2.0])
    del type(array).__array__
    with pytest.raises(TypeError, match="closed_library cannot hand an array to NumPy"):
        ap.to_host(array)


def test_a_lack_of_memory_is_no_refusal():
    def lacks(*args, **options):
        raise MemoryError

    array = make_library("large_library").asarray([1.0, 2.0])
    type(array).__array__ = lacks
    with pytest.raises(MemoryError):
        ap.to_host(array)


@pytest.mark.parametrize("error", [RuntimeError("dense on request"), ValueError("no numbers")])
def test_arrays_that_refuse_numpy_are_refused_with_their_reason(error):
    def refuses(*args, **options):
        raise error

    library = make_library("sparse_library")
    array = library.asarray([1.0, 2.0])
    type(array).__array__ = refuses
    with pytest.raises(TypeError, match=f"np.asarray raises {type(error).__name__}: {error}") as e:
        ap.to_host(array)
    assert e.value.__cause__ is error


@pytest.mark.parametrize(
    "make",
    [
        lambda library: ap.from_host(np.zeros(2), library),
        lambda library: ap.MLP([3, 2]).init(8, xp=library),
        lambda library: ap.to_namespace(np.zeros(2), library),
    ],
)
def test_a_library_that_takes_no_device_is_named(make):
    library = make_library("deviceless_library", asarray=lambda x, dtype=None: np.asarray(x, dtype))
    with pytest.raises(
        TypeError,
        match=r"^deviceless_library cannot make an array from a NumPy array of float\d\d: "
        r"asarray\(array, "
        r"device=None\) raises TypeError: .*'device'\.$",
    ):
        make(library)


def test_devices_of_a_library_that_lists_none_have_names_of_their_own():
    library = make_library("plain_library")
    array = library.asarray([1.0, 2.0])
    assert get_device(library, device_of(array)) == device_of(array) == "cpu"


def test_a_dpnp_without_a_device_is_not_available(monkeypatch):
    dpnp = make_library("dpnp")
    dpnp.__array_namespace_info__ = lambda: SimpleNamespace(devices=list)
    dpnp.__version__, dpnp.__spec__ = "0.20.0", importlib.machinery.ModuleSpec("dpnp", None)
    monkeypatch.setitem(sys.modules, "dpnp", dpnp)
    (found,) = available_backends(only=["dpnp"])
    assert not found.available
    assert found.reason.startswith("there is no SYCL device; install the driver")


@pytest.mark.needs("jax")
def test_jax_without_64_bits_refuses_float64_and_takes_its_own_integers():
    code = (
        "import numpy as np, anyprop as ap\n"
        "print(ap.from_host(np.arange(3), 'jax').dtype)\n"
        "try:\n    ap.from_host(np.zeros(2), 'jax')\n"
        "except TypeError as error:\n    print(error)\n"
    )
    dtype, refusal = printed(code, bits64=False)
    assert dtype == "int32"
    assert refusal.startswith("JAX holds float64 arrays only in its 64-bit mode")


def _switched(name: str | None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "ANYPROP_BACKEND"}
    env |= {} if name is None else {"ANYPROP_BACKEND": name}
    code = "from anyprop.xp import xp; print(xp.__name__)"
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (None, "array_api_compat.numpy"),
        ("", "array_api_compat.numpy"),
        ("array_api_strict", "array_api_strict"),
    ],
)
def test_the_environment_switches_the_import(name, module):
    assert _switched(name).stdout.strip() == module


def test_a_wrong_name_in_the_environment_is_named():
    done = _switched("numpyy")
    assert done.returncode != 0
    assert "did you mean 'numpy'?" in done.stderr
