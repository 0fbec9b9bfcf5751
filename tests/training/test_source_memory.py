"""Memory does not grow with the file that a run reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "memory_of_a_source.py"


def megabytes(path, rows, steps):
    """Train from a file of so many rows of 784 bytes; return what memory rose by at its highest."""
    # With holes in it, which take no place on the disk.
    np.lib.format.open_memmap(path, "w+", "uint8", (rows, 784)).flush()
    command = [sys.executable, "-W", "error", str(PROGRAM), str(path), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_a_file_of_300_mb_takes_little_more_memory_than_one_of_3(tmp_path):
    steps = 700  # some portions of 16 MiB, each of 213 batches
    small, large = (megabytes(tmp_path / f"{rows}.npy", rows, steps) for rows in (3_800, 380_000))
    assert large - small < 60
