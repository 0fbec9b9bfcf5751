#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox"]
# ///
"""Sessions: `nox` runs those that are done in minutes, `nox -t rest` what CI runs besides.

What is in neither needs a GPU (`nox -t gpu`, which fails without one) or takes long (`coverage`,
`mutation`). A backend that is large, or that could lend its libraries to a test of another, has an
environment of its own, so that no test passes because of another's.
"""

import os
import pathlib
import re
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
PYTEST = ("pytest", "-n=auto", "--dist=loadgroup")

# Python compiles what it imports. pip would compile everything, which takes longer than its other work.
LAZY = "--no-compile"

# What each session of the tests installs beside anyprop: the backend, and the libraries that its results
# are compared with. array-api-strict needs NumPy and nothing else, and shares NumPy's.
BACKENDS = {
    "numpy": ["numba", "scikit-learn"],
    "torch": ["torch==2.13.0"],  # a fixed version, so that pip can take a CPU build from disk
    "jax": ["jax", "optax", "keras"],
    "cupy": ["cupy-cuda13x[ctk]"],
}

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


TAGS = {"numpy": "default", "cupy": "gpu"}


def backend(name: str) -> object:
    """One value of the sessions' parameter."""
    return nox.param(name, id=name, tags=[TAGS.get(name, "rest")])


@nox.session
@nox.parametrize("name", [backend(name) for name in BACKENDS])
def tests(session: nox.Session, name: str) -> None:
    """Run the tests on one backend; those that do not depend on a backend run with NumPy's."""
    session.install(LAZY, "-e", ".[cli,onnx]", *TEST, *BACKENDS[name])
    options = [f"--backend={name}"]
    if name == "numpy":
        options += ["--backend=array_api_strict", "--doctest-modules"]
        if shutil.which("cc") or os.environ.get("CI"):
            options.append("--with=cc")  # which takes the CUDA C++ that is made for CuPy
    session.run(*PYTEST, *options, *session.posargs, env=ONE_THREAD)


# Every layer, loss and optimizer: traced, equal to NumPy, and the derivative that JAX itself finds;
# compiled steps, parameters and `fit`.
PART = [
    "compiled",
    "contracts",
    "layers",
    "losses",
    "repeatable",
    "training/test_fit.py",
    "training/test_steps.py",
]
PART = [f"tests/{path}" for path in (*PART, "test_parameters.py")]
PART.append(
    "-k=jax_ or jit or trace or those_of_numpy or compute_the_same or test_fit or test_steps"
)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run a part of the tests on the lowest versions that pyproject.toml allows.

    Those of the extra `torch` are installed if PyTorch's tests are asked for: `lowest -- torch`.
    """
    project = nox.project.load_toml("pyproject.toml")["project"]
    chosen = session.posargs or ["jax"]
    extras = [
        project["optional-dependencies"][extra] for extra in ("cli", "fast", "strict", *chosen)
    ]
    pins = [f"{pin.replace('>=', '==')}.*" for pin in sum(extras, project["dependencies"])]
    session.install(LAZY, "-e", ".", *pins, "pytest", "pytest-xdist", "hypothesis")
    contracts = [f"tests/contracts/test_{kind}.py" for kind in ("layers", "losses", "optimizers")]
    hosts = ["--backend=numpy", "--backend=array_api_strict"]
    # NumPy 2.0's OpenBLAS rounds a product with a matrix in Fortran order in another way.
    left = "tests/compiled/test_compile.py::test_what_is_not_writable_or_contiguous_is_copied"
    hosts.append(f"--deselect={left}")
    session.run(*PYTEST, *hosts, "tests/compiled", *contracts, env=ONE_THREAD)
    session.run(*PYTEST, *(f"--backend={name}" for name in chosen), *PART, env=ONE_THREAD)


@nox.session(tags=["default"])
def jax(session: nox.Session) -> None:
    """Run a part of the tests on JAX; `tests(jax)` runs all of them, Optax's and Keras's among them."""
    session.install(LAZY, "-e", ".[cli,jax]", *TEST)
    session.run(*PYTEST, "--backend=jax", *(session.posargs or PART), env=ONE_THREAD)


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
    return nox.param(version, id=version, tags=["rest"] if version == "13" else [])


@nox.session
@nox.parametrize("version", [cuda(version) for version in CUPY_WHEELS])
def cupy_wheel(session: nox.Session, version: str) -> None:
    """Check uses of CuPy against its wheel, and compile all kernels; no GPU is needed."""
    if shutil.which("cc") is None and not os.environ.get("CI"):
        session.skip("needs cc; install a C compiler (Debian and Ubuntu: apt-get install gcc)")
    cupy, *libraries = CUPY_WHEELS[version]
    libraries = [f"{name}>={version},<{int(version) + 1}" for name in libraries]
    libraries.append(f"nvidia-nccl-cu{version}")  # which has versions of its own
    session.install(LAZY, "-e", ".", *TEST, f"{cupy}>=14.2,<15", *libraries)
    session.run(
        *("pytest", "--with=cupy_wheel"), *(session.posargs or ["tests/cupy_wheel"]), env=ONE_THREAD
    )


@nox.session(tags=["gpu"], python=False)
def gpu(session: nox.Session) -> None:
    """Run what needs a GPU with the CuPy, PyTorch and JAX of python3, and without a network."""
    session.run("python3", "tools/gpu_day.py", *session.posargs)


@nox.session(tags=["rest"])
def sklearn(session: nox.Session) -> None:
    """Run the tests of the scikit-learn estimators, and scikit-learn's own checks of them."""
    session.install(LAZY, "-e", ".[fast,sklearn,strict]", *TEST, "pandas")
    session.install(*BACKENDS["jax"], *BACKENDS["torch"])
    backends = [f"--backend={name}" for name in ("numpy", "torch", "jax", "array_api_strict")]
    paths = ["tests/sklearn", "src/anyprop/sklearn"]
    session.run(
        *("pytest", "-n=auto", "--with=sklearn", "--doctest-modules", *backends),
        *(session.posargs or paths),
        env=ONE_THREAD,
    )


