"""Run the tests against the mutants that mutmut made, in forks of one process.

    mutmut run "anyprop.layers.relu.*"     # makes all mutants, and learns which tests reach them
    cd mutants && python ../tools/mutants.py [PATTERN ...]

mutmut restarts pytest for each mutant, and collecting some thousand tests takes far longer than the
few that reach a mutant. Here they are collected once; each mutant is a fork that runs the tests that
reach it, the quickest first, up to the first failure. Patterns choose mutants by name. They come in
random order, so that what was run so far is a fair sample, and those that no test fails for are printed
at once; `mutmut show NAME` shows one.
"""

from __future__ import annotations

import fnmatch
import gc
import json
import os
import random
import signal
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

SECONDS = 600
"""Of computing, after which a mutant counts as caught in an endless loop."""
KILLED, SURVIVED, TIMED_OUT, UNREACHED = "killed", "survived", "timed out", "reached by no test"


class Mutants:
    """A pytest plugin that runs the chosen mutants in place of the collected tests."""

    def __init__(self, patterns: list[str]) -> None:
        stats = json.loads(Path("mutmut-stats.json").read_text())
        self.tests_of = stats["tests_by_mangled_function_name"]
        self.seconds_of = stats["duration_by_test"]
        self.names = [
            name
            for meta in sorted(Path("src").rglob("*.meta"))
            for name in json.loads(meta.read_text())["exit_code_by_key"]
            if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        ]
        random.Random(0).shuffle(self.names)
        self.found: dict[str, str] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        running: dict[int, str] = {}
        gc.freeze()  # what every fork shares stays shared
        for name in self.names:
            tests = self.tests_of.get(name.rpartition("__mutmut_")[0], ())
            chosen = [items[test] for test in tests if test in items]
            if not chosen:
                self._note(name, UNREACHED)
                continue
            chosen.sort(key=lambda item: self.seconds_of.get(item.nodeid, 0.0))
            while len(running) >= (os.cpu_count() or 1):
                self._wait(running)
            child = os.fork()
            if child == 0:
                os._exit(_run(name, chosen))
            running[child] = name
        while running:
            self._wait(running)
        return True

    def _wait(self, running: dict[int, str]) -> None:
        child, status = os.wait()
        name = running.pop(child)
        if os.WIFSIGNALED(status):
            self._note(name, TIMED_OUT if os.WTERMSIG(status) == signal.SIGPROF else KILLED)
        else:
            self._note(name, KILLED if os.WEXITSTATUS(status) else SURVIVED)

    def _note(self, name: str, how: str) -> None:
        self.found[name] = how
        if how != KILLED:
            print(f"{how}: {name}", flush=True)
        if len(self.found) % 50 == 0:
            print(self.summary(), flush=True)

    def summary(self) -> str:
        counts = Counter(self.found.values())
        return f"{len(self.found)} of {len(self.names)} mutants: {dict(counts)}"


def _run(name: str, items: list[Any]) -> int:
    """Run tests with the mutant in place of the function; 1 if one fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whatever else the machine does meanwhile
    os.environ["MUTANT_UNDER_TEST"] = name
    for item in items:
        reports = runtestprotocol(item, log=False, nextitem=None)
        if any(report.failed for report in reports):
            return 1
    return 0


def main() -> int:
    mutants = Mutants(sys.argv[1:])
    paths = sorted({test.split("::")[0] for tests in mutants.tests_of.values() for test in tests})
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    quiet = ["-p", "no:terminal", "-o", "addopts=--import-mode=importlib"]  # -ra is the terminal's
    pytest.main([*settings["pytest_add_cli_args"], *quiet, *paths], plugins=[mutants])
    print(mutants.summary())
    return int(len(mutants.found) < len(mutants.names))


if __name__ == "__main__":
    raise SystemExit(main())
