"""Write the tables and the charts of all committed results again, from their results.json.

The README's chart is the first panel of that of results/cpu.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.chart import chart
from benchmarks.outcomes import Results
from benchmarks.tables import document

HERE = Path(__file__).parent
IN_README = ["article"]


def main() -> None:
    """Render every folder."""
    for path in sorted((HERE / "results").glob("*/results.json")):
        results = Results.load(path)
        (path.parent / "tables.md").write_text(document(results), encoding="utf-8")
        chart(results).savefig(path.parent / "chart.png", dpi=150)
        if path.parent.name == "cpu":
            chart(results, IN_README).savefig(HERE.parent / "docs/images/speed.png", dpi=150)


if __name__ == "__main__":
    main()
