"""NVRTC compiles every kernel that the tests of compiled steps make, without warning or a GPU."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs("cupy_wheel")]
TESTS = Path(__file__).parents[1]
# Turing, Ampere, Hopper, Blackwell.
ARCHITECTURES = ["75", "80", "90", "100"]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Run the tests of all layers, losses and optimizers as compiled steps; return the kernels."""
    written = tmp_path_factory.mktemp("kernels") / "made.json"
    paths = os.pathsep.join([str(TESTS / "support"), os.environ.get("PYTHONPATH", "")])
    command = ["pytest", "-q", "-p", "cupy_wheel.made_kernels", f"-ocache_dir={written.parent}"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--with=cc", "-m=needs", str(TESTS / "compiled")],
        cwd=TESTS.parent,
        env=os.environ | {"ANYPROP_KERNELS": str(written), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(written.read_text())
    assert len(made) > 250
    return made


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_without_a_warning(arch, kernels, processes):
    from cupy_wheel.nvrtc import complaint

    said = processes.map(complaint, kernels, repeat(arch), chunksize=8)
    wrong = list(filter(None, said))
    assert not wrong, f"{len(wrong)} of {len(kernels)}:\n" + "\n".join(wrong[:3])


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("float v0 = x0; y0 = x0;", 'variable "v0" was declared but never referenced'),
        ("y0 = v0;", 'identifier "v0" is undefined'),
        ("y0 = x0;", ""),
    ],
)
def test_warnings_and_errors_are_seen(operation, said):
    from cupy_wheel.nvrtc import complaint

    kernel = partial(complaint, ("float32 x0", "float32 y0", operation, "kernel", [[1, True]] * 2))
    assert said in kernel("90")
    assert bool(kernel("90")) == bool(said)
