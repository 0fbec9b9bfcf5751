"""Train on several processes
==========================

Train a network on MNIST on all processes of an MPI job, with the result of one.

.. code-block:: sh

    pip install ".[cli,mpi]" mpich                               # in a clone of anyprop
    mpiexec -n 2 python examples/distributed_mnist.py
    mpiexec -n 8 python examples/distributed_mnist.py --nccl     # on 8 GPUs, with CuPy; not run yet

Every process runs this script. Rank 0 prints the loss and the accuracy on the test images, and draws the
loss curve into distributed_mnist.png; `examples/cluster` has scripts for Slurm and Kubernetes.
"""

import argparse
from pathlib import Path

import anyprop as ap
from anyprop.distributed import MPICommunicator, NCCLCommunicator

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
parser.add_argument("--nccl", action="store_true", help="one GPU for each process, with CuPy")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

communicator = NCCLCommunicator() if args.nccl else MPICommunicator()
xp = ap.get_namespace("cupy" if args.nccl else "numpy")

(x, t), (xv, tv) = ap.load_mnist(xp=xp)
net = ap.MLP([784, 200, 200, 10], activation="relu")
params = net.init(seed=8, xp=xp)
loss = ap.SoftmaxCrossEntropy()

result = ap.fit(
    net,
    params,
    (x, t),
    loss=loss,
    optimizer=ap.RMSProp(lr=1e-3),
    epochs=3,
    validation=(xv, tv),
    communicator=communicator,
)
measured = ap.evaluate(net, result.params, (xv, tv), loss=loss, communicator=communicator)
if communicator.rank == 0:
    print(f"{communicator.size} ranks: test loss {measured.loss:.4f}, ", end="")
    print(f"test accuracy {measured.accuracy:.2%}")
    figure = ap.plot_history({"RMSProp": result.history})
    figure.savefig(args.out / "distributed_mnist.png", dpi=150)
