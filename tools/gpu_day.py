"""Run everything that needs a GPU, one step after the other, and write a report of it.

    nox -s gpu                                        # or, without nox:
    python tools/gpu_day.py [--wheels FOLDER] [--only NAME,NAME] [--out FOLDER]

It uses the Python that runs it, with its CuPy, PyTorch and JAX, and no network: wheels of packages that
are missing are taken from the folder that --wheels names. A step that fails or takes too long does not
keep the next from being run. The folder that --out names gets report.json, report.md and what each step
printed; the exit code is 1 if a step failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


# What the steps import, besides the backends; its wheels are small.
NEEDED = (
    "numpy",
    "array_api_compat",
    "array_api_strict",
    "safetensors",
    "pytest",
    "hypothesis",
    "matplotlib",
    "tqdm",
)


class Step(NamedTuple):
    """One thing to run.

    Parameters
    ----------
    name : str
        Its name, and that of its log.
    proves : str
        What is known once it has passed.
    command : tuple of str
        Arguments of Python; ``{out}`` is replaced by the folder of the report.
    limit : float > 0
        Seconds after which it counts as failed.
    """

    name: str
    proves: str
    command: tuple[str, ...]
    limit: float


def pytest(*arguments: str) -> tuple[str, ...]:
    """Return the arguments of Python that run tests on CuPy, in several processes if it can."""
    several = ("-n=4",) if importlib.util.find_spec("xdist") else ()
    return ("-m", "pytest", "-q", "--backend=cupy", *several, *arguments)


AVAILABLE = """
import sys
import anyprop as ap
(cupy,) = ap.available_backends(only=["cupy"])
print(cupy)
sys.exit(not cupy.available)
"""

PINNED = """
import sys
import numpy as np
import anyprop as ap
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (100_000, 784)).astype("uint8")  # five portions
t = x[:, 0].astype("int64") % 10
net = ap.Sequential(ap.Rescale(1 / 255), *ap.MLP([784, 300, 10]).layers)
loss, opt = ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=1e-3)
for name in sys.argv[1:]:
    name, _, device = name.partition(":")
    params = net.init(seed=8, xp=name, device=device or None)
    place = {"xp": params.xp, "device": device or None}
    there = ap.from_host(x, **place), ap.from_host(t, **place)
    for compiled in (False, True):
        found = []
        for ahead in (None, 0, 1, 3):
            data = there
            if ahead is not None:
                data = ap.Source((x, t), pinned=True, ahead=ahead)
            result = ap.fit(
                net, params, data, loss=loss, optimizer=opt, epochs=3, compile=compiled
            )
            measured = ap.evaluate(net, result.params, data, loss=loss)
            outputs = ap.predict(net, result.params, data if ahead is not None else there[0])
            numbers = map(ap.to_host, (result.params.flat, outputs))
            found.append((result.history.losses, measured, *(a.tobytes() for a in numbers)))
        same = [other == found[0] for other in found[1:]]
        print(name, "compiled" if compiled else "eager", "as in memory, bit for bit:", *same)
        assert all(same)
