"""Steps of growing networks and batches: what is measured, drawn and said."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import __main__ as command, growth
from benchmarks.contestants.floors import _products
from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.measuring import summarize
from benchmarks.outcomes import Entry, Outcome, Results
from benchmarks.workloads import BATCHES, WIDTHS, WORKLOADS, Problem

NAMES = [*WIDTHS, *BATCHES]


def outcome(name, milliseconds):
    """Return one whose contestants took so long; those that are not named took 8 ms."""
    entries = {}
    for of in growth.LINES:
        middle = milliseconds.get(of, 8.0) / 1e3
        timing = summarize([middle * share for share in (0.9, 0.95, 1.0, 1.05, 1.1)], 10)
        entries[of] = Entry(CONTESTANTS[of].label, CONTESTANTS[of].side, timing)
    return Outcome(name, WORKLOADS[name].title, "step", 1e-4, entries)


@pytest.fixture
def grown():
    """Return results: ahead at the first, behind at the second, level at all others."""
    first = outcome("width-16", {"anyprop-jax-loop": 1.0, "jax-scan": 4.0, "floor-rate": 0.01})
    second = outcome("width-64", {"anyprop-numpy-loop": 6.0, "torch": 4.0, "floor-rate": 2.0})
    others = [outcome(name, {"floor-rate": 4.0}) for name in NAMES[2:]]
    return Results({}, [first, second, *others])


def operations(name):
    """Count them in the products that the floor computes."""
    given = Problem(WORKLOADS[name], {})
    calls = _products(given, np.matmul, lambda n, m: np.broadcast_to(np.float32(), (n, m)))
    return sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for _, a, b, _ in calls)


def test_the_command_is_that_of_all_workloads_with_its_own_words(run, tmp_path, monkeypatch):
    done = []

    def conduct(name, contestants, **options):
        done.append((name, contestants, options["seconds"]))
        return Outcome(name, name, "step", 0.0, {})

    monkeypatch.setattr(command, "conduct", conduct)
    monkeypatch.setattr(command, "main", lambda argv: run(*argv))
    assert growth.main(["--out", str(tmp_path / "out"), "--seconds", "0.25"])[0] == 0
    assert [name for name, _, _ in done] == NAMES
    assert {(*names, seconds) for _, names, seconds in done} == {(*growth.LINES, 0.25)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "tables.md"}


def test_growing_is_in_one_direction_at_a_time():
    assert [WORKLOADS[name].sizes for name in WIDTHS] == [
        (64, width, width, 10) for width in (16, 64, 256, 1024, 4096)
    ]
    assert {WORKLOADS[name].batch_size for name in WIDTHS} == {128}
    assert [WORKLOADS[name].batch_size for name in BATCHES] == [8, 64, 512, 4096]
    assert {WORKLOADS[name].sizes for name in BATCHES} == {(64, 256, 256, 10)}


@pytest.mark.parametrize("name", NAMES)
def test_the_work_is_the_operations_of_all_products(name):
    assert WORKLOADS[name].operations == operations(name)


def test_the_chart_has_times_over_the_work_and_their_multiples_of_the_floor(grown):
    panels = growth.chart(grown).axes
    assert len(panels) == 4
    for axes in panels:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert len(axes.lines) == len(growth.LINES)
    times, multiples, *_ = ({line.get_label(): line for line in axes.lines} for axes in panels)
    label = CONTESTANTS["jax-scan"].label
    assert times[label].get_ydata() == pytest.approx([4e-3, *[8e-3] * 4])
    assert multiples[label].get_ydata() == pytest.approx([400.0, 4.0, *[2.0] * 3])
    assert times[label].get_xdata()[0] == operations("width-16")
    assert multiples[CONTESTANTS["floor-rate"].label].get_ydata() == pytest.approx([1.0] * 5)
    batches = [text.get_text().split("\n")[0] for text in panels[2].get_xticklabels()]
    assert batches == ["8", "64", "512", "4096"]


def test_who_was_not_measured_has_no_line(grown):
    for outcome in grown.outcomes:
        outcome.entries["torch"] = Entry("PyTorch eager", "other", status="not run", reason="gone")
    assert [len(axes.lines) for axes in growth.chart(grown).axes] == [len(growth.LINES) - 1] * 4


def test_it_says_where_anyprop_is_ahead_and_where_behind(grown):
    assert growth.findings(grown) == (
        "Of these 9 networks and batches, the fastest anyprop is ahead of the fastest other at 1, "
        "behind it at 1, and at 7 their middle halves overlap. It is ahead at 64-16-16-10, batch 128, "
        "where anyprop compiled, JAX, many steps in a call takes 0.25 times as long as JAX, lax.scan "
        "over many steps. It is behind at 64-64-64-10, batch 128, where anyprop compiled, NumPy, many "
        "steps in a call takes 1.50 times as long as PyTorch eager. Its step takes 2.00 times as long "
        "as its operations at the machine's rate at 64-256-256-10, batch 128, and 100 times as long at "
        "64-16-16-10, batch 128."
    )


def test_the_furthest_comes_first(grown):
    grown.outcomes[2] = outcome("width-256", {"anyprop-numpy-loop": 0.5, "floor-rate": 0.1})
    text = growth.findings(grown)
    assert (
        "ahead at 64-256-256-10, batch 128; 64-16-16-10, batch 128; most at the first, where"
        in text
    )
