"""A sweep that catches the errors of its trainings: some fail on one rank alone, and it goes on."""

import json
import sys

import anyprop as ap
from anyprop.distributed import MPICommunicator
from parallel_cases import CASES

communicator = MPICommunicator(timeout=20) if __name__ == "__main__" else None
bad = communicator is not None and communicator.rank == 1


def batches(n, batch_size, epoch):
    if bad and epoch == 2:
        raise LookupError("own")
    return ap.batch_indices(n, batch_size, seed=3, epoch=epoch)


def attempt(**options):
    try:
        return len(CASES["plain"].fit(communicator, **options)["losses"])
    except (ValueError, LookupError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    told = [
        attempt(**({"batch_size": 0} if bad else {})),
        attempt(batches=batches),
        attempt(steps=5),
    ]
    everyone = communicator.gather(told)
    if communicator.rank == 0:
        with open(sys.argv[1], "w") as file:
            json.dump(everyone, file)
