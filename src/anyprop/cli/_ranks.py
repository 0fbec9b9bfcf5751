"""A command on the ranks of an MPI job: they begin together, and only rank 0 prints."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from anyprop._checks import unknown
from anyprop.cli._parser import WrongCallError, wrong_calls
from anyprop.distributed import (
    Communicator,
    MPICommunicator,
    NCCLCommunicator,
    SerialCommunicator,
    any_rank,
)


def add_distributed(group: argparse._ArgumentGroup) -> None:
    """Add `--distributed`."""
    group.add_argument(
        "--distributed",
        metavar="mpi|nccl",
        help="train on the processes that mpiexec or Slurm started this command in, each on its share "
        "of every batch; nccl needs --backend cupy and a GPU for each",
    )


def connect(args: argparse.Namespace) -> Communicator:
    """Connect this process to the others as `--distributed` says."""
    with wrong_calls():
        if args.distributed is None:
            return SerialCommunicator()
        if args.distributed == "mpi":
            return MPICommunicator()
        if args.distributed != "nccl":
            raise unknown("--distributed", args.distributed, ("mpi", "nccl"))
        if args.backend != "cupy":
            raise WrongCallError("--distributed nccl needs --backend cupy")
        return NCCLCommunicator()


@contextlib.contextmanager
def wrong_calls_on(communicator: Communicator) -> Iterator[None]:
    """Like `wrong_calls`, on all ranks: if one cannot go on, none does, and rank 0 says why."""
    problem = ""
    try:
        with wrong_calls():
            yield
    except WrongCallError as error:
        problem = str(error)
    problems = communicator.gather(problem)
    if any_rank(communicator, bool(problem)):
        if problems is None:
            raise WrongCallError("rank 0 says why")
        rank, told = next((rank, told) for rank, told in enumerate(problems) if told)
        alike = set(problems) == {told}
        raise WrongCallError(told if alike else f"rank {rank}: {told}")
