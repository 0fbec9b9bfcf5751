"""A figure of matplotlib that a notebook shows; to be imported only where matplotlib is needed."""

from __future__ import annotations

import importlib
import io
from typing import Any

_figures: Any = importlib.import_module("matplotlib.figure")


class ShownFigure(_figures.Figure):  # type: ignore[misc]
    """A figure that needs neither pyplot nor a magic command to be seen in a notebook."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
