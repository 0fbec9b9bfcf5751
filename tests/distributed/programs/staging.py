"""Reduce an array of a GPU, which `fake_cupy` simulates, and write down the order of operations.

python staging.py RESULT.json
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import fake_cupy
from anyprop.distributed import MPICommunicator


def main(path: str) -> None:
    with fake_cupy.installed() as cupy:
        calls = {"staged": order(cupy, False), "aware": order(cupy, True)}
    Path(path).write_text(json.dumps(calls))


def order(cupy: object, cuda_aware: bool) -> list[str]:
    communicator = MPICommunicator(cuda_aware=cuda_aware)

    def reduce(in_place: object, memory: object) -> None:
        on_host = not isinstance(memory, fake_cupy.Array)
        cupy.log.append(f"Allreduce on the {'host' if on_host else 'gpu'}")
        if on_host:
            memory *= 2

    communicator._world = SimpleNamespace(Allreduce=reduce)
    cupy.log.clear()
    for n in (5, 3, 7):
        array = fake_cupy.put(np.arange(n, dtype="float32"))
        assert communicator.all_reduce(array) is array
        expected = np.arange(n) * (1 if cuda_aware else 2)
        np.testing.assert_array_equal(array.view(np.ndarray), expected)
    return list(cupy.log)


if __name__ == "__main__":
    main(sys.argv[1])
