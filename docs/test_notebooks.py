"""Notebooks: those of the site run as they are downloaded, and a figure shows itself in one."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

SITE = Path(__file__).parent.parent / "build" / "docs"
PAGES = ["start/first-training", "how-to/your-own-layer", "derivations/optimizers/rmsprop"]


def run(notebook, folder):
    """Run a notebook in a kernel of its own, in an empty folder; return all outputs."""
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(outputs):
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_a_figure_shows_itself_where_it_is_the_last_value_of_a_cell(tmp_path):
    source = "import anyprop as ap\nap.plot_history([2.0, 1.0, 0.5])"
    outputs = run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), tmp_path)
    assert len(pictures(outputs)) == len(outputs) == 1


def test_it_shows_itself_once_where_matplotlib_shows_figures_too(tmp_path):
    source = "%matplotlib inline\nimport anyprop as ap\nap.plot_history([2.0, 1.0, 0.5])"
    outputs = run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), tmp_path)
    assert len(pictures(outputs)) == len(outputs) == 1


def test_these_are_the_site_s_notebooks():
    made = {str(path.relative_to(SITE).with_suffix("")) for path in SITE.rglob("*.ipynb")}
    assert {page for page in made if not page.startswith(("_downloads", "gallery"))} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_its_notebook(page):
    html = (SITE / f"{page}.html").read_text(encoding="utf-8")
    (name,) = re.findall(r'<a href="([^"]*\.ipynb)" download', html)
    assert (SITE / page).with_name(name).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_runs(page, tmp_path):
    notebook = nbformat.read(SITE / f"{page}.ipynb", as_version=4)
    outputs = run(notebook, tmp_path)
    html = (SITE / f"{page}.html").read_text(encoding="utf-8")
    assert len(pictures(outputs)) == html.count('class="run-figure"')
    wanted = [
        cell for cell in notebook.cells if "raises-exception" in cell.metadata.get("tags", [])
    ]
    failed = [output for output in outputs if output.output_type == "error"]
    assert len(failed) == len(wanted)


@pytest.mark.parametrize("page", PAGES)
def test_its_text_has_nothing_that_only_the_site_understands(page):
    notebook = nbformat.read(SITE / f"{page}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|```.*?```", "", cell.source, flags=re.DOTALL)
            assert not re.findall(r"\{\w[\w:]*\}`?|:::|\]\((?!http)", prose), cell.source
