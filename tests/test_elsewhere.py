"""Names in other libraries that the derivations mention exist there.

A name is found by how its code begins: `optim.SGD(params, lr=0.001)` is PyTorch's. There must be such a
name with such parameters; numbers, False and None must be their defaults, True and strings are settings.
A parameter on its own, `momentum=0.1`, is one of the name before it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PAGES = Path(__file__).parents[1] / "docs" / "derivations"
ROOTS = {
    "nn": "torch.nn",
    "optim": "torch.optim",
    "activations": "keras.activations",
    "keras": "keras",
    "layers": "keras.layers",
    "losses": "keras.losses",
    "optimizers": "keras.optimizers",
    "jax": "jax",
    "optax": "optax",
    "MLPClassifier": "sklearn.neural_network.MLPClassifier",
    "MLPRegressor": "sklearn.neural_network.MLPRegressor",
}
SESSIONS = {"torch": "torch", "keras": "jax", "jax": "jax", "optax": "jax"}  # where it is installed
NOT_INSTALLED = ("| Chainer", "| Flax", "| the book")


class Named(NamedTuple):
    """A name of another library, and what a page says about its parameters."""

    page: str
    name: str
    parameters: dict[str, Any]  # a value, or ... where only the parameter is named

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]


def names_on(page: Path) -> list[Named]:
    section = (
        page.read_text(encoding="utf-8").partition("\n## Elsewhere\n")[2].partition("\n## ")[0]
    )
    section = re.sub(r"^```.*?^```$", "", section, flags=re.DOTALL | re.MULTILINE)
    section = section.replace("` `", "")  # where a long name may be broken
    lines = [line for line in section.split("\n") if not line.startswith(NOT_INSTALLED)]
    found: list[Named] = []
    for code in re.findall(r"`([^`]+)`", "\n".join(lines)):
        alone = re.fullmatch(r"(\w+)=(\S+)", code)
        if alone and found:
            found[-1].parameters[alone[1]] = ast.literal_eval(alone[2])
        elif re.match(rf"({'|'.join(ROOTS)})\b", code):
            found.append(Named(page.stem, *read(ast.parse(code, mode="eval").body)))
    return found


def read(code: ast.expr) -> tuple[str, dict[str, Any]]:
    """Return the full name of what a piece of code calls, and the arguments that it names."""
    match code:
        case ast.Call(func=ast.Call()):
            return read(code.func)
        case ast.Call():
            named = {argument.id: ... for argument in code.args if isinstance(argument, ast.Name)}
            given = {str(k.arg): ast.literal_eval(k.value) for k in code.keywords}
            return read(code.func)[0], named | given
        case ast.Subscript():
            return read(code.value)
    root, _, rest = ast.unparse(code).partition(".")
    return ROOTS[root] + (rest and f".{rest}"), {}


def found_there(name: str) -> Any:
    """Import as much of a dotted name as is modules, and take the rest from there."""
    module, _, rest = name.partition(".")
    found = importlib.import_module(module)
    for part in rest.split("."):
        module = f"{module}.{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(module)
    return found


def cases() -> list[Any]:
    names = [named for page in sorted(PAGES.glob("*/*.md")) for named in names_on(page)]
    marks = {library: [pytest.mark.needs(where)] for library, where in SESSIONS.items()}
    return [
        pytest.param(named, marks=marks.get(named.library, []), id=f"{named.page}-{named.name}")
        for named in names
    ]


@pytest.fixture(autouse=True)
def _keras_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


@pytest.mark.parametrize("named", cases())
def test_it_is_called_so(named):
    if named.name.endswith("_"):  # what scikit-learn's have once they are fitted
        owner, _, attribute = named.name.rpartition(".")
        assert f"\n    {attribute} : " in found_there(owner).__doc__
        return
    found = found_there(named.name)
    if named.parameters:
        signature = inspect.signature(found.__init__ if isinstance(found, type) else found)
        for name, value in named.parameters.items():
            default = signature.parameters[name].default
            assert value in (..., default) or value is True or isinstance(value, str)


def test_every_page_names_something():
    pages = {page.stem for page in PAGES.glob("*/*.md")} - {"index"}
    assert {case.values[0].page for case in cases()} == pages
