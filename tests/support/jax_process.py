"""Programs that choose JAX's 64-bit mode, which holds for a whole process."""

from __future__ import annotations

import os
import subprocess
import sys


def printed(code: str, *, bits64: bool) -> list[str]:
    """Run a program in a new process, in which a warning is an error; return the lines it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"JAX_ENABLE_X64": str(int(bits64))},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
