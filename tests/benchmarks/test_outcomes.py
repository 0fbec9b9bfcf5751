"""Results as files, tables and charts."""

from __future__ import annotations

import json
import re
import sys

import pytest

from benchmarks.chart import chart
from benchmarks.machine import describe
from benchmarks.outcomes import Entry, Outcome, Results
from benchmarks.tables import absent, cells, document, markdown, seconds


def test_results_outlive_a_file(results, tmp_path):
    path = tmp_path / "results.json"
    results.save(path)
    assert Results.load(path) == results
    assert results["article"] == results.outcomes[0]


def test_ratios_are_to_the_fastest_anyprop(results):
    header, rows = cells(results["article"])
    assert header == [
        *("contestant", "time of a step", "middle half", "ratio", "first call", "peak memory")
    ]
    assert [row[0] for row in rows] == [
        "floor: the matrix products alone",
        "anyprop compiled, NumPy",
        "anyprop eager, NumPy",
        "PyTorch eager",
    ]
    assert rows[3] == ["PyTorch eager", "3.00 ms", "2.70 to 3.30 ms", "2.40", "500 ms", "128 MiB"]
    assert [row[3] for row in rows] == ["0.80", "1.00", "2.00", "2.40"]


def test_without_anyprop_the_fastest_is_the_measure(results):
    entries = {n: e for n, e in results["article"].entries.items() if e.side == "other"}
    outcome = results["article"]._replace(entries=entries)
    assert outcome.baseline == "torch"
    assert [row[3] for row in cells(outcome)[1]] == ["1.00"]


def test_nobody_is_dropped(results):
    assert absent(results["article"]) == [
        "not run: JAX, jax.jit (jax is not installed)",
        "failed: scikit-learn (ValueError: no)",
    ]
    assert "\n\nNot run: JAX, jax.jit (jax" in markdown(results["article"])
    text = markdown(results["article"])
    for entry in results["article"].entries.values():
        assert entry.label in text


def test_markdown_is_a_table(results):
    lines = markdown(results["article"]).splitlines()
    assert all(line.count("|") == 7 for line in lines[:6])
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert "**anyprop compiled, NumPy**" in lines[3]


def test_a_document_says_where_it_comes_from(results):
    text = document(results)
    assert "2026-01-31" in text
    assert "a processor, 2 cores" in text
    assert "`python -m benchmarks article`" in text
    assert "numpy 2.4.6" in text
    assert "## The article's step" in text


def test_a_document_says_that_the_machine_was_busy(results):
    assert "busy" not in document(results)
    results.about["machine"]["load_before"] = 1.5
    assert "The machine was busy: do not trust these times." in document(results)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9.996e-4, "1000 us"),
        (1.5e-7, "150 ns"),
        (9.04e-9, "9.04 ns"),
        (0.0999, "99.9 ms"),
        (123.4, "123 s"),
    ],
)
def test_times_have_three_digits(value, text):
    assert seconds(value) == text


def test_a_chart_has_a_bar_for_each_contestant_and_a_line_for_the_floor(results):
    figure = chart(results)
    (axes,), (panel,) = figure.axes, figure.subfigs
    assert panel.get_suptitle() == "The article's step"
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1.25e-3, 2.5e-3, 3e-3])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "anyprop compiled, NumPy",
        "anyprop eager, NumPy",
        "PyTorch eager",
    ]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["1.25 ms", "2.50 ms", "3.00 ms", "the matrix products alone: 1.00 ms"]


def test_floors_stand_below_each_other_the_nearest_first(results):
    entries = dict(results["article"].entries)
    timing = entries["floor-products"].timing
    entries["floor-rate"] = Entry("floor: its rate", "floor", timing._replace(median=2e-6))
    outcome = results["article"]._replace(entries=entries)
    (axes,) = chart(Results({}, [outcome])).axes
    *_, first, second = axes.texts
    assert (first.get_text(), second.get_text()) == (
        "the matrix products alone: 1.00 ms",
        "its rate: 2.00 µs",
    )
    assert first.xy[1] < second.xy[1] < axes.get_ylim()[0]
    assert cells(outcome)[1][0][3] == "0.002"  # of 1.25 ms


def test_a_bar_that_would_hide_the_others_is_cut_and_says_so(results):
    entries = dict(results["article"].entries)
    timing = entries["torch"].timing
    entries["torch"] = entries["torch"]._replace(timing=timing._replace(median=1.0, q3=1.1))
    (axes,) = chart(Results({}, [results["article"]._replace(entries=entries)])).axes
    assert max(bar.get_width() for bar in axes.patches) < 0.1
    assert "1.00 s  (bar cut)" in [text.get_text() for text in axes.texts]


def test_a_chart_needs_matplotlib(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=r'chart needs matplotlib; run pip install "anyprop\[cli\]"'
    ):
        chart(results)


def test_a_chart_of_some_workloads(results):
    other = Outcome("tiny", "A tiny step", "step", 1e-4, results["article"].entries)
    both = Results(results.about, [*results.outcomes, other])
    assert len(chart(both).axes) == 2
    assert [p.get_suptitle() for p in chart(both, ["tiny"]).subfigs] == ["A tiny step"]


def test_the_machine_is_told():
    about = describe(["tiny"], "cpu")
    assert json.loads(json.dumps(about)) == about
    assert about["command"] == "python -m benchmarks tiny"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"])
    assert about["machine"]["processor"]
    assert about["machine"]["cores"] >= 1
    assert {"python", "numpy", "array-api-compat"} <= set(about["versions"])