"""

STEPS = [
    Step(
        "availability",
        "The driver answers, a GPU is seen, and CuPy finds CUDA's libraries.",
        ("-W", "error", "-c", AVAILABLE),
        120,
    ),
    Step(
        "nccl",
        "NCCL connects one rank, adds up its arrays, and it trains as one process does.",
        pytest("tests/distributed/test_nccl.py"),
        300,
    ),
    Step(
        "products",
        "cuBLASLt's products, with bias, ReLU and sums, are captured, and right in every shape.",
        pytest("tests/compiled/test_cupy_products.py"),
        600,
    ),
    Step(
        "compiled",
        "A step as a CUDA graph computes what the eager step does, and waits for nothing.",
        pytest("tests/compiled", "--ignore=tests/compiled/test_cupy_products.py"),
        1800,
    ),
    Step(
        "eager",
        "Every layer, loss and optimizer, training, data and files do on CuPy what they do on NumPy.",
        pytest("tests", "--ignore=tests/compiled", "--ignore=tests/distributed"),
        3600,
    ),
    Step(
        "pinned",
        "Portions that are copied while CuPy computes give the numbers of arrays in memory.",
        ("-c", PINNED, "cupy"),
        900,
    ),
    Step(
        "pinned-torch",
        "Portions that are copied while PyTorch computes give the numbers of arrays in memory.",
        ("-c", PINNED, "torch:cuda"),
        900,
    ),
    Step(
        "check",
        "The contract that other libraries are held to holds for CuPy, call by call.",
        ("-m", "anyprop", "check", "cupy", "--json", "{out}/check.json"),
        1800,
    ),
    Step(
        "benchmark",
        "How many steps a second CuPy does, beside PyTorch and JAX on the same GPU.",
        ("-m", "benchmarks", "--device", "cuda", "--out", "{out}/bench"),
        7200,
    ),
]


def main(argv: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> int:
    """Run the steps; return 0 if all passed, and 1 otherwise."""
    args = _parsed(argv, steps)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    environment = _environment(args.wheels, out)
    ask = f"import importlib.util\nprint(*(n for n in {NEEDED} if not importlib.util.find_spec(n)))"
    if missing := _asked(ask, environment).split():
        print(f"missing here, so that steps will fail: {', '.join(missing)}; see --wheels")
    report: dict[str, Any] = {"machine": _machine(environment, argv), "steps": []}
    for step in steps:
        if args.only is None or step.name in args.only:
            print(f"\n== {step.name}: {step.proves}", flush=True)
            report["steps"].append(_run(step, environment, out))
            _write(report, out)  # also if the next one crashes the machine
    failed = [done["name"] for done in report["steps"] if not done["passed"]]
    print(
        f"\n{'failed: ' + ', '.join(failed) if failed else 'all passed'}; see {out / 'report.md'}"
    )
    return 1 if failed else 0


def _parsed(argv: Sequence[str] | None, steps: Sequence[Step]) -> argparse.Namespace:
    names = [step.name for step in steps]
    listed = "\n".join(f"  {step.name:14}{step.proves}" for step in steps)
    parser = argparse.ArgumentParser(
        description="Run everything that needs a GPU, and write a report of it.",
        epilog=f"steps:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="has wheels of what is missing"
    )
    parser.add_argument("--only", metavar="NAME,NAME,...", help="steps to run (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", metavar="FOLDER")
    args = parser.parse_args(argv)
    if args.only is not None:
        args.only = args.only.split(",")
        for name in args.only:
            if name not in names:
                parser.error(f"there is no step {name!r}; choose from: {', '.join(names)}")
    if args.wheels is not None and not any(args.wheels.glob("*.whl")):
        parser.error(f"{args.wheels} has no wheels")
    return args


def _environment(wheels: Path | None, out: Path) -> dict[str, str]:
    """Return an environment with the benchmark, the library and the missing packages on the path."""
    paths = [ROOT, ROOT / "src", ROOT / "tests" / "support"]
    if wheels is not None:
        missing = [wheel for wheel in sorted(wheels.glob("*.whl")) if not _is_installed(wheel)]
        paths.insert(0, out / "site")
        install = ("pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade", "--target")
        if missing:
            command = [sys.executable, "-m", *install, paths[0], *missing]
            subprocess.run(command, check=True)
    before = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*map(str, paths), *([before] if before else [])])
    return os.environ | {"PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}


def _is_installed(wheel: Path) -> bool:
    try:
        importlib.metadata.version(wheel.name.split("-")[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _machine(environment: dict[str, str], argv: Sequence[str] | None) -> dict[str, Any]:
    """Describe the machine, its libraries and its GPU, as far as they can be asked."""
    code = "import json; from benchmarks.machine import describe\n"
    code += "print(json.dumps(describe([], 'cuda')))"
    cuda = "import cupyx; print(cupyx.get_runtime_info())"
    described = _asked(code, environment)
    found: dict[str, Any]
    try:
        found = json.loads(described)
    except json.JSONDecodeError:
        found = {"unknown": described}
    given = sys.argv[1:] if argv is None else argv
    return found | {
        "command": " ".join(["python", "tools/gpu_day.py", *given]),
        "cuda": _asked(cuda, environment).splitlines(),
    }


def _asked(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def _run(step: Step, environment: dict[str, str], out: Path) -> dict[str, Any]:
    """Run a step; show what it prints, and keep it."""
    command = [part.replace("{out}", str(out)) for part in step.command]
    log, began = out / f"{step.name}.log", time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        try:
            code: int | None = process.wait(step.limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    printed = log.read_text(encoding="utf-8", errors="replace")
    print(printed, flush=True)
    return {
        "name": step.name,
        "proves": step.proves,
        "command": ["python", *command],
        "passed": code == 0,
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "result": _result(printed, code, step.limit),
        "end": printed.splitlines()[-40:],
    }


def _result(printed: str, code: int | None, limit: float) -> str:
    """Return the line that says how it went: pytest's last one, or the last of all."""
    if code is None:
        return f"ended after {limit:g} seconds"
    lines = [line for line in printed.splitlines() if line.strip()]
    counted = [line for line in lines if re.search(r"\d+ (passed|failed|error)", line)]
    return (counted or lines or ["nothing was printed"])[-1].strip(" =")


def _write(report: dict[str, Any], out: Path) -> None:
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    machine = report["machine"]
    lines = ["# What was run on a GPU", ""]
    if "unknown" in machine:
        lines += ["The machine could not be described:", "", *_indented(machine["unknown"]), ""]
    else:
        gpu = machine["machine"]["gpu"] or "no GPU was found"
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        lines += [f"{machine['date']}, {machine['machine']['processor']}, {gpu}; {versions}.", ""]
    lines += ["| step | what it proves | result | s |", "|---|---|---|---:|"]
    for done in report["steps"]:
        said = done["result"].replace("|", "\\|")
        verdict = "passed" if done["passed"] else "**failed**"
        row = (done["name"], done["proves"], f"{verdict}: {said}", str(done["seconds"]))
        lines.append(f"| {' | '.join(row)} |")
    for done in report["steps"]:
        if not done["passed"]:
            lines += ["", f"## {done['name']}", "", *_indented("\n".join(done["end"]))]
    lines += ["", "## CUDA", "", *_indented("\n".join(machine["cuda"]))]
    (out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _indented(text: str) -> list[str]:
    return [f"    {line}".rstrip() for line in text.splitlines()]


if __name__ == "__main__":
    sys.exit(main())
