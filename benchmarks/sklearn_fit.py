"""`fit` of scikit-learn's MLPClassifier and of anyprop's: time, memory, accuracy.

    python -m benchmarks.sklearn_fit --out benchmarks/results/sklearn_fit.json

The two take turns, each fit in a process of its own, so that neither finds the other's memory or warm
caches. Time is that of `fit` alone. Memory is reported twice, on Linux only: by how much `fit`
raises what the process holds, libraries imported and loops compiled, and the peak of the whole
process, in which the libraries (numba among them) and the data count. Ends with an error if the two
do not reach the same accuracy. Needs the extra [sklearn].
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTESTANTS = {"scikit-learn": "sklearn.neural_network", "anyprop": "anyprop.sklearn"}
TASKS: dict[str, dict[str, Any]] = {
    "MNIST": {
        "data": "MNIST, 60,000 rows of 784 numbers, float32",
        "options": {"hidden_layer_sizes": (200, 200), "batch_size": 200, "max_iter": 3},
        "fits": 1,
    },
    "iris": {
        "data": "iris, 150 rows of 4 numbers, float64",
        "options": {"max_iter": 200},
        "fits": 5,
    },
}
# Two networks from the same start, in another rounding: how far their accuracies may differ.
CLOSE = {"MNIST": 0.005, "iris": 0.02}


def load(task: str) -> tuple[Any, Any, Any, Any]:
    """Load the rows to train on and those to test with."""
    if task == "MNIST":
        import anyprop as ap

        (X, y), (X_test, y_test) = ap.load_mnist()
        return X, y, X_test, y_test
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    return X, y, X, y


def measure(task: str, contestant: str) -> dict[str, float]:
    """Fit in this process."""
    X, y, X_test, y_test = load(task)
    module = importlib.import_module(CONTESTANTS[contestant])
    warnings.simplefilter("ignore")
    # Imports, and what is set up once, are not part of the fit; a shorter one would be done uncompiled.
    options = TASKS[task]["options"]
    module.MLPClassifier(**options | {"max_iter": 100}).fit(X[:400], y[:400])
    before = forget_peak()
    seconds = []
    for _ in range(TASKS[task]["fits"]):
        model = module.MLPClassifier(random_state=0, **options)
        began = time.perf_counter()
        model.fit(X, y)
        seconds.append(time.perf_counter() - began)
    return {
        "seconds": statistics.median(seconds),
        "megabytes": megabytes("VmHWM") - before,
        "process megabytes": megabytes("VmHWM"),
        "accuracy": float(model.score(X_test, y_test)),
        "loss": float(model.loss_),
    }


def forget_peak() -> float:
    """Reset the peak, and return the memory that the process holds, in MB."""
    gc.collect()
    if sys.platform == "linux":
        # Memory that was freed, but not returned, would hide what the fit takes.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return megabytes("VmRSS")


def megabytes(field: str) -> float:
    """Read a field of the process's status; NaN where there is none."""
    if sys.platform != "linux":
        return math.nan
    status = Path("/proc/self/status").read_text()
    (kib,) = re.findall(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024 / 1e6


def in_a_process(task: str, contestant: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sklearn_fit", "--one", task, contestant]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure in turn, print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="fits of each (default: 5)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--out", type=Path, help="where to write the numbers, as JSON")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return

    results: dict[str, Any] = {task: {name: [] for name in CONTESTANTS} for task in arguments.tasks}
    for task in arguments.tasks:
        for i in range(arguments.repeats):
            order = list(CONTESTANTS) if i % 2 == 0 else list(CONTESTANTS)[::-1]
            for name in order:
                results[task][name].append(in_a_process(task, name))

    heads = f"{'seconds':>9}{'MB':>8}{'process MB':>12}{'accuracy':>10}{'times as fast':>15}"
    print(f"{'':<8}{'':<14}{heads}")
    summary = {}
    for task, of_task in results.items():
        median = {
            name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for name, runs in of_task.items()
        }
        summary[task] = median
        for name, row in median.items():
            ratio = median["scikit-learn"]["seconds"] / row["seconds"]
            print(
                f"{task:<8}{name:<14}{row['seconds']:>9.3f}{row['megabytes']:>8.1f}"
                f"{row['process megabytes']:>12.0f}{row['accuracy']:>10.4f}{ratio:>15.2f}"
            )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "tasks": TASKS, "median": summary, "runs": results}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for task, median in summary.items():
        ours, theirs = median["anyprop"]["accuracy"], median["scikit-learn"]["accuracy"]
        if abs(ours - theirs) > CLOSE[task]:
            sys.exit(f"{task}: accuracies differ: {ours:.4f} and {theirs:.4f}.")


def machine() -> dict[str, Any]:
    """Return the machine that the numbers were measured on."""
    packages = ("anyprop", "numba", "numpy", "scikit-learn", "scipy")
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    versions = {p: importlib.metadata.version(p) for p in packages if p in installed}
    threads = {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "threads": threads,
    }


if __name__ == "__main__":
    main()
