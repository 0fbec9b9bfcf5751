"""Measure training steps of anyprop and of other libraries, in turns, on this machine.

Every contestant works in a process of its own, gets the same weights and the same batches, and is
measured only if its losses are right. The folder that --out names gets results.json, tables.md and
chart.png.

    python -m benchmarks article tiny --only anyprop-numpy-compiled,torch,jax-jit

A contestant whose library is missing is listed with the reason. `ratio` is to the fastest anyprop.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from anyprop._checks import unknown
from anyprop._locks import locked
from anyprop._text import table, tell
from benchmarks.chart import chart
from benchmarks.conduct import conduct
from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.machine import describe
from benchmarks.outcomes import FAILED, Outcome, Results
from benchmarks.tables import absent, cells, document, is_busy
from benchmarks.workloads import WORKLOADS

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the files.

    Parameters
    ----------
    argv : sequence of str, optional
        What follows `python -m benchmarks`; the process's own arguments by default.

    Returns
    -------
    int
        Exit code: 0, 1 if a contestant failed or a file could not be written, 130 if Ctrl-C ended it.
        A wrong call raises SystemExit with 2.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        with ExitStack() as held:
            return _run(args, parser, held)
    except KeyboardInterrupt:
        print("benchmarks: interrupted.", file=sys.stderr)
        return 130
    except OSError as error:  # the disk is full, for example
        print(f"benchmarks: {error.filename}: {error.strerror}.", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    line, _, text = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description=line,
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "workloads",
        nargs="*",
        type=_told(_workload),
        metavar="WORKLOAD",
        help=f"{', '.join(WORKLOADS)} (default: all, but without those that grow, and on the CPU "
        f"without {' and '.join(w.name for w in WORKLOADS.values() if w.devices == ('cuda',))})",
    )
    parser.add_argument(
        "--only",
        type=_told(_contestants),
        default=list(CONTESTANTS),
        metavar="NAME,NAME,...",
        help=f"contestants: {', '.join(CONTESTANTS)} (default: all)",
    )
    parser.add_argument(
        "--device",
        type=_told(_device),
        default="cpu",
        metavar="cpu|cuda",
        help="where they compute (default: cpu)",
    )
    parser.add_argument(
        "--seconds",
        type=_told(_seconds),
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
    return parser


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser, held: ExitStack) -> int:
    if importlib.util.find_spec("matplotlib") is None:
        parser.error('matplotlib is not installed; run pip install "anyprop[cli]" first.')
    names = args.workloads or [w.name for w in WORKLOADS.values() if args.device in w.devices]
    folder = Path(args.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(folder))
    except OSError as error:
        parser.error(f"cannot write into {folder}: {error.strerror}.")
    except ValueError as error:  # another run is writing there
        parser.error(str(error))
    results = Results(describe(_words(args), args.device), [])
    machine = results.about["machine"]
    if is_busy(machine):
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
    """Return the call as it could be repeated, without the folder."""
    words = [*args.workloads]
    if args.only != list(CONTESTANTS):
        words += ["--only", ",".join(args.only)]
    words += ["--device", args.device] if args.device != "cpu" else []
    return [*words, "--seconds", f"{args.seconds:g}"]


def _text(outcome: Outcome) -> str:
    header, rows = cells(outcome)
    lines = [f"\n{outcome.title}", *([table(header, rows)] if rows else []), *absent(outcome)]
    return "\n".join(lines)


def _told(check: Callable[[str], T]) -> Callable[[str], T]:
    """Return an option's type from a check, so that the user reads the sentence of the check."""

    def convert(text: str) -> T:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _workload(text: str) -> str:
    return _one_of("workload", text, WORKLOADS)


def _contestants(text: str) -> list[str]:
    return [_one_of("contestant", name, CONTESTANTS) for name in text.split(",")]


def _device(text: str) -> str:
    return _one_of("device", text, ("cpu", "cuda"))


def _one_of(what: str, text: str, names: Iterable[str]) -> str:
    if text not in names:
        raise unknown(what, text, names)
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"must be a positive finite number, not {text!r}.")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
