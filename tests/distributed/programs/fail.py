"""Rank 1 fails in the middle of its work in one of several ways.

mpiexec -n 2 python fail.py raise|kill|hang|exit|not RESULT.json
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from anyprop.distributed import MPICommunicator


def main(how: str, path: str) -> None:
    communicator = MPICommunicator(timeout=3)
    for step in range(5):
        if step == 3 and communicator.rank == 1:
            fail(how)
        communicator.all_reduce(np.ones(1000))
    Path(path).write_text('"finished"')


def fail(how: str) -> None:
    match how:
        case "raise":
            raise ArithmeticError("the reason on rank 1")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "exit":
            sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
