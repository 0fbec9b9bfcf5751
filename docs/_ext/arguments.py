"""Classes are shown with the arguments of `__init__`; Sphinx would take those of `__new__`."""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from anyprop._usage import Advising


def of_init(app: Sphinx, what: str, name: str, obj: Any, *shown: Any) -> tuple[str, str] | None:
    """Return the text of a class's arguments."""
    if what != "class" or not issubclass(obj, Advising):
        return None
    bare = obj.__init__ is object.__init__
    signature = inspect.Signature() if bare else inspect.signature(obj)
    return stringify_signature(signature, show_annotation=False), ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handler."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", of_init)
    return {"parallel_read_safe": True}
