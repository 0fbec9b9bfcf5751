"""Ctrl-C reaches one rank only, in the middle of a fit; every rank writes what it has then.

mpiexec -n 2 python interrupt.py RESULT-OF-RANK-%d.npz
"""

import os
import signal
import sys

import numpy as np

import anyprop as ap
from anyprop.distributed import MPICommunicator
from parallel_cases import CASES


class Interrupt(ap.Callback):
    def on_report(self, run: ap.Run) -> None:
        if run.step == 40:
            os.kill(os.getpid(), signal.SIGINT)


def main(path: str) -> None:
    communicator = MPICommunicator(timeout=30)
    case = CASES["everything"]
    x, t, _ = case.data()
    result = ap.fit(
        case.net,
        case.net.init(dtype="float64"),
        (x, t),
        loss=case.loss,
        optimizer=case.opt,
        steps=10_000,
        batch_size=11,
        report_every=10,
        callbacks=[Interrupt()],
        communicator=communicator,
    )
    numbers = {"interrupted": result.interrupted, "losses": result.history.losses}
    np.savez(path % communicator.rank, flat=result.params.flat, **numbers)


if __name__ == "__main__":
    main(sys.argv[1])
