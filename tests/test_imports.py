"""What imports what, and what an import costs."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import anyprop
from anyprop._names import names_of

SOURCE = Path(anyprop.__file__).parent

# The order of the library's ideas: a module may import from the lines above its own, and in its package
# from the same line. A package's name covers its modules that are not named themselves.
ORDER = [
    ["_typing", "_names"],
    ["_checks", "_text", "_autograd", "_repr", "_signals", "_usage"],
    ["_files", "_foreign", "_helpers", "_locks"],
    ["backend", "_tree"],
    ["xp", "_numerics", "_moments"],
    ["layout"],
    ["parameters"],
    ["initializers"],
    [
        "layers.base",
        "losses.base",
        "optimizers.clipping",
        "optimizers.continuing",
        "optimizers.in_arrays",
        "optimizers.pieces",
        "optimizers.state",
        "schedules.base",
    ],
    ["optimizers.base"],
    ["layers", "losses", "optimizers", "schedules"],
    ["layers.registry", "losses.registry", "optimizers.registry", "schedules.registry"],
    ["network"],
    ["description"],
    ["history"],
    ["checkpoint"],
    ["interchange", "onnx"],
    ["distributed"],
    ["sources"],
    ["step"],
    ["repeatable"],
    ["compiled"],
    ["training"],
    ["data"],
    ["_shown_figure"],
    ["plotting"],
    ["book", "sklearn"],
    ["testing"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# What is installed with the library, and may be imported by any of it.
OUTSIDE = {"array_api_compat", "numpy"}
# A package that is an extra as a whole imports its library; nothing else imports the package.
EXTRAS = {"sklearn": {"scipy", "sklearn", "threadpoolctl"}}
LATE = {"PIL", "matplotlib", "mpi4py", "numba", "onnx", "tqdm", "cupy", "jax", "torch"}
LATE |= {"safetensors", "scipy", "sklearn"}


def _modules() -> dict[str, Path]:
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names[".".join(parts)] = path
    return names


MODULES = _modules()


def _rank(module: str) -> int:
    while module not in RANK:
        module, _, _ = module.rpartition(".")
        assert module, "a new module needs a place in ORDER"
    return RANK[module]


def _imports(path: Path, *, at_import_time: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_import_time else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            if node.module == "anyprop":
                found |= {f"anyprop.{alias.name}" for alias in node.names}
    return found


def ours(module: str) -> set[str]:
    found = _imports(MODULES[module], at_import_time=False)
    return {name.removeprefix("anyprop.") for name in found if name.startswith("anyprop.")}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("", "__main__")])
def test_imports_point_down(module):
    for imported in ours(module):
        same_package = imported.split(".")[0] == module.split(".")[0]
        assert _rank(imported) < _rank(module) or (
            same_package and _rank(imported) == _rank(module)
        ), f"{module} imports {imported}"


@pytest.mark.parametrize("package", ["layers", "losses", "optimizers", "schedules"])
def test_the_ideas_of_a_package_do_not_import_each_other(package):
    """Except where one is defined as a variant of another, or contains others."""
    allowed = {f"{package}.base", f"{package}.__init__", "optimizers.presets"}
    for module in MODULES:
        if module.startswith(f"{package}.") and not module.endswith(("base", "registry")):
            siblings = {i for i in ours(module) if i.startswith(f"{package}.")} - allowed
            variants = {s for s in siblings if s in VARIANTS.get(module, ())}
            assert siblings == variants, f"{module} imports {siblings - variants}"


VARIANTS: dict[str, set[str]] = {
    f"optimizers.{variant}": {"optimizers.adam"}
    for variant in ("adamax", "adamw", "amsgrad", "nadam", "radam")
}
VARIANTS["optimizers.nesterov"] = {"optimizers.momentum"}
VARIANTS |= {f"optimizers.{m}": {"optimizers.state"} for m in ("continuing", "in_arrays")}


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("cli")])
def test_optional_libraries_are_imported_only_when_they_are_needed(module):
    outside = {name.split(".")[0] for name in _imports(MODULES[module], at_import_time=True)}
    extra = EXTRAS.get(module.split(".")[0], set())
    assert not outside & (LATE - extra)
    assert outside <= OUTSIDE | extra | {"anyprop"} | sys.stdlib_module_names


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_benchmark(module):
    """It is not installed with the library."""
    found = _imports(MODULES[module], at_import_time=False)
    assert "benchmarks" not in {name.partition(".")[0] for name in found}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _foreign_private(module: str) -> list[str]:
    """List what a module takes from other packages though its name begins with an underscore."""
    path, found = MODULES[module], []
    room = module.split(".")[0] if "." in module or path.name == "__init__.py" else ""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "anyprop":
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names if alias.name.startswith("anyprop.")]
        else:
            continue
        for name in whole:
            top, *inner = name.split(".")[1:]
            # The small modules of the root, such as anyprop._checks, are there for all rooms.
            if top != room and any(map(_is_private, inner)):
                found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_is_imported_from_another_room(module):
    assert _foreign_private(module) == []


def test_few_files_are_long_and_each_says_why():
    """Their first docstrings have the sentence: "The file is long because ..."."""
    lines = {m: path.read_text(encoding="utf-8") for m, path in MODULES.items()}
    long = {m: text for m, text in lines.items() if text.count("\n") > 300}
    assert len(long) <= 4, sorted(long)
    for module, text in long.items():
        reason = "The file is long because"
        assert reason in " ".join(str(ast.get_docstring(ast.parse(text))).split()), module


def test_the_compiled_step_keeps_to_its_modules():
    """A backend more is one module; what two backends share belongs into one that is there."""
    assert len([m for m in MODULES if m.startswith("compiled.")]) <= 18


def test_importing_anyprop_loads_no_backend_and_no_plotting():
    code = f"import sys, anyprop\nprint(sorted({LATE | {'argparse'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_anyprop_loads_the_table_of_names_and_little_else():
    code = (
        "import sys; before = set(sys.modules); import anyprop; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(anyprop.__file__).parents[1])},
    )
    light = {"__future__", "importlib", "warnings"}
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] not in light}
    assert loaded == {"anyprop", "anyprop._names"}


def test_every_public_name_is_there_and_documented():
    for name in anyprop.__all__:
        assert getattr(anyprop, name).__doc__, name
    assert anyprop.__dir__() == anyprop.__all__


def test_what_follows_from_the_table_of_public_names_is_up_to_date():
    tool = runpy.run_path(str(SOURCE.parent.parent / "tools" / "public_names.py"))
    stale = [
        path.name
        for path, text in tool["files"]().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run python tools/public_names.py"


def test_type_checkers_see_the_same_names():
    for package in (anyprop, anyprop.interchange, anyprop.schedules):
        stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
        seen = {
            f"{node.module}.{alias.name}"
            for node in stub.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.asname == alias.name
        }
        of = names_of(package.__name__)
        assert seen == {
            f"{of[name]}.{name}" if name in of else f"anyprop.{name}" for name in package.__all__
        }


def test_no_module_hides_a_public_name():
    """Importing `anyprop.x` sets the attribute x, whatever was there before."""
    assert not {m for m in MODULES if "." not in m} & set(names_of("anyprop"))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'MPL'"):
        _ = anyprop.MPL
