"""What the library uses of CuPy: attribute chains and calls, read from its source.

A name means what is assigned to it before in the same function or, for an attribute of `self`, in
the same class; so `runtime = cupy.cuda.runtime` makes `runtime.getDeviceCount()` a use of
`cupy.cuda.runtime.getDeviceCount`. What a parameter is, its name says (`PARAMETERS`).
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import anyprop

SOURCE = Path(anyprop.__file__).parent
# Rooms whose arrays and streams are CuPy's, and what their parameters are called.
PARAMETERS = {
    "stream": "cupy.cuda.Stream",
    "array": "cupy.ndarray",
    "bias": "cupy.ndarray",
    "event": "cupy.cuda.Event",
    "matrix": "cupy.ndarray",
    "out": "cupy.ndarray",
    "sums": "cupy.ndarray",
}
ROOMS = (
    "backend/pinned.py",
    "compiled/cuda_products.py",
    "compiled/cuda_graph.py",
    "distributed/nccl.py",
)
# What a call returns. Calls without an entry are not followed.
RETURNS = {
    "cupy.cuda.Device": "cupy.cuda.Device",
    "cupy.cuda.Event": "cupy.cuda.Event",
    "cupy.cuda.MemoryPool": "cupy.cuda.MemoryPool",
    "cupy.cuda.Stream": "cupy.cuda.Stream",
    "cupy.cuda.Stream.end_capture": "cupy.cuda.Graph",
    "cupy.cuda.Stream.record": "cupy.cuda.Event",
    "cupy.cuda.get_current_stream": "cupy.cuda.Stream",
    "cupy.cuda.nccl.NcclCommunicator": "cupy.cuda.nccl.NcclCommunicator",
    "cupy.ascontiguousarray": "cupy.ndarray",
    "cupy.asarray": "cupy.ndarray",
    "cupy.empty": "cupy.ndarray",
    "cupy.full": "cupy.ndarray",
    "cupy.isnan": "cupy.ndarray",
    "cupy.ndarray.all": "cupy.ndarray",
    "cupy.ndarray.copy": "cupy.ndarray",
}
# Attributes that are objects of another class.
KINDS = {
    "cupy.ndarray.data": "cupy.cuda.MemoryPointer",
    "cupy.ndarray.device": "cupy.cuda.Device",
    "cupy.ndarray.flags": "cupy._core.flags.Flags",
}
PACKAGES = ("cupy", "cupyx", "cupy_backends")


class Use(NamedTuple):
    """One place where the library uses something.

    Parameters
    ----------
    path : str
        Its full name, such as ``"cupy.cuda.Device"``.
    place : str
        File and line.
    call : tuple of (int or None, tuple of str), or None
        How many arguments it is called with, None if they are spread, and those with a name; None if it
        is not called.
    """

    path: str
    place: str
    call: tuple[int | None, tuple[str, ...]] | None


def uses() -> list[Use]:
    """List what the library uses of CuPy and its companions."""
    found: list[Use] = []
    for path in sorted(SOURCE.rglob("*.py")):
        if "cupy" in (text := path.read_text(encoding="utf-8")):
            place = path.relative_to(SOURCE).as_posix()
            found += _Reader(place).read(ast.parse(text))
    return found


def uses_of_namespaces() -> list[Use]:
    """List what the library asks a namespace for, under the name that it has for CuPy arrays."""
    asked: list[Use] = []
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        # Reproducers ask other libraries, JAX's steps JAX.
        if place.startswith(("testing/", "compiled/on_jax.py")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = node.func if isinstance(node, ast.Call) else node
            if not isinstance(function, ast.Attribute) or ast.unparse(function.value) != "xp":
                continue
            if function.attr == "Device":  # array-api-strict's
                continue
            call = _shape_of(node) if isinstance(node, ast.Call) else None
            asked.append(
                Use(f"array_api_compat.cupy.{function.attr}", f"{place}:{function.lineno}", call)
            )
    return asked


def _shape_of(node: ast.Call, first: int = 0) -> tuple[int | None, tuple[str, ...]]:
    """Count a call's arguments from `first` on, None if they are spread, and list those with names."""
    arguments = node.args[first:]
    spread = any(isinstance(a, ast.Starred) for a in arguments)
    named = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
    return None if spread else len(arguments), named


