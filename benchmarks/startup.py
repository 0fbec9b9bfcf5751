"""What anyprop costs before it does anything: its wheel, its installation, its import.

    pip install build
    python -m benchmarks.startup               # measures; writes results/startup.json
    python -m benchmarks.startup --out FILE

Builds the wheel and the sdist of this tree, installs the wheel into new environments, and starts Python
with `import anyprop`, with `import numpy` and with nothing, in turns. Every figure is the median of the
turns. Dependencies come from where pip finds them, which is its cache from the second turn on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STARTS = {
    "python": "",
    "import numpy": "import numpy",
    "import anyprop": "import anyprop",
    "import anyprop, and all that fit uses": "import anyprop; anyprop.fit",
}
BUDGET = {"wheel_megabytes": 11.0, "modules": 3}
"""What must not grow unnoticed: the size of the wheel, and the modules that an import loads."""


def main() -> None:
    """Measure, print a table, write the figures, and fail if a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/startup.json")
    parser.add_argument("--turns", type=int, default=5, help="of an installation (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.turns)
    for name, value in found["figures"].items():
        print(f"{name:<50}{value:>10.3f}")
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, most in BUDGET.items():
        if found["figures"][name] > most:
            sys.exit(f"{name} is {found['figures'][name]:g}, more than {most:g}.")


def measure(folder: Path, turns: int) -> dict[str, Any]:
    """Build, install and start."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    figures = {
        "wheel_megabytes": wheel.stat().st_size / 1e6,
        "of_which_mnist_megabytes": data_size(wheel) / 1e6,
        "sdist_megabytes": sdist.stat().st_size / 1e6,
    }
    alone, whole = [], []
    for turn in range(turns):
        environment = folder / f"environment{turn}"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        alone.append(run(*pip, "--no-deps", wheel))
        whole.append(run(*pip, wheel))
    figures["install_seconds, anyprop alone"] = statistics.median(alone)
    figures["install_seconds, its dependencies"] = statistics.median(whole)
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(4 * turns):
        for name, code in STARTS.items():
            seconds[name].append(run(python, "-c", code))
    for name, of_turns in seconds.items():
        figures[f"start_milliseconds, {name}"] = 1e3 * statistics.median(of_turns)
    count = "import anyprop, sys; print(sum(m.startswith('anyprop') for m in sys.modules))"
    figures["modules"] = int(subprocess.check_output([python, "-c", count], cwd=folder))
    return {
        "figures": figures,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "turns": turns,
    }


def data_size(wheel: Path) -> int:
    """Return the bytes that the bundled data take in the wheel."""
    with zipfile.ZipFile(wheel) as files:
        return sum(f.compress_size for f in files.infolist() if f.filename.endswith(".xz"))


def run(*command: Any) -> float:
    """Run a command away from the checkout, and return its seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as nowhere:
        subprocess.run([*map(str, command)], cwd=nowhere, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
