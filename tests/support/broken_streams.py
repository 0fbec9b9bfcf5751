"""Run commands with broken streams, each in a fork of this process; print the outcome as JSON.

    python broken_streams.py FOLDER DATA MODEL

A fork shares the imports, which take longer than the commands, and ends as a process of its own does.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import anyprop as ap
from anyprop.cli import main

TRAINING = "--hidden 3 --steps 3 --data DATA --out OUT"
COMMANDS = {
    "train": (f"train {TRAINING}", ["/model.safetensors", "/history.json", "/loss.png"]),
    "compare": (f"compare sgd {TRAINING}", ["/compare.json", "/compare.png"]),
    "inspect": ("inspect MODEL", []),
    "export": ("export MODEL --torch OUT.torch", [".torch"]),
    "check": ("check --only losses/huber --no-speed --json OUT.json", [".json"]),
    "predict": ("predict MODEL --data DATA --out OUT.csv", [".csv"]),
    "backends": ("backends", []),
}
STREAMS = ["whole", "pipe", "ascii", "no-stdout", "no-stderr", "full", "full-terminal"]


class Terminal(io.TextIOWrapper):
    """What a progress bar takes for a terminal."""

    def isatty(self) -> bool:
        return True


def become(stream: str, told: Path) -> None:
    """Replace this process's streams by those that it would have been started with."""
    out, err = (os.open(told / name, os.O_RDWR | os.O_CREAT) for name in ("out", "err"))
    if stream == "pipe":
        reading, out = os.pipe()
        os.close(reading)
    if stream == "full":
        out = os.open("/dev/full", os.O_WRONLY)
    if stream == "full-terminal":
        err = os.open("/dev/full", os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(err, 2)
    terminal = Terminal if stream == "full-terminal" else io.TextIOWrapper
    encoding = "ascii" if stream == "ascii" else "utf-8"
    for number, name in ((1, "stdout"), (2, "stderr")):
        kind = terminal if number == 2 else io.TextIOWrapper
        file = kind(open(number, "wb"), encoding=encoding, line_buffering=number == 2)  # noqa: SIM115
        if stream == f"no-{name}":
            file.close()
            file = None
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)


def forked(command: str, stream: str, folder: Path, words: dict[str, str]) -> dict[str, object]:
    """Run a command and return its exit code, what it printed and which of its files are missing."""
    told = folder / f"{command}-{stream}"
    told.mkdir()
    line, files = COMMANDS[command]
    for name, word in {**words, "OUT": str(told / "result")}.items():
        line = line.replace(name, word)
    child = os.fork()
    if child == 0:
        become(stream, told)
        sys.exit(main(line.split()))
    _, status = os.waitpid(child, 0)
    written = (Path(f"{told}/result{end}") for end in files)
    missing = [file.name for file in written if not file.is_file() or not file.stat().st_size]
    said = {name: (told / name).read_text(encoding="utf-8") for name in ("out", "err")}
    return {"code": os.waitstatus_to_exitcode(status), "missing": missing, **said}


if __name__ == "__main__":
    folder, data, model = map(Path, sys.argv[1:])
    net = ap.MLP([36, 3, 3])
    ap.save(model, net.init(seed=0), net=net)
    words = {"DATA": str(data), "MODEL": str(model)}
    main(
        f"train {TRAINING}".replace("DATA", str(data)).replace("OUT", str(folder / "warm")).split()
    )
    sys.stdout.flush()
    done = {c: {s: forked(c, s, folder, words) for s in STREAMS} for c in COMMANDS}
    (folder / "done.json").write_text(json.dumps(done))
