"""Measure training steps of anyprop and of other libraries, in turns, on this machine.

Every contestant works in a process of its own, gets the same weights and the same batches, and is
measured only if its losses are right. The folder that --out names gets results.json, tables.md and
chart.png.

    anyprop bench article tiny --only anyprop-numpy-compiled,torch,jax-jit

A contestant whose library is missing is listed with the reason. `ratio` is to the fastest anyprop.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from anyprop._checks import positive, unknown
from anyprop._text import table, tell
from anyprop.benchmark.chart import chart
from anyprop.benchmark.conduct import conduct
from anyprop.benchmark.contestants.registry import CONTESTANTS
from anyprop.benchmark.machine import describe
from anyprop.benchmark.results import FAILED, Outcome, Results
from anyprop.benchmark.tables import absent, cells, document
from anyprop.benchmark.workloads import WORKLOADS
from anyprop.cli._outcome import make_folder
from anyprop.cli._parser import Parser, checked, require_extras, wrong_calls


def add_options(parser: Parser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "workloads",
        nargs="*",
        type=checked(_workload),
        metavar="WORKLOAD",
        help=f"{', '.join(WORKLOADS)} (default: all, but on the CPU without "
        f"{' and '.join(w.name for w in WORKLOADS.values() if 'cpu' not in w.devices)})",
    )
    parser.add_argument(
        "--only",
        type=checked(_contestants),
        default=list(CONTESTANTS),
        metavar="NAME,NAME,...",
        help=f"contestants: {', '.join(CONTESTANTS)} (default: all)",
    )
    parser.add_argument(
        "--device",
        type=checked(_device),
        default="cpu",
        metavar="cpu|cuda",
        help="where they compute (default: cpu)",
    )
    parser.add_argument(
        "--seconds",
        type=checked(_seconds),
        default=3.0,
        metavar="X",
        help="about how long each contestant is measured at each workload, in at least 5 and at most "
        "25 turns (default: 3)",
    )
    parser.add_argument(
        "--out",
        default="runs/bench",
        metavar="FOLDER",
        help="where the files go; older ones there are replaced (default: runs/bench)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, write the files."""
    with ExitStack() as held:
        return _run(args, held)


def _run(args: argparse.Namespace, held: ExitStack) -> int:
    with wrong_calls():
        require_extras("matplotlib")
        names = args.workloads or [w.name for w in WORKLOADS.values() if args.device in w.devices]
        folder = make_folder(args.out, held)
        results = Results(describe(_words(args), args.device), [])
    machine = results.about["machine"]
    if (machine["load_before"] or 0.0) > machine["cores"] / 2:
        load = f"its load is {machine['load_before']:.1f} on {machine['cores']} cores"
        print(f"this machine is busy ({load}): do not trust these times")
    threads: dict[str, int] = results.about.setdefault("threads", {})
    for name in dict.fromkeys(names):
        outcome = conduct(
            name,
            args.only,
            device=args.device,
            seconds=args.seconds,
            tell=tell,
            threads=threads,
        )
        tell("")
        print(_text(outcome), flush=True)
        results.outcomes.append(outcome)
        results.save(folder / "results.json")  # the next workload may be interrupted
    (folder / "tables.md").write_text(document(results), encoding="utf-8")
    measured = any(outcome.timings for outcome in results.outcomes)
    if measured:
        chart(results).savefig(folder / "chart.png", dpi=150)
    print(f"wrote results.json, tables.md{', chart.png' if measured else ''} into {folder}")
    entries = [entry for outcome in results.outcomes for entry in outcome.entries.values()]
    return 1 if any(entry.status == FAILED for entry in entries) else 0


def _words(args: argparse.Namespace) -> list[str]:
    """Write the call as it could be made again, without the folder."""
    words = ["bench", *args.workloads]
    if args.only != list(CONTESTANTS):
        words += ["--only", ",".join(args.only)]
    words += ["--device", args.device] if args.device != "cpu" else []
    return [*words, "--seconds", f"{args.seconds:g}"]


def _text(outcome: Outcome) -> str:
    header, rows = cells(outcome)
    lines = [f"\n{outcome.title}", *([table(header, rows)] if rows else []), *absent(outcome)]
    return "\n".join(lines)


def _workload(text: str) -> str:
    if text not in WORKLOADS:
        raise unknown("workload", text, WORKLOADS)
    return text


def _contestants(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in CONTESTANTS:
            raise unknown("contestant", name, CONTESTANTS)
    return names


def _device(text: str) -> str:
    if text not in ("cpu", "cuda"):
        raise unknown("device", text, ("cpu", "cuda"))
    return text


def _seconds(text: str) -> float:
    try:
        return positive("bench", "seconds", float(text))
    except ValueError:
        raise ValueError(f"must be a positive finite number, not {text!r}") from None
