"""Sessions: `nox` runs all that need no GPU; `nox -s "tests(cupy)"` needs one and fails without.

Each backend is tested in an environment of its own, so that a test cannot pass on another's account.
"""

import os
import pathlib
import shutil
import zipfile

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.tags = ["default"]

PROJECT = nox.project.load_toml("pyproject.toml")
TEST = nox.project.dependency_groups(PROJECT, "test")

# One worker for each core, each computing with one thread: more would wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# What each backend's session installs beside anyprop: the backend, and the libraries that its
# results are compared with.
BACKENDS = {
    "numpy": ["numba", "scikit-learn"],
    "array_api_strict": [],
    "torch": ["torch==2.13.0"],  # a fixed version, so that pip can take a CPU build from disk
    "jax": ["jax", "optax", "keras"],
    "cupy": ["cupy-cuda13x[ctk]"],
}


def backend(name: str) -> object:
    """One value of the sessions' parameter."""
    return nox.param(name, id=name, tags=["gpu"] if name == "cupy" else ["default", "cpu"])


@nox.session
@nox.parametrize("name", [backend(name) for name in BACKENDS])
def tests(session: nox.Session, name: str) -> None:
    """Run the tests on one backend; those that do not depend on a backend run with NumPy's."""
    session.install("-e", ".[cli,onnx]", *TEST, *BACKENDS[name])
    options = ["--doctest-modules"] if name == "numpy" else []
    if name == "numpy" and (shutil.which("cc") or os.environ.get("CI")):
        options.append("--with=cc")  # which takes the CUDA C++ that is made for CuPy
    session.run(
        "pytest", "-n=auto", f"--backend={name}", *options, *session.posargs, env=ONE_THREAD
    )


