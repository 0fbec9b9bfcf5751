"""The machine of a run, as far as times depend on it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGES = (
    "anyprop",
    "numpy",
    "numba",
    "torch",
    "jax",
    "jaxlib",
    "scikit-learn",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "array-api-compat",
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def describe(argv: Sequence[str], device: str) -> dict[str, Any]:
    """Describe the machine, its libraries and the call.

    Parameters
    ----------
    argv : sequence of str
        The arguments of `python -m benchmarks`.
    device : {"cpu", "cuda"}
        Where the contestants compute.

    Returns
    -------
    dict
        Values that JSON can hold.
    """
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python -m benchmarks", *argv]),
        "device": device,
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "memory_gib": _memory(),
            "gpu": _gpu() if device == "cuda" else None,
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": _load(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "blas": f"{blas['name']} {blas['version']}",
        "environment": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model.group(1).strip() if model else platform.processor() or platform.machine()


def _load() -> float | None:
    """Return how many cores are busy, or, where that is not told, the load of the last minute."""
    try:
        before = _ticks()
        time.sleep(0.5)
        spent = [now - then for then, now in zip(before, _ticks(), strict=True)]
    except OSError:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    idle = spent[3] + spent[4]  # the second is waiting for a disk
    return (os.cpu_count() or 1) * (1.0 - idle / max(sum(spent), 1))


def _ticks() -> list[int]:
    """Return the time that all cores together have spent on each kind of work."""
    first, _, _ = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")
    return [int(word) for word in first.split()[1:9]]  # what follows is part of the first ones


def _memory() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return round(pages * size / 2**30, 1)


def _gpu() -> str | None:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
