"""Training from files against training from memory: time, memory, and whether the numbers are the same.

    python -m benchmarks.streams --out benchmarks/results/streams.json

MNIST's 60,000 rows of 784 numbers, a network 784-200-200-10 whose first layer is `Rescale(1 / 255)`,
RMSProp, batches of 100. On each backend x is in memory as float32; in memory as uint8; a `Source` of a
memory-mapped file of uint8; a `Source` of gzipped HDF5 in chunks of 64 rows, of which 256 together are
shuffled. They take turns, each in a process of its own that trains for some epochs; the first, with
compilation and a cold page cache, does not count. Memory is anonymous memory at its highest, less what
the process held before it had data. Pages of a mapped file are the system's cache, which it gives up at
need, and do not count. Last comes a file of 300 MB against one of 3 MB.

Ends with exit code 1 if the losses of rows in the same order are not the same bit for bit, or if a
goal is missed (`GOALS`, `LEAST_SAVED`, `MOST_GROWN`). With `--before SRC`, the folder src of an earlier
version, training from memory is compared with that too, without Rescale, and should take as long
(`AS_BEFORE`). Memory is measured on Linux only; HDF5 needs h5py.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
WAYS = {
    "memory": "float32 in memory",
    "uint8": "uint8 in memory",
    "memmap": "memory-mapped uint8",
    "hdf5": "gzipped HDF5, in blocks",
}
SAME_ORDER = ("memory", "uint8", "memmap")
BACKENDS = ("numpy", "jax", "torch")
# How many times as long an epoch may take as one from float32 in memory.
GOALS = {("numpy", "memmap"): 1.15, ("jax", "memmap"): 1.15}
GOALS |= {("numpy", "hdf5"): 1.7, ("jax", "hdf5"): 1.7}
LEAST_SAVED = 0.5  # the memory on NumPy, as a share of that with float32 in memory
MOST_GROWN = 60.0  # MB, from a file of 3 MB to one of 300
AS_BEFORE = 1.02  # times as long as an earlier version


def main(argv: list[str] | None = None) -> int:
    """Measure in turns, print the table, write the numbers, and judge them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="numpy and jax")
    parser.add_argument("--way", action="append", choices=WAYS, help="all")
    parser.add_argument("--turns", type=int, default=3, help="processes of each (default: 3)")
    parser.add_argument("--epochs", type=int, default=4, help="of each process (default: 4)")
    parser.add_argument("--before", type=Path, metavar="SRC", help="an earlier version's src")
    parser.add_argument("--out", type=Path, help="where to write the numbers, as JSON")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        way, backend, folder, epochs = args.one
        print(json.dumps(job(way)(way, backend, Path(folder), int(epochs))))
        return 0

    backends, ways = args.backend or ["numpy", "jax"], args.way or list(WAYS)
    if "hdf5" in ways and importlib.util.find_spec("h5py") is None:
        print("not measured: HDF5 (h5py is not installed)")
        ways.remove("hdf5")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, hdf5="hdf5" in ways)
        for backend in backends:
            found[backend] = in_turns(
                {way: one(way, backend, folder, args.epochs) for way in ways}, args.turns
            )
            show(backend, found[backend])
        grown = grows(one, backends, folder)
        before = None
        if args.before is not None:
            plain = one("plain", "numpy", folder, args.epochs)
            earlier = one("plain", "numpy", folder, args.epochs, src=args.before.resolve())
            before = in_turns({"before": earlier, "now": plain}, args.turns)
            ratio = before["now"]["seconds"] / before["before"]["seconds"]
            print(f"from memory, without Rescale: {ratio:.3f} times as long as before")
    wrong = judged(found, grown, before)
    if args.out:
        save(args.out, found, grown, before)
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


