"""A file larger than the memory
=============================

Trains from a file of 1.2 GB in a process that may allocate 0.3 GB.

.. code-block:: sh

    python examples/file_larger_than_memory.py

The digits of MNIST, each in 25 places of its picture, are written to a file as bytes; as float32 they
would take four times as much. A process of its own, whose memory the system limits, maps the file and
trains from it by a ``Source``. Draws file_larger_than_memory.png; fails where the process needs more.
On Linux only: elsewhere a process cannot be limited in this way.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import anyprop as ap
from anyprop.plotting import COLOURS

MB = 1_000_000
LIMIT = 300 * MB

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", type=Path, default=Path(), help="folder for the plot (default: here)")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
if not sys.platform.startswith("linux"):
    sys.exit("file_larger_than_memory.py needs Linux, which limits the memory of a process.")

# %%
# The file, written one place at a time: 25 times 60,000 pictures. It is mixed, as MNIST is.

folder = Path(tempfile.mkdtemp())
(x, t), (xv, tv) = ap.load_mnist(normalize=False, flatten=False)
images = x.astype("uint8")[:, 0]
places = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
shape = (len(places) * len(images), 784)
file = np.lib.format.open_memmap(folder / "x.npy", "w+", "uint8", shape)
for i, place in enumerate(places):
    rows = slice(i * len(images), (i + 1) * len(images))
    file[rows] = np.roll(images, place, axis=(1, 2)).reshape(-1, 784)
del file
np.save(folder / "t.npy", np.tile(t, len(places)))
np.savez(folder / "test.npz", x=xv.reshape(-1, 784).astype("uint8"), t=tv)
size = (folder / "x.npy").stat().st_size

# %%
# What the limited process does. ``RLIMIT_DATA`` limits what it allocates: all memory that belongs to no
# file. The pages of a mapped file are the system's cache, which takes them back where it needs the room;
# they are counted apart. So a process that reads a mapped file looks as large as the file, though what
# it holds is small.

PROGRAM = """
import json, resource, sys
from pathlib import Path
import numpy as np
import anyprop as ap

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.load(folder / "x.npy")
except MemoryError as error:
    print("np.load:", error)

class Memory(ap.Callback):
    curve = []

    def on_report(self, run):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        kinds = [int(status[kind].split()[0]) * 1024 for kind in ("RssAnon", "RssFile")]
        self.curve.append((run.step, *kinds))

x, t = (np.load(folder / name, mmap_mode="r") for name in ("x.npy", "t.npy"))
net = ap.Sequential(ap.Rescale(1 / 255), *ap.MLP([784, 200, 200, 10]).layers)
loss, optimizer = ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=1e-3)
result = ap.fit(
    net,
    net.init(seed=8),
    ap.Source((x, t)),
    loss=loss,
    optimizer=optimizer,
    steps=2000,
    report_every=50,
    callbacks=[Memory()],
)
test = np.load(folder / "test.npz")
accuracy = ap.evaluate(net, result.params, (test["x"], test["t"]), loss=loss).accuracy
print(f"test accuracy after {len(result.history.losses)} steps: {accuracy:.1%}")
(folder / "memory.json").write_text(json.dumps(Memory.curve))
"""

# %%
# One thread for the matrix products: each further one reserves memory for itself.

environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
done = subprocess.run(
    [sys.executable, "-c", PROGRAM, folder, str(LIMIT)],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
)
print(f"the file: {size / MB:,.0f} MB; the limit: {LIMIT / MB:,.0f} MB")
print(done.stdout, end="")
curve = [] if done.returncode else json.loads((folder / "memory.json").read_text())
shutil.rmtree(folder)
if done.returncode:
    sys.exit("the process failed.")

# %%
# Its memory while it trains. Some 200,000 rows were read, from everywhere in the file.

steps, own, of_file = np.asarray(curve).T
print(f"at most {own.max() / MB:,.0f} MB of its own, {of_file.max() / MB:,.0f} MB of the cache")

figure = Figure(figsize=(7.0, 3.6), layout="constrained")
axes = figure.subplots()
for height, text in ((size, "the file"), (LIMIT, "the limit")):
    axes.axhline(height / MB, color="0.4", linestyle=":")
    axes.annotate(text, (steps[-1], height / MB), (0, 3), textcoords="offset points", ha="right")
axes.plot(
    steps, of_file / MB, color=COLOURS[0], label="pages of files, which the system may take back"
)
axes.plot(steps, own / MB, color=COLOURS[1], label="memory of its own")
axes.set(xlabel="step", ylabel="MB", ylim=(0, 1.25 * size / MB))
axes.legend(frameon=False, loc="center right")
axes.grid(alpha=0.25, linewidth=0.6)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(out / "file_larger_than_memory.png", dpi=150)
