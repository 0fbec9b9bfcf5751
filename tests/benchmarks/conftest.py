"""Results that no machine measured."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main
from benchmarks.measuring import summarize
from benchmarks.outcomes import FAILED, NOT_RUN, Entry, Outcome, Results


def _timed(label, side, milliseconds, **more):
    turns = [milliseconds * share / 1e3 for share in (0.8, 0.9, 1.0, 1.1, 1.2)]
    return Entry(label, side, summarize(turns, 10), first_call=0.5, peak_memory=2**27, **more)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; return its exit code, its output and its complaints."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def results():
    entries = {
        "torch": _timed("PyTorch eager", "other", 3.0, difference=1e-7),
        "anyprop-numpy": _timed("anyprop eager, NumPy", "anyprop", 2.5, difference=1e-7),
        "anyprop-numpy-compiled": _timed("anyprop compiled, NumPy", "anyprop", 1.25),
        "floor-products": _timed("floor: the matrix products alone", "floor", 1.0),
        "jax-jit": Entry("JAX, jax.jit", "other", status=NOT_RUN, reason="jax is not installed"),
        "sklearn": Entry("scikit-learn", "other", status=FAILED, reason="ValueError: no"),
    }
    about = {
        "date": "2026-01-31",
        "command": "python -m benchmarks article",
        "device": "cpu",
        "machine": {"processor": "a processor", "cores": 2, "gpu": None, "load_before": 0.1},
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "blas": "openblas 0.3",
    }
    title = "The article's step"
    return Results(about, [Outcome("article", title, "step", 1e-4, entries)])
