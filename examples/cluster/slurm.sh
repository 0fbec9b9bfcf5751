#!/bin/bash
# Train on 2 nodes with 8 GPUs each, one process for a GPU:    sbatch examples/cluster/slurm.sh
#
# On CPUs: leave out --gpus-per-node, set --ntasks-per-node to the cores (or to the sockets, with
# --cpus-per-task), and replace the last line by   srun anyprop train --distributed mpi ...
#
# The environment must have mpi4py for the cluster's own MPI: load its module, then in a clone of anyprop
#     pip install ".[cli,cuda13,mpi]" nvidia-nccl-cu13
# Training with NCCL has not been run on GPUs yet.

#SBATCH --job-name=anyprop
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@120    # two minutes before the time is up, to write a checkpoint

# Submit it again to continue from the checkpoint; without one it starts from the beginning.

set -euo pipefail

# One thread for the linear algebra of each process and each of its cores; more would be in each
# other's way.
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# --kill-on-bad-exit: when one process fails, the others end too.
srun --kill-on-bad-exit=1 \
    anyprop train --distributed nccl --backend cupy --epochs 20 --batch-size 4096 \
    --checkpoint-every 500 --resume --or-start --out runs/cluster --no-progress
