"""Backends under test.

`pytest --backend torch --backend numpy` chooses them; the default is NumPy. A test that takes the
fixture `backend` runs once on each; a test marked `needs("torch")` compares with that library and
runs where it was asked for, and one marked `needs("mpi")`, `needs("chromium")`, `needs("cc")`, which is
a C compiler, or `needs("cupy_wheel")`, which is CuPy without a GPU and a C compiler, with `--with mpi`,
`--with chromium`, `--with cc` or `--with cupy_wheel`; all other tests do not depend on a backend and run
with NumPy's. `--with sklearn` adds the folders that need scikit-learn. What is asked for
and cannot be used ends the run with the reason: nothing is skipped.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import signal

import hypothesis
import numpy as np
import pytest

from anyprop.backend import BackendUnavailableError, available_backends, get_namespace
from anyprop.data import mnist
from backend_cases import CASES

# How long an example takes depends on what else the machine does. CI draws the same examples
# each time; elsewhere every run draws others.
hypothesis.settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("suite")


# Libraries without which whole folders cannot be imported.
FOLDERS = {"sklearn": ("tests/sklearn", "src/anyprop/sklearn")}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=sorted(CASES),
        help="backend to test; may be repeated (default: numpy)",
    )
    parser.addoption(
        "--with",
        action="append",
        default=[],
        choices=["cc", "chromium", "cupy_wheel", "mpi", *FOLDERS],
        help="also run the tests that need something other than a backend",
    )


def _asked_for(config: pytest.Config) -> list[str]:
    return config.getoption("--backend") or ["numpy"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(library): uses another library, or its results")
    config.addinivalue_line(
        "markers", "against_numpy: compares a backend with NumPy; not NumPy itself"
    )
    # Unpacking MNIST takes half a second each time; its arrays cannot be written to.
    mnist._unpack = functools.cache(mnist._unpack)
    # Whatever started the tests may have had Ctrl-C ignored, as a shell has in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in _asked_for(config):
        try:
            get_namespace(name)
        except BackendUnavailableError as error:
            raise pytest.UsageError(str(error)) from None
    for name in {"cc", "cupy_wheel"} & set(config.getoption("--with")):
        if shutil.which("cc") is None:
            raise pytest.UsageError(f"--with {name}: there is no C compiler cc on PATH.")
    if "cupy_wheel" in config.getoption("--with"):
        _check_importable("cupy", "cupy_wheel")
    for library, folders in FOLDERS.items():
        if library in config.getoption("--with"):
            _check_importable(library, library)
        else:
            ignored = config.option.ignore or []
            config.option.ignore = ignored + [str(config.rootpath / f) for f in folders]
    cache = getattr(config, "cache", None)  # there is none with -p no:cacheprovider
    if "jax" in _asked_for(config):
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        # Every `fit` compiles its step, and most tests compile the same one.
        if cache is not None:
            worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
            jax.config.update("jax_compilation_cache_dir", str(cache.mkdir(f"jax-{worker}")))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if "numpy" in _asked_for(config) and cache is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache.mkdir("numba")))
    if "array_api_strict" in _asked_for(config):
        strict = importlib.import_module("array_api_strict")
        strict.set_array_api_strict_flags(
            api_version="2024.12", boolean_indexing=False, data_dependent_shapes=False
        )


def _check_importable(module: str, asked_for: str) -> None:
    # Read when SciPy is first imported; scikit-learn dispatches to other array libraries only with it.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise pytest.UsageError(f"--with {asked_for}: {error}.") from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"backends: {', '.join(_asked_for(config))}"]
    if "cupy" not in _asked_for(config):
        lines.append(f"not run: cupy ({_why_not_cupy()})")
    lines += [
        f"not run: {', '.join(folders)} (pass --with {library})"
        for library, folders in FOLDERS.items()
        if library not in config.getoption("--with")
    ]
    return lines


def _why_not_cupy() -> str:
    (cupy,) = (b for b in available_backends(only=["cupy"]))
    return cupy.reason or "not asked for; pass --backend cupy"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        cases = [case for name in _asked_for(metafunc.config) for case in CASES[name]]
        metafunc.parametrize("backend", cases, ids=str)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked_for = _asked_for(config)

    def wanted(item: pytest.Item) -> bool:
        needs = item.get_closest_marker("needs")
        if needs is not None:
            return needs.args[0] in asked_for + config.getoption("--with")
        if (
            item.get_closest_marker("against_numpy")
            and item.callspec.params["backend"].name == "numpy"
        ):
            return False
        return "backend" in getattr(item, "fixturenames", ()) or "numpy" in asked_for

    chosen = [item for item in items if wanted(item)]
    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = chosen


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20161)