@nox.session(tags=["rest"])
def check(session: nox.Session) -> None:
    """Run some of the contract on libraries that no other session tests."""
    session.install(LAZY, "-e", ".", "dask", "ndonnx")
    for library in ("dask.array", "ndonnx"):
        session.run("anyprop", "check", library, "--only=losses/[hm]*", "--no-speed")


@nox.session(tags=["default"])
def lint(session: nox.Session) -> None:
    """Check format, style, scientific Python's conventions, and the workflows, without a network."""
    session.install(LAZY, *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("sp-repo-review", ".")
    workflows = sorted(map(str, pathlib.Path(".github/workflows").glob("*.yml")))
    workflows.append("docs/how-to/multi-backend/ci.yml")
    for schema, files in (
        ("github-workflows", workflows),
        ("dependabot", [".github/dependabot.yml"]),
    ):
        session.run("check-jsonschema", f"--builtin-schema=vendor.{schema}", *files)
    session.run("zizmor", "--offline", "--no-progress", ".github", *workflows[-1:])


@nox.session(tags=["default"])
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install(LAZY, "-e", ".", *nox.project.dependency_groups(PROJECT, "types"))
    session.run("mypy")


@nox.session(tags=["rest"])
def distributed(session: nox.Session) -> None:
    """Train on several processes, which mpiexec starts."""
    session.install(LAZY, "-e", ".[cli,mpi]", "mpich", *TEST)  # never beside another MPI
    session.run("pytest", "tests/distributed", "-m=needs", "--with=mpi", *session.posargs)
    example = ["python", "examples/distributed_mnist.py", "--out", session.create_tmp()]
    session.run("mpiexec", "-n", "2", *example, env={"OMP_NUM_THREADS": "1"})


@nox.session(tags=["rest"])
def docs(session: nox.Session) -> None:
    """Build the site into build/docs, run what its pages show, and check that it needs no network."""
    session.install(LAZY, "-e", ".[cli,jax,onnx,sklearn,strict]", *BACKENDS["torch"])
    session.install(LAZY, *nox.project.dependency_groups(PROJECT, "docs", "test"))
    out = ["-d", "build/doctrees", "docs"]
    session.run("sphinx-build", "-W", "-n", "--keep-going", *out, "build/docs", env=ONE_THREAD)
    session.run("sphinx-build", "-W", "-q", "-b", "doctest", *out, "build/doctest", env=ONE_THREAD)
    if os.environ.get("CI") or any(map(shutil.which, BROWSERS)):
        session.run("pytest", "docs", env={"CHROMIUM": _chromium(session)})
    else:
        session.warn("No Chromium here, so the site is not looked at in a browser.")
        session.run("pytest", "docs", "--ignore=docs/test_in_a_browser.py")
    # the one example that the site's gallery has not run, a GPU's and several processes' apart
    session.run("python", "examples/sklearn_digits.py", "--out", session.create_tmp())


@nox.session(tags=["rest"])
def playground(session: nox.Session) -> None:
    """Compare the documentation's playground with anyprop, and use it, in headless Chromium."""
    chromium = {"CHROMIUM": _chromium(session)}
    session.install(LAZY, "-e", ".", *TEST)
    session.run(
        "pytest", "tests/playground", "-m=needs", "--with=chromium", *session.posargs, env=chromium
    )


def _chromium(session: nox.Session) -> str:
    """Find a browser. Without one, CI installs it or fails; elsewhere the session is not run."""
    if not any(map(shutil.which, BROWSERS)):
        if not os.environ.get("CI"):
            session.skip("needs Chromium; install it (Debian and Ubuntu: apt-get install chromium)")
        session.run("apt-get", "update", external=True, silent=True)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
        session.run(*install, external=True, silent=True)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
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
    estimators = ("--with=sklearn", "tests/sklearn", "src/anyprop/sklearn")
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


@nox.session(tags=["rest"])
def start(session: nox.Session) -> None:
    """Run README's first block in a copy of the checkout, then all that it and the start pages show."""
    folder = pathlib.Path(session.create_tmp())
    shutil.rmtree(folder / "anyprop", ignore_errors=True)
    readme = pathlib.Path("README.md").read_text(encoding="utf-8")
    block = readme.partition("```sh\n")[2].partition("```")[0]
    left_out = shutil.ignore_patterns(".git", ".nox", "build", "runs", "__pycache__")
    shutil.copytree(".", folder / "anyprop", ignore=left_out)
    session.chdir(folder / "anyprop")
    session.run("bash", "-euxc", block, external=True)
    pages = [
        "README.md",
        "README.ja.md",
        *map(str, sorted(pathlib.Path("docs/start").glob("*.md"))),
    ]
    session.run("python", "tools/run_pages.py", *pages)


@nox.session(tags=["rest"])
def package(session: nox.Session) -> None:
    """Build the wheel, into a folder that may be named, and train from it, outside the checkout."""
    session.install("build", "twine")
    folder = session.posargs[0] if session.posargs else session.create_tmp()
    session.run("python", "-m", "build", "--outdir", folder, silent=True)
    session.run("twine", "check", "--strict", *_built(folder, ""))
    (wheel,) = _built(folder, ".whl")
    inside = zipfile.ZipFile(wheel)
    for needed in ("py.typed", "__init__.pyi", "data/mnist.xz", "data/MNIST-LICENSE.md"):
        if f"anyprop/{needed}" not in inside.namelist():
            session.error(f"the wheel lacks {needed}")
    metadata = next(name for name in inside.namelist() if name.endswith(".dist-info/METADATA"))
    if found := re.findall(r"\]\((?!https:)[^)]*\)", inside.read(metadata).decode()):
        session.error(f"the wheel's description links to what a package index lacks: {found}")
    session.install("--force-reinstall", f"{wheel}[cli]")
    session.chdir(session.create_tmp())
    session.run("anyprop", "train", "--steps", "20", "--no-progress", "--out", "trained")


def _built(folder: str, suffix: str) -> list[str]:
    found = pathlib.Path(folder).resolve().glob(f"anyprop-*{suffix}")
    return sorted(str(path) for path in found)


if __name__ == "__main__":
    nox.main()
