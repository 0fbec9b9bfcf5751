"""How sphinx-gallery runs the scripts in examples/: each with `--out` a folder of its own.

What a script writes there, and only that, is shown on its page.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

ORDER = [
    "loss_curves",
    "train_mnist",
    "backends_agree",
    "optimizers_on_a_valley",
    "valley_animation",
    "misclassified_digits",
    "first_layer_weights",
    "file_larger_than_memory",
    "from_the_book",
]
"""The scripts on show, in this order; others in examples/ are left out."""

_OUT = Path(tempfile.mkdtemp(prefix="anyprop-gallery-"))


def arguments(conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Return the command line of a script."""
    shutil.rmtree(_OUT, ignore_errors=True)
    _OUT.mkdir()
    return ["--out", str(_OUT)]


def written_files(block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Collect the pictures that a block of the script wrote, and return the page's text for them."""
    shown = []
    for path in sorted(_OUT.glob("*.*")):
        target = Path(next(variables["image_path_iterator"])).with_suffix(path.suffix)
        shutil.move(path, target)
        shown.append(str(target))
    return figure_rst(shown, conf["src_dir"]) if shown else ""


def position(script: str) -> int:
    """Order the scripts by `ORDER`; it is called for those that are left out, too."""
    name = Path(script).stem
    return ORDER.index(name) if name in ORDER else len(ORDER)
