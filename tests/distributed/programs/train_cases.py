"""Train every case on all ranks; rank 0 writes the results.

mpiexec -n 2 python train_cases.py RESULT.npz
"""

import sys

import numpy as np

from anyprop.distributed import MPICommunicator, any_rank
from parallel_cases import CASES, mean_of_means


def main(path: str) -> None:
    communicator = MPICommunicator(timeout=60)
    results = {"size": np.asarray(communicator.size)}
    for name, case in CASES.items():
        for key, array in case.on_rank(communicator).items():
            results[f"{name}/{key}"] = array
            drifted = not np.array_equal(communicator.broadcast(array.copy()), array)
            assert not any_rank(communicator, drifted), f"{name}: replicas differ in {key}"
    wrong = CASES["plain"].on_rank(communicator, step=mean_of_means(CASES["plain"], communicator))
    results["mean of means"] = wrong["flat"]
    ranks = communicator.gather((communicator.rank, communicator.local_rank))
    if ranks is not None:
        assert ranks == [(r, r) for r in range(communicator.size)], ranks
        np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
