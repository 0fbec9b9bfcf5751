"""Time data-parallel training on 1 and 2 ranks, and predict it for more.

    pip install -e ".[mpi]" mpich
    python -m benchmarks.scaling               # measures; writes results/scaling.json
    python -m benchmarks.scaling --predict     # writes the documentation's tables from that file

Strong scaling shares one batch among the ranks; weak scaling gives each rank a batch of its own size.
Every run's losses must equal those of one rank on the same batches. The contestants take turns, and
the median of the turns' medians is reported.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import anyprop as ap
from anyprop.distributed import MPICommunicator, make_data_parallel_step, shares

RESULTS = Path(__file__).parent / "results"
NETWORKS = {"784-200-200-10": [784, 200, 200, 10], "784-1000-1000-10": [784, 1000, 1000, 10]}
BATCH = 512
ROWS = (64, 128, 256, 512, 1024)  # batches whose time on one rank the prediction is drawn from
CHECKED, WARM_UP, TIMED, TURNS = 20, 5, 40, 5


# One turn of one contestant, in the processes that mpiexec started.


def work(network: str, batch: int, out: str) -> None:
    """Run some steps in float64 for their losses, and time others in float32; rank 0 writes both."""
    communicator = MPICommunicator(timeout=120)
    losses, _, _ = steps(communicator, NETWORKS[network], batch, "float64", CHECKED)
    _, seconds, size = steps(communicator, NETWORKS[network], batch, "float32", WARM_UP + TIMED)
    message, alone = np.zeros(size + 2, dtype=np.float32), []
    for _ in range(WARM_UP + TIMED):
        communicator.barrier()
        began = time.perf_counter()
        communicator.all_reduce(message)
        alone.append(time.perf_counter() - began)
    if communicator.rank == 0:
        found = {
            "losses": losses,
            "step": statistics.median(seconds[-TIMED:]),
            "fastest": min(seconds[-TIMED:]),
            "all_reduce": statistics.median(alone[-TIMED:]),
            "message_bytes": message.nbytes,
        }
        Path(out).write_text(json.dumps(found))


def steps(
    communicator: MPICommunicator, sizes: list[int], batch: int, dtype: str, count: int
) -> tuple[list[float], list[float], int]:
    """Run compiled steps on one batch; return losses, seconds, and the number of parameters."""
    net, loss, opt = ap.MLP(sizes), ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=1e-3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, sizes[0])).astype(dtype)
    t = rng.integers(0, sizes[-1], batch)
    (mine,) = shares(batch, communicator)
    parts = [{"x": x[mine], "t": t[mine]}]
    step = ap.compile(make_data_parallel_step(net, loss, opt, communicator))
    params = net.init(8, dtype=dtype)
    state = opt.init(params)
    losses, seconds = [], []
    for _ in range(count):
        communicator.barrier()
        began = time.perf_counter()
        params, state, value = step(params, state, parts)
        seconds.append(time.perf_counter() - began)
        losses.append(float(value))
    return losses, seconds, params.size


def turn(ranks: int, network: str, batch: int) -> dict[str, Any]:
    """Start the processes of one turn, each with one thread for its linear algebra."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "turn.json"
        own = [sys.executable, "-m", "benchmarks.scaling", "--work", network, str(batch), str(out)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = ["mpiexec", "-n", str(ranks), *own]
        subprocess.run(command, check=True, timeout=600, env=env, cwd=RESULTS.parents[1])
        found: dict[str, Any] = json.loads(out.read_text())
        return found


# Measuring.


def measure(turns: int) -> dict[str, Any]:
    """Measure all contestants in turns, and compare their losses."""
    runs = [
        {
            "network": n,
            "scaling": scaling,
            "ranks": r,
            "batch": BATCH * (r if scaling == "weak" else 1),
        }
        for n in NETWORKS
        for scaling in ("strong", "weak")
        for r in (1, 2)
    ]
    runs += [
        {"network": n, "scaling": "rows", "ranks": 1, "batch": rows}
        for n in NETWORKS
        for rows in ROWS
    ]
    # The reference of weak scaling on two ranks.
    needed = {(run["ranks"], run["network"], run["batch"]) for run in runs}
    needed |= {(1, network, batch) for _, network, batch in needed}
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in sorted(needed)}
    for i in range(turns):
        for key in found:
            found[key].append(turn(*key))
        print(f"turn {i + 1} of {turns}", file=sys.stderr)
    for (_, network, batch), results in found.items():
        wanted = found[1, network, batch][0]["losses"]
        for result in results:
            np.testing.assert_allclose(result["losses"], wanted, rtol=1e-9)
    for run in runs:
        results = found[run["ranks"], run["network"], run["batch"]]
        run["ms"] = 1e3 * statistics.median(r["step"] for r in results)
        run["fastest_ms"] = 1e3 * min(r["fastest"] for r in results)
        run["all_reduce_ms"] = 1e3 * statistics.median(r["all_reduce"] for r in results)
        run["message_bytes"] = results[0]["message_bytes"]
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return {"machine": machine, "turns": turns, "runs": runs}


