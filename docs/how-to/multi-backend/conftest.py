"""pytest --backend torch --backend numpy chooses the backends; the default is NumPy."""

import importlib

import pytest

MODULES = {
    "numpy": "array_api_compat.numpy",
    "array_api_strict": "array_api_strict",
    "torch": "array_api_compat.torch",
    "jax": "jax.numpy",
    "cupy": "array_api_compat.cupy",
}


def pytest_addoption(parser):
    parser.addoption("--backend", action="append", choices=sorted(MODULES))


def pytest_configure(config):
    config.backends = {}
    for name in config.getoption("--backend") or ["numpy"]:
        try:
            config.backends[name] = importlib.import_module(MODULES[name])
            config.backends[name].zeros(1)  # CuPy can be imported where there is no GPU
        except Exception as error:
            raise pytest.UsageError(f"--backend {name} cannot be used: {error}") from None


def pytest_generate_tests(metafunc):
    if "xp" in metafunc.fixturenames:
        backends = metafunc.config.backends
        metafunc.parametrize("xp", backends.values(), ids=list(backends))