# CuPy's wheel with those of CUDA's libraries that the library uses: 880 MB to download. Its extra `ctk`
# would bring all of them.
CUPY_WHEELS = {
    "13": ["cupy-cuda13x", "nvidia-cublas", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime"],
    "12": [
        "cupy-cuda12x",
        "nvidia-cublas-cu12",
        "nvidia-cuda-nvrtc-cu12",
        "nvidia-cuda-runtime-cu12",
    ],
}


def cuda(version: str) -> object:
    """One value of the session's parameter; with that of CUDA 12 little differs, so it is asked for."""
    return nox.param(version, id=version, tags=["default", "cpu"] if version == "13" else [])


@nox.session
@nox.parametrize("version", [cuda(version) for version in CUPY_WHEELS])
def cupy_wheel(session: nox.Session, version: str) -> None:
    """Hold what is used of CuPy against its wheel, and compile all kernels; no GPU is needed."""
    if shutil.which("cc") is None and not os.environ.get("CI"):
        session.skip("needs cc; install a C compiler (Debian and Ubuntu: apt-get install gcc)")
    cupy, *libraries = CUPY_WHEELS[version]
    libraries = [f"{name}>={version},<{int(version) + 1}" for name in libraries]
    libraries.append(f"nvidia-nccl-cu{version}")  # which has versions of its own
    session.install("-e", ".", *TEST, f"{cupy}>=14.2,<15", *libraries)
    session.run(
        *("pytest", "--with=cupy_wheel"), *(session.posargs or ["tests/cupy_wheel"]), env=ONE_THREAD
    )


@nox.session(tags=["gpu"], python=False)
def gpu(session: nox.Session) -> None:
    """Run all that needs a GPU with the CuPy, PyTorch and JAX of python3, and without a network."""
    session.run("python3", "tools/gpu_day.py", *session.posargs)


@nox.session(tags=["default", "cpu"])
def sklearn(session: nox.Session) -> None:
    """Run the tests of the scikit-learn estimators, and scikit-learn's own checks of them."""
    session.install("-e", ".[fast,sklearn,strict]", *TEST, "pandas", BACKENDS["torch"][0])
    backends = [f"--backend={name}" for name in ("numpy", "torch", "array_api_strict")]
    paths = ["tests/estimators", "src/anyprop/sklearn"]
    session.run(
        *("pytest", "-n=auto", "--with=sklearn", "--doctest-modules", *backends),
        *(session.posargs or paths),
        env=ONE_THREAD,
    )


@nox.session(tags=["default", "cpu"])
def check(session: nox.Session) -> None:
    """Run some of the contract on libraries that no other session tests."""
    session.install("-e", ".", "dask", "ndonnx")
    for library in ("dask.array", "ndonnx"):
        session.run("anyprop", "check", library, "--only=losses/[hm]*", "--no-speed")


@nox.session(tags=["default", "cpu"])
def lint(session: nox.Session) -> None:
    """Check format and style."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session(tags=["default", "cpu"])
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "types"))
    session.run("mypy")


@nox.session(tags=["default", "cpu"])
def distributed(session: nox.Session) -> None:
    """Train on several processes, which mpiexec starts."""
    session.install("-e", ".[cli,mpi]", "mpich", *TEST)  # never beside another MPI
    session.run("pytest", "tests/distributed", "-m=needs", "--with=mpi", *session.posargs)
    example = ["python", "examples/distributed_mnist.py", "--out", session.create_tmp()]
    session.run("mpiexec", "-n", "2", *example, env={"OMP_NUM_THREADS": "1"})


@nox.session(tags=["default", "cpu"])
def examples(session: nox.Session) -> None:
    """Run every example that needs no GPU."""
    session.install("-e", ".[cli,jax,sklearn,strict]", BACKENDS["torch"][0])
    folder = session.create_tmp()
    for script in EXAMPLES:
        session.run("python", f"examples/{script}.py", "--out", folder)


EXAMPLES = [
    "train_mnist",
    "from_the_book",
    "backends_agree",
    "optimizers_on_a_valley",
    "sklearn_digits",
]


@nox.session(tags=["default", "cpu"])
def docs(session: nox.Session) -> None:
    """Build the site into build/docs, run what its pages show, and see that it needs no network."""
    session.install("-e", ".[cli,jax,onnx,sklearn,strict]", BACKENDS["torch"][0])
    session.install(*nox.project.dependency_groups(PROJECT, "docs", "test"))
    out = ["-d", "build/doctrees", "docs"]
    session.run("sphinx-build", "-W", "-n", "--keep-going", *out, "build/docs", env=ONE_THREAD)
    session.run("sphinx-build", "-W", "-q", "-b", "doctest", *out, "build/doctest", env=ONE_THREAD)
    session.run("pytest", "docs")


@nox.session(tags=["default", "cpu"])
def playground(session: nox.Session) -> None:
    """Compare the documentation's playground with anyprop, and use it, in headless Chromium."""
    chromium = {"CHROMIUM": _chromium(session)}
    session.install("-e", ".", *TEST)
    session.run(
        "pytest", "tests/playground", "-m=needs", "--with=chromium", *session.posargs, env=chromium
    )


def _chromium(session: nox.Session) -> str:
    """Find a browser. Without one, CI installs it or fails; elsewhere the session is not run."""
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
    if not any(map(shutil.which, names)):
        if not os.environ.get("CI"):
            session.skip("needs Chromium; install it (Debian and Ubuntu: apt-get install chromium)")
        session.run("apt-get", "update", external=True, silent=True)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        session.run(*install, external=True, silent=True)
    found = next(filter(None, map(shutil.which, names)), None)
    return found or session.error("apt-get has installed Chromium, but it is not on PATH")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which branches the tests take, without a GPU; it needs a C compiler."""
    session.install("-e", ".[cli,fast,mpi,onnx,sklearn,strict]", "mpich", *TEST, "pandas")
    session.install(*BACKENDS["jax"], *BACKENDS["torch"])
    names = [f"--backend={name}" for name in BACKENDS if name != "cupy"]
    pytest = ("pytest", "-n=auto", "--doctest-modules", "--cov")
    parts = ("--with=cc", "--with=mpi", "--cov-report=", "--cov-fail-under=0")
    session.run(*pytest, *parts, *names, *session.posargs, env=ONE_THREAD)
    names.remove("--backend=jax")  # scikit-learn knows no JAX
    estimators = ("--with=sklearn", "tests/estimators", "src/anyprop/sklearn")
    parts = ("--cov-append", "--cov-report=term-missing:skip-covered")
    session.run(*pytest, *parts, *estimators, *names, env=ONE_THREAD)


@nox.session
def mutation(session: nox.Session) -> None:
    """Run the tests of layers, losses and optimizers on mutants of them."""
    session.install("-e", ".[strict,onnx]", *TEST, "mutmut")
    session.install(*BACKENDS["numpy"], *BACKENDS["torch"], *BACKENDS["jax"])
    # one file's mutants: the first run makes those of all files, and learns which test reaches them
    session.run("mutmut", "run", "anyprop.layers.relu.*", env=ONE_THREAD | {"CI": "1"})
    session.chdir("mutants")
    source = {"PYTHONPATH": str(pathlib.Path("src").resolve()), "CI": "1"}
    session.run("python", "../tools/mutants.py", *session.posargs, env=ONE_THREAD | source)


@nox.session(tags=["default", "cpu"])
def package(session: nox.Session) -> None:
    """Build the wheel and train from it, outside the checkout."""
    session.install("build", "twine")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", folder, silent=True)
    session.run("twine", "check", "--strict", *_built(folder, ""))
    (wheel,) = _built(folder, ".whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for needed in ("py.typed", "__init__.pyi", "data/mnist.xz", "data/MNIST-LICENSE.md"):
        if f"anyprop/{needed}" not in inside:
            session.error(f"the wheel lacks {needed}")
    session.install("--force-reinstall", f"{wheel}[cli]")
    session.chdir(folder)
    session.run("anyprop", "train", "--steps", "20", "--no-progress", "--out", "trained")


def _built(folder: str, suffix: str) -> list[str]:
    found = pathlib.Path(folder).resolve().glob(f"anyprop-*{suffix}")
    return sorted(str(path) for path in found)