def _processor() -> str:
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0].partition(": ")[2] if names else platform.machine()


def table(measured: dict[str, Any]) -> str:
    """Write the measured table in Markdown."""
    lines = [
        "| network | scaling | ranks | batch | step | all-reduce | rows a second | efficiency |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    alone: dict[Any, float] = {}
    for run in measured["runs"]:
        if run["scaling"] == "rows":
            continue
        rate = run["batch"] / run["ms"] * 1e3
        base = alone.setdefault((run["network"], run["scaling"]), rate)
        lines.append(
            f"| {run['network']} | {run['scaling']} | {run['ranks']} | {run['batch']} "
            f"| {run['ms']:.2f} ms | {run['all_reduce_ms']:.2f} ms | {rate:.0f} "
            f"| {rate / base / run['ranks']:.0%} |"
        )
    return "\n".join(lines) + "\n"


# Predicting. The model, for R ranks of b rows each, a message of M bytes, and a link of latency a and
# bandwidth B (Thakur, Rabenseifner & Gropp, "Optimization of collective communication operations in
# MPICH", 2005: reduce-scatter and all-gather by recursive halving and doubling):
#
#     T(b, R) = c b + 2 log2(R) a + 2 (R - 1) / R M / B
#
# c is the least time that a row took in any of the measured steps: other programs only add to it.

# Nominal bandwidths of the standards, and latencies as MPI benchmarks commonly show them.
LINKS = {
    "10 Gbit/s Ethernet, TCP": (30e-6, 1.25e9),
    "100 Gbit/s InfiniBand (HDR100)": (1.5e-6, 12.5e9),
    "400 Gbit/s InfiniBand (NDR)": (1.5e-6, 50e9),
}
PREDICTED = (8, 16, 64, 256, 1024)
PER_RANK = 128
BACKWARD = 2 / 3  # of the computation: the products for dW and dx, beside those of the forward pass


def communication(ranks: int, nbytes: int, latency: float, bandwidth: float) -> float:
    """Predict the seconds of one all-reduce."""
    return 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * nbytes / bandwidth


def predict(measured: dict[str, Any]) -> str:
    """Write the tables of the prediction in Markdown."""
    lines = [
        "<!-- Written by: python -m benchmarks.scaling --predict -->",
        "",
        f"Computation: measured on one core ({measured['machine']['processor']}), NumPy, float32,",
        "compiled step, the least of many times. Communication: predicted.",
    ]
    for network in NETWORKS:
        rows = [r for r in measured["runs"] if r["network"] == network and r["scaling"] == "rows"]
        c = min(r["fastest_ms"] / r["batch"] for r in rows) / 1e3
        nbytes = rows[0]["message_bytes"]
        lines += [
            "",
            f"**{network}**: message {nbytes / 1e6:.2f} MB, computation {c * 1e6:.1f} µs a row",
            "",
            f"| link | ranks | all-reduce | step at {PER_RANK} rows a rank | efficiency | rows a rank "
            "for 90 % | rows a rank that could hide it |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for link, (latency, bandwidth) in LINKS.items():
            for ranks in PREDICTED:
                t = communication(ranks, nbytes, latency, bandwidth)
                compute = c * PER_RANK
                ninety = max(9 * t / c, 1)
                hidden = max(t / BACKWARD / c, 1)
                lines.append(
                    f"| {link} | {ranks} | {t * 1e3:.2f} ms | {(compute + t) * 1e3:.2f} ms "
                    f"| {compute / (compute + t):.0%} | {ninety:.0f} | {hidden:.0f} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the options and run accordingly."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--predict",
        action="store_true",
        help="write the tables of the documentation from results/scaling.json",
    )
    parser.add_argument("--turns", type=int, default=TURNS, help=f"default: {TURNS}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--work", nargs=3, metavar=("NETWORK", "BATCH", "OUT"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.work:
        network, batch, out = args.work
        work(network, int(batch), out)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "scaling.json"
    if args.predict:
        measured = json.loads(path.read_text())
        (args.out / "measured.md").write_text(table(measured))
        (args.out / "scaling.md").write_text(predict(measured))
        return
    measured = measure(args.turns)
    path.write_text(json.dumps(measured, indent=1) + "\n")
    print(table(measured))


if __name__ == "__main__":
    main()