def save(path: Path, found: Any, grown: Any, before: Any) -> None:
    """Write the numbers; what the file has of other backends stays."""
    machine: Any = importlib.import_module("benchmarks.machine")
    earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content = {
        "about": machine.describe([], "cpu") | {"command": "python -m benchmarks.streams"},
        "epochs": earlier.get("epochs", {}) | found,
        "growth": earlier.get("growth", {}) | grown,
        "before": before or earlier.get("before"),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_data(folder: Path, *, hdf5: bool, rows: int = 60_000) -> None:
    """Write the first rows of MNIST in the forms that are compared."""
    import anyprop as ap

    (x, t), _ = ap.load_mnist(normalize=False)
    x, t = np.asarray(x[:rows], "uint8"), np.asarray(t[:rows])
    np.save(folder / "t.npy", t)
    np.save(folder / "uint8.npy", x)
    np.save(folder / "memory.npy", x.astype("float32"))
    if hdf5:
        with importlib.import_module("h5py").File(folder / "data.h5", "w") as file:
            options = {"compression": "gzip", "compression_opts": 4}
            file.create_dataset("x", data=x, chunks=(64, 784), **options)
            file.create_dataset("t", data=t, chunks=(64,))
    for megabytes in (3, 300):  # with holes, that take no place on the disk
        shape = (megabytes * 1_000_000 // 784, 784)
        np.lib.format.open_memmap(folder / f"{megabytes}.npy", "w+", "uint8", shape).flush()


def trained(way: str, backend: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Train from data that are given in some way, in this process."""
    import anyprop as ap

    net, params = _network(ap, backend)
    with contextlib.ExitStack() as opened, peak() as highest:
        data = _given(ap, way, backend, folder, opened)
        result = ap.fit(net, params, data, epochs=epochs, **_options(ap))
    records = result.history.epochs[1:]
    return {
        "seconds": statistics.median(record.seconds for record in records),
        "waited": statistics.median(getattr(record, "waited", None) or 0.0 for record in records),
        "megabytes": highest(),
        "loss": result.history.losses[-1],
    }


def _network(ap: Any, backend: str, *, plain: bool = False) -> tuple[Any, Any]:
    net = ap.MLP([784, 200, 200, 10])
    if not plain:
        net = ap.Sequential(ap.Rescale(1 / 255), *net.layers)
    params = net.init(seed=8, xp=backend)
    _ = float(params.flat[0])  # what a library sets up for its first array is not the data's
    return net, params


def _options(ap: Any) -> dict[str, Any]:
    return {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.RMSProp(lr=1e-3), "seed": 1}


def _given(ap: Any, way: str, backend: str, folder: Path, opened: contextlib.ExitStack) -> Any:
    if way == "hdf5":
        file = opened.enter_context(importlib.import_module("h5py").File(folder / "data.h5"))
        return ap.Source((file["x"], file["t"]), block=256)
    t = np.load(folder / "t.npy")
    if way == "memmap":
        return ap.Source((np.load(folder / "uint8.npy", mmap_mode="r"), t))
    x = np.load(folder / f"{way}.npy")
    return ap.from_host(x, backend), ap.from_host(t, backend)


def trained_plain(way: str, backend: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Train from float32 in memory as every version could."""
    import anyprop as ap

    net, params = _network(ap, backend, plain=True)
    x, t = np.load(folder / "memory.npy") / np.float32(255), np.load(folder / "t.npy")
    result = ap.fit(net, params, (x, t), epochs=epochs, **_options(ap))
    return {"seconds": statistics.median(record.seconds for record in result.history.epochs[1:])}


def grown(way: str, backend: str, folder: Path, steps: int) -> dict[str, Any]:
    """Train from a file that is called by its megabytes."""
    import anyprop as ap

    net, params = _network(ap, backend)
    with peak() as highest:
        x = np.load(folder / f"{way}.npy", mmap_mode="r")
        t = np.zeros(len(x), "uint8")
        ap.fit(net, params, ap.Source((x, t)), steps=steps, **_options(ap))
    return {"megabytes": highest()}


def job(way: str) -> Callable[..., dict[str, Any]]:
    """Return the function that measures a way."""
    others = {"plain": trained_plain, "3": grown, "300": grown}
    return others.get(way, trained)


@contextlib.contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """Watch the process's anonymous memory; what is returned reads its rise in MB, afterwards."""
    before, highest, done = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: highest[0] - before
    finally:
        done.set()
        watcher.join()


def anonymous() -> float:
    """Return the anonymous memory of this process in MB; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    (kib,) = re.findall(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024 / 1e6


def one(
    way: str, backend: str, folder: Path, epochs: int, *, src: Path | None = None
) -> Callable[[], dict[str, Any]]:
    """Return what measures one way in a process of its own."""
    words = ["--one", way, backend, str(folder), str(epochs)]
    command = [sys.executable, "-m", "benchmarks.streams", *words]
    environment = dict(os.environ) if src is None else os.environ | {"PYTHONPATH": str(src)}

    def measured() -> dict[str, Any]:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment
        )
        numbers: dict[str, Any] = json.loads(done.stdout)
        return numbers

    return measured


def in_turns(jobs: dict[str, Callable[[], dict[str, Any]]], turns: int) -> dict[str, Any]:
    """Measure each job so many times, in an order that changes; return medians, and all results."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    for turn in range(turns):
        for name in list(jobs)[:: 1 if turn % 2 == 0 else -1]:
            runs[name].append(jobs[name]())
    return {
        name: {key: statistics.median(run[key] for run in of) for key in of[0]} | {"runs": of}
        for name, of in runs.items()
    }


def grows(measure: Callable[..., Any], backends: list[str], folder: Path) -> dict[str, float]:
    """Return by how many MB the memory of a run grows from a file of 3 MB to one of 300."""
    steps, grown = 700, {}  # some portions of the large file
    for backend in backends:
        small, large = (measure(size, backend, folder, steps)() for size in ("3", "300"))
        grown[backend] = large["megabytes"] - small["megabytes"]
        print(f"{backend}: from a file of 300 MB, {grown[backend]:+.1f} MB against one of 3 MB")
    return grown


def show(backend: str, found: dict[str, Any]) -> None:
    """Print the table of a backend."""
    heads = f"{'s an epoch':>11}{'ratio':>8}{'waits':>8}{'MB':>7}"
    print(f"{backend:<26}{heads}")
    for way, row in found.items():
        ratio = row["seconds"] / found["memory"]["seconds"] if "memory" in found else float("nan")
        share = row["waited"] / row["seconds"]
        print(
            f"{WAYS[way]:<26}{row['seconds']:>11.3f}{ratio:>8.2f}{share:>8.0%}{row['megabytes']:>7.0f}",
            flush=True,
        )


def judged(found: dict[str, Any], grown: dict[str, float], before: Any) -> list[str]:
    """Say what is not as it should be."""
    wrong = []
    for backend, of in found.items():
        losses = {run["loss"] for way in SAME_ORDER if way in of for run in of[way]["runs"]}
        if len(losses) > 1:
            wrong.append(f"{backend}: losses differ: {sorted(losses)}")
        if "memory" not in of:
            continue
        for way, row in of.items():
            most, ratio = GOALS.get((backend, way)), row["seconds"] / of["memory"]["seconds"]
            if most is not None and ratio > most:
                wrong.append(f"{backend}, {WAYS[way]}: {ratio:.2f} times as long, {most} at most")
    of = found.get("numpy", {})
    if "memory" in of and "memmap" in of:
        share = of["memmap"]["megabytes"] / (of["memory"]["megabytes"] or 1.0)
        if share > LEAST_SAVED:
            wrong.append(f"numpy: {share:.0%} of the memory, {LEAST_SAVED:.0%} at most")
    for backend, more in grown.items():
        if more > MOST_GROWN:
            wrong.append(f"{backend}: memory grows by {more:.0f} MB, {MOST_GROWN:.0f} at most")
    if before is not None:
        ratio = before["now"]["seconds"] / before["before"]["seconds"]
        if ratio > AS_BEFORE:
            wrong.append(f"from memory: {ratio:.3f} times as long as before, {AS_BEFORE} at most")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
