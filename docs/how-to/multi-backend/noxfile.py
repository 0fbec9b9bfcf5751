"""`nox -t cpu` runs what needs no GPU; `nox -s "tests(torch)"` one backend."""

import os

import nox

# What each backend's session installs, and no other session does.
BACKENDS = {
    "numpy": "numpy",
    "array_api_strict": "array-api-strict",
    "torch": "torch",
    "jax": "jax",
    "cupy": "cupy-cuda13x[ctk]",
}
NAMES = [nox.param(name, id=name, tags=["gpu" if name == "cupy" else "cpu"]) for name in BACKENDS]
ANYPROP = os.environ.get("ANYPROP", "anyprop")  # or the folder of a clone


@nox.session
@nox.parametrize("name", NAMES)
def tests(session, name):
    """Run this library's tests on one backend."""
    session.install("array-api-compat", "pytest", BACKENDS[name])
    session.run("pytest", f"--backend={name}", *session.posargs)


@nox.session
@nox.parametrize("name", NAMES)
def contract(session, name):
    """Run anyprop's checks on the backend itself: is what fails in the tests its fault?"""
    session.install(ANYPROP, BACKENDS[name])
    session.run("anyprop", "check", name, "--no-speed", *session.posargs)
