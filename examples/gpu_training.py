"""Train on a GPU with CuPy
========================

Train on a GPU with CuPy: the data stay on the device, and the time is taken properly.

.. code-block:: sh

    python examples/gpu_training.py

Loads MNIST onto the GPU once, trains with `fit`, and then times single steps between CUDA events,
because a call returns before the GPU has done its work. Prints steps per second on GPU and CPU and
the test accuracy. Says why, and ends with code 2, where no GPU can be used.
"""

import sys
import time

import anyprop as ap

(cupy_backend,) = ap.available_backends(only=["cupy"])
if not cupy_backend.available:
    print(f"this example needs a GPU: {cupy_backend.reason}", file=sys.stderr)
    sys.exit(2)

import cupy

TIMED = 200
net, loss, optimizer = ap.MLP([784, 200, 200, 10]), ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=1e-3)


def prepared(xp):
    """Make parameters, optimizer state and one batch on a backend, and the step over them."""
    (x, t), _ = ap.load_mnist(xp=xp)
    params = net.init(seed=8, xp=xp)
    return ap.make_step(net, loss, optimizer), params, optimizer.init(params), x[:100], t[:100]


def seconds_on_gpu():
    """Time steps on the GPU, between two events of its stream."""
    step, params, state, x, t = prepared("cupy")
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    for i in range(-20, TIMED):  # the first compile kernels
        if i == 0:
            start.record()
        params, state, _ = step(params, state, x, t)
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(start, end) / 1000


def seconds_on_cpu():
    """Time the same steps on NumPy."""
    step, params, state, x, t = prepared("numpy")
    began = time.perf_counter()
    for _ in range(TIMED):
        params, state, _ = step(params, state, x, t)
    return time.perf_counter() - began


(x, t), (xv, tv) = ap.load_mnist(xp="cupy")
result = ap.fit(net, net.init(seed=8, xp="cupy"), (x, t), loss=loss, optimizer=optimizer, epochs=5)
accuracy = ap.evaluate(net, result.params, (xv, tv), loss=loss).accuracy
name = cupy.cuda.runtime.getDeviceProperties(x.device.id)["name"].decode()
print(f"{name}: test accuracy {accuracy:.2%} after 5 epochs")
print(f"GPU {TIMED / seconds_on_gpu():,.0f} steps a second, CPU {TIMED / seconds_on_cpu():,.0f}")
