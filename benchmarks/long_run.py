"""Many steps of one training run: does memory grow, do steps become slower?

    python -m benchmarks.long_run --out benchmarks/results/long_run.json

A small network learns one batch by heart, so that its gradients fade; after 25,000 steps, when a
compiled step has its loops if numba is installed, a tenth of its hidden units die, so that what the
optimizer remembers of them fades too. Below 1.2e-38 float32 has only subnormal numbers, which take many
processors a hundred times as long. For each optimizer, with eager and with compiled steps, this
compares the network as it was before the units died with that of the end: the memory of the process,
the share of subnormal numbers among parameters, state and gradients, and the median processor time of a
step, for which both take turns after the run, since other programs slow down a minute or two, but
seldom every other turn. Ends with exit code 1 if memory grows by more than 1 MiB, or if steps become
more than a fifth slower.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import anyprop as ap
from anyprop import _tree
from benchmarks.machine import describe

OPTIMIZERS = {
    "rmsprop": ap.RMSProp(lr=1e-3),
    "momentum": ap.Momentum(lr=1e-2),
    "adam": ap.Adam(lr=1e-3),
}
WAYS = ("eager", "compiled")
DEATH = 25_000
TURNS, WARM, TIMED = 40, 20, 200  # steps of a turn that are done before, and that are timed


def main() -> int:
    """Run all combinations, print a line for each, and judge them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--optimizer", action="append", choices=OPTIMIZERS)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.steps <= DEATH:
        parser.error(f"--steps must be more than {DEATH}, not {args.steps}")
    runs = []
    for name in args.optimizer or OPTIMIZERS:
        for way in args.way or WAYS:
            runs.append(
                {"optimizer": name, "way": way, **measure(OPTIMIZERS[name], way, args.steps)}
            )
            print(line(runs[-1]), flush=True)
    if args.out:
        described = describe([], "cpu")
        found = {
            "steps": args.steps,
            "versions": described["versions"],
            "machine": described["machine"],
            "runs": runs,
        }
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    bad = [run for run in runs if run["ratio"] > 1.2 or run["grown_bytes"] > 2**20]
    for run in bad:
        print(f"drifts: {run['optimizer']}, {run['way']}", file=sys.stderr)
    return bool(bad)


def measure(opt: Any, way: str, steps: int) -> dict[str, Any]:
    """Train for so many steps, and compare the network before the units die with that of the end."""
    net, loss = ap.MLP([20, 64, 64, 4]), ap.SoftmaxCrossEntropy()
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((32, 20)).astype("float32"), rng.integers(0, 4, 32)
    params = net.init(seed=1)
    state = opt.init(params)
    eager = ap.make_step(net, loss, opt)
    step = eager if way == "eager" else ap.compile(eager)
    memory, share = {}, {}
    for i in range(1, steps + 1):
        params, state, value = step(params, state, x, t)
        if i == DEATH:
            before = params.copy(), state.copy()
        if i in (DEATH, steps):
            gc.collect()
            memory[i] = _resident()
            _, grads = ap.value_and_grad(net, loss)(params, x, t)
            share[i] = _subnormal(params.flat, grads.flat, *_tree.leaves(state.slots))
        if i == DEATH:
            params[0].b[::10] = -100.0
    first, last = _times(step, (x, t), [before, (params.copy(), state.copy())])
    return {
        "before_us": first / 1e3,
        "last_us": last / 1e3,
        "ratio": last / first,
        "grown_bytes": memory[steps] - memory[DEATH],
        "subnormal": share[steps],
        "loss": float(value),
    }


def _times(step: Any, batch: Any, starts: list[Any]) -> list[float]:
    """Measure steps from each start in turns; return the median processor time of a step, in ns."""
    times: list[list[int]] = [[] for _ in starts]
    for _ in range(TURNS):
        for of_start, (params, state) in zip(times, starts, strict=True):
            params, state = params.copy(), state.copy()
            for i in range(WARM + TIMED):
                start = time.thread_time_ns()
                params, state, _ = step(params, state, *batch)
                if i >= WARM:
                    of_start.append(time.thread_time_ns() - start)
    return [float(np.median(of_start)) for of_start in times]


def _subnormal(*arrays: np.ndarray) -> float:
    """Return the share of subnormal numbers."""
    a = np.abs(np.concatenate([np.ravel(array) for array in arrays]))
    return float(np.mean((a > 0.0) & (a < np.finfo(a.dtype).smallest_normal)))


def _resident() -> int:
    """Return the bytes of the process that are in memory (Linux; 0 elsewhere)."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def line(run: dict[str, Any]) -> str:
    """Write a run in one line."""
    return (
        f"{run['optimizer']:9} {run['way']:9} {run['before_us']:7.1f} us -> {run['last_us']:7.1f} us "
        f"({run['ratio']:.2f})  memory {run['grown_bytes']:+,} bytes  loss {run['loss']:.2g}  "
        f"subnormal {run['subnormal']:.1%}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
