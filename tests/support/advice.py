"""The pieces of advice in the source's messages, and those that no test can follow.

A piece of advice is a clause that begins with a `VERB`; what is filled in is `{}`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import anyprop as ap

VERB = re.compile(
    r"(?:"
    r"Increase|accumulate|add|ask|build|call|cast|change|check|choose|clip|close|continue|convert|"
    r"copy|count|create|declare|divide|download|draw|drop|enable|fetch|fill|give|go on|increase|"
    r"install|leave|load|look|lower|make|mark|move|name|number|open|pass|pick|put|raise|read|"
    r"reduce|reinstall|remove|rename|renumber|replace|reset|restart|resume|retry|rewrite|run|save|"
    r"say|scale|seed|set|shuffle|sort|split|start|stop|switch|take|train|transpose|try|"
    r"turn|update|upgrade|use|wait|weigh|wrap|write"
    r") (?!must |is |has |holds ).",
)
SPLIT = re.compile(r"[;:,.?(] (?:and |or |so |then )?|(?:^| )(?:and|or|so|then) |[.?)]?$")

# advice -> why no test does what it says
UNFOLLOWED = {
    "check nvidia-smi": "a GPU",
    "fetch the file again": "a network; tests/data/test_idx.py reads the whole file",
    "install a newer anyprop": "none reads that version of the format",
    "install the NVIDIA driver on a machine with a GPU": "a GPU",
    "install the driver of one": "an installation of SYCL",
    "install the extra anyprop[cuda13]": "a GPU",
    "install {}": "an installation",
    "load it in Keras": "Keras and h5py",
    "put its weights into a network's parameters": "Keras and h5py",
    "read it again": "a file that is replaced in the instant in which it is opened",
    "leave out dtype={}": "a device without float64",
    "load your cluster's": "an MPI library of a cluster",
    "renumber the classes": "labels beyond PyTorch's int64; PyTorch is missing beside scikit-learn",
    "reinstall the NVIDIA driver": "a GPU",
    "run pip install": "an installation; each session of the tests has other extras",
    "start one rank for each GPU": "several GPUs",
    "call {} of {}": "no advice: a call of a recorded step",
    "install an MPI library such as your cluster's own": "an installation",
    "train acc {}": "no advice: a line of the book's Trainer",
    "train loss": "no advice: a line of the book's Trainer",
    "turn them into strings": "as for numbering the classes anew",
    "update the driver": "a GPU",
}


def given() -> dict[str, str]:
    """Map each piece of advice in the source to where it is."""
    source = Path(ap.__file__).parent
    found = {}
    for path in sorted(source.rglob("*.py")):
        if path.name == "test_contract.py":
            continue
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            for advice in clauses(text):
                found[advice] = f"{path.relative_to(source.parent)}:{line}"
    return found


def clauses(text: str) -> Iterator[str]:
    """List the clauses of a message that begin with a `VERB`."""
    for clause in map(str.strip, SPLIT.split(text)):
        if VERB.match(clause):
            yield clause


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """List the texts of a module that are neither docstrings nor help of the command line."""
    if isinstance(tree, ast.Expr) or (isinstance(tree, ast.keyword) and tree.arg in _HELP):
        if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Call):
            yield from _texts(tree.value)
        return
    if isinstance(tree, ast.Call) and getattr(tree.func, "id", None) == "option":
        return  # its last argument is the help of an option
    text = _template(tree)
    if text is not None:
        yield getattr(tree, "lineno", 0), text
        inner = [n.value for n in ast.walk(tree) if isinstance(n, ast.FormattedValue)]
    else:
        inner = list(ast.iter_child_nodes(tree))
    for node in inner:
        yield from _texts(node)


_HELP = ("help", "description", "epilog", "metavar")


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)  # type: ignore[misc]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_template(node.left), _template(node.right)]
        if any(side is not None for side in sides):
            return "".join("{}" if side is None else side for side in sides)
    return None


def followed(folder: Path) -> str:
    """Join the texts of all files of tests that follow advice."""
    files = sorted(folder.rglob("test_advice*.py"))
    texts = (_texts(ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    return "\n".join(text for listed in texts for _, text in listed)
