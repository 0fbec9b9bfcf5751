"""Training on many processes, on one machine or on many: MPI or NCCL under the same step.

    communicator = MPICommunicator()        # in every process that mpiexec or Slurm started
    step = make_data_parallel_step(net, loss, opt, communicator)

Every rank holds the same parameters, computes the gradient of its share of each batch, and does the same
update. The result is that of one process, to rounding.
"""

from anyprop.distributed.communicator import Communicator, any_rank
from anyprop.distributed.data_parallel import (
    DataParallelStep,
    broadcast_parameters,
    make_data_parallel_step,
)
from anyprop.distributed.mpi import MPICommunicator
from anyprop.distributed.nccl import NCCLCommunicator
from anyprop.distributed.serial import SerialCommunicator
from anyprop.distributed.shards import shares
from anyprop.distributed.sync_batch_norm import SyncBatchNorm, synchronized

__all__ = [
    "Communicator",
    "DataParallelStep",
    "MPICommunicator",
    "NCCLCommunicator",
    "SerialCommunicator",
    "SyncBatchNorm",
    "any_rank",
    "broadcast_parameters",
    "make_data_parallel_step",
    "shares",
    "synchronized",
]
