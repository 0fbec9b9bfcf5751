"""How the site is built: `nox -s docs`, or `sphinx-build -W -n --keep-going docs build/docs`.

Nothing is fetched, neither while building nor while reading: MathJax and the other projects'
inventories are in this folder, fonts and icons come with the theme.
"""

from __future__ import annotations

import doctest
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
# The root has the benchmark, and in tests the order of imports; article, derivations: code that
# their pages share; tests/support: a made library.
sys.path[:0] = [
    str(HERE.parent),
    str(HERE / "_ext"),
    str(HERE / "article"),
    str(HERE / "derivations"),
    str(HERE.parent / "tests" / "support"),
]
os.environ.pop("ANYPROP_BACKEND", None)

from gallery import ORDER
from related import in_playground, of_classes

project = "anyprop"
author = "The anyprop developers"
copyright = author
release = installed_version("anyprop")

extensions = [
    "arguments",
    "gentle_links",
    "japanese",
    "kept_together",
    "myst_parser",
    "notebooks",
    "numpydoc",
    "plain_code",
    "related",
    "run",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_inv", "**/README.md"]
templates_path = ["_templates"]
nitpicky = True
default_role = "gentle"

# Pages
myst_enable_extensions = [
    "amsmath",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "fieldlist",
]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"mtextInheritFont": True}}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Pages that can be downloaded as notebooks, and what these need
notebook_pages = {
    "start/first-training": '`pip install ".[cli]"` in a clone of anyprop.',
    "how-to/your-own-layer": '`pip install ".[strict]"` in a clone of anyprop.',
    "derivations/optimizers/rmsprop": '`pip install ".[cli]" torch optax` in a clone of anyprop.',
}

# Gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": rf"^(?!({'|'.join(ORDER)})\.py$)",
    "within_subsection_order": "gallery.position",
    "reset_argv": "gallery.arguments",
    "image_scrapers": ("gallery.written_files",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
}

# Reference
autosummary_generate = True
autosummary_context = {
    "derivations": of_classes(),
    "in_playground": in_playground("optimizer"),
    # base classes, whose modules' texts say what one that is derived from them must do
    "contracts": {
        "Layer": "layers",
        "Loss": "losses",
        "Optimizer": "optimizers",
        "Schedule": "schedules",
        "Callback": "training/callbacks",
    },
}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_use_plots = False
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "_inv/python.inv"),
    "numpy": ("https://numpy.org/doc/stable", "_inv/numpy.inv"),
    "matplotlib": ("https://matplotlib.org/stable", "_inv/matplotlib.inv"),
}

# Doctests: only blocks that say {doctest}; those in docstrings are pytest's.
doctest_test_doctest_blocks = ""
# Sphinx's own flags leave the messages of exceptions out of the comparison.
doctest_default_flags = doctest.ELLIPSIS | doctest.DONT_ACCEPT_TRUE_FOR_1

# Look
html_theme = "pydata_sphinx_theme"
html_title = "anyprop"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["anyprop.css"]
html_search_scorer = str(HERE / "_ext" / "search_scorer.js")
# The playground's controls need the room; the others have no section to navigate in.
html_sidebars = {page: [] for page in ("playground", "article", "ja/article", "design", "how-fast")}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "anyprop"},
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "primary_sidebar_end": [],
    "article_header_end": ["other-language"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