class _Reader:
    def __init__(self, place: str) -> None:
        self._place = place
        self._parameters = PARAMETERS if place in ROOMS else {}
        self._found: list[Use] = []

    def read(self, module: ast.Module) -> list[Use]:
        self._body(module.body, {}, {})
        return self._found

    def _body(self, body: list[ast.stmt], names: dict[str, str], own: dict[str, str]) -> None:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                methods: dict[str, str] = {}
                # What one method assigns to `self`, another may use: so twice, and kept once.
                before = len(self._found)
                self._body(statement.body, names, methods)
                del self._found[before:]
                self._body(statement.body, names, methods)
            elif isinstance(statement, ast.FunctionDef):
                arguments = statement.args
                given = {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}
                inside = {k: v for k, v in names.items() if k not in given}
                inside |= {k: v for k, v in self._parameters.items() if k in given}
                inside |= {"cupy": "cupy"} if "cupy" in given else {}
                self._body(statement.body, inside, own)
            else:
                self._statement(statement, names, own)

    def _statement(self, node: ast.stmt, names: dict[str, str], own: dict[str, str]) -> None:
        if isinstance(node, ast.Assign):
            value = self._read(node.value, names, own)
            for target in node.targets:
                self._assign(target, value, names, own)
            return
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, self._read(node.value, names, own), names, own)
            return
        if isinstance(node, ast.With):
            for item in node.items:
                value = self._read(item.context_expr, names, own)
                if item.optional_vars is not None:
                    self._assign(item.optional_vars, value, names, own)
            self._body(node.body, names, own)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._body([child], names, own)
            elif isinstance(child, ast.ExceptHandler):
                if child.type is not None:
                    self._read(child.type, names, own)
                self._body(child.body, names, own)
            elif isinstance(child, ast.expr):
                self._read(child, names, own)

    def _assign(
        self, target: ast.expr, value: str | None, names: dict[str, str], own: dict[str, str]
    ) -> None:
        if isinstance(target, ast.Name):
            names.pop(target.id, None)
            if value is not None:
                names[target.id] = value
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            if value is not None:
                own[target.attr] = value
        else:
            self._read(target, names, own)

    def _read(self, node: ast.expr, names: dict[str, str], own: dict[str, str]) -> str | None:
        """Note what an expression uses; return what it is, if that is known."""
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in own:
                return own[node.attr]
            before = self._read(node.value, names, own)
            if before is None:
                return None
            path = f"{before}.{node.attr}"
            self._note(path, node, None)
            return KINDS.get(path, path)
        if isinstance(node, ast.Call):
            return self._call(node, names, own)
        self._inside(node, names, own)
        return None

    def _inside(self, node: ast.AST, names: dict[str, str], own: dict[str, str]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._read(child, names, own)
            else:
                self._inside(child, names, own)

    def _call(self, node: ast.Call, names: dict[str, str], own: dict[str, str]) -> str | None:
        if ast.unparse(node.func) == "importlib.import_module":
            (argument,) = node.args
            if isinstance(argument, ast.Constant) and argument.value.split(".")[0] in PACKAGES:
                self._note(argument.value, node, None)
                return str(argument.value)
        bound = ast.unparse(node.func) == "partial"
        path = self._read(node.args[0] if bound else node.func, names, own)
        for argument in (*node.args[bound:], *(keyword.value for keyword in node.keywords)):
            self._read(argument, names, own)
        if path is None:
            return None
        self._note(path, node, _shape_of(node, int(bound)))
        return RETURNS.get(path)

    def _note(
        self, path: str, node: ast.expr, call: tuple[int | None, tuple[str, ...]] | None
    ) -> None:
        self._found.append(Use(path, f"{self._place}:{node.lineno}", call))
