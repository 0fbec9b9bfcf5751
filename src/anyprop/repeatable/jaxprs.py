"""What JAX traces, traced twice, so that what differs from step to step is not treated as a constant."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from anyprop.repeatable.same import same, shown
from anyprop.repeatable.stand_in import TraceError
from anyprop.repeatable.twice import twice


def jitted(
    function: Callable[..., Any],
    step: object,
    *,
    donate: Sequence[int] = (),
    lean: bool = False,
) -> Callable[..., Any]:
    """Compile a function with `jax.jit`, as `traced_twice` returns it; some arguments are donated.

    A `lean` one is ordered, on a CPU, so that it needs little memory, and not for much to be done at
    once. It raises TraceError also where tracing needs the numbers of an array.
    """
    jax = importlib.import_module("jax")
    traced = traced_twice(function, step)
    plain = compiled = jax.jit(traced, donate_argnums=donate)
    if lean:
        compiled = jax.jit(traced, donate_argnums=donate, compiler_options=_lean_options())
    errors = (
        jax.errors.ConcretizationTypeError,
        jax.errors.NonConcreteBooleanIndexError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.UnexpectedTracerError,
    )

    def call(*args: Any, **options: Any) -> Any:
        try:
            try:
                return compiled(*args, **options)
            except ValueError as error:
                if "compiler_options" not in str(error):
                    raise
            return plain(*args, **options)  # within another function that JAX traces
        except errors as error:
            what = str(error).partition("\n")[0].rstrip(".")
            raise TraceError(f"JAX cannot trace it ({what})") from error

    return call


@lru_cache(maxsize=1)
def _lean_options() -> dict[str, Any] | None:
    """Return XLA's option for an order that needs little memory; None if it has none, as on a GPU."""
    jax = importlib.import_module("jax")
    options = {"xla_cpu_scheduler_type": 1}
    try:
        jax.jit(abs, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options if jax.default_backend() == "cpu" else None


def traced_twice(function: Callable[..., Any], step: object) -> Callable[..., Any]:
    """Return what `jax.jit` can trace in place of a function of arrays, part of a step.

    The function is given the number of the recording, 0 or 1, before the arrays. TraceError is raised if
    what is traced depends on when that is done.
    """
    jax = importlib.import_module("jax")
    as_function = importlib.import_module("jax.extend.core").jaxpr_as_fun

    def traced(*args: Any, **kwargs: Any) -> Any:
        def record(time: int) -> Any:
            # JAX keeps what it traced for each function, so each time it is given another one.
            def once(args: Any, kwargs: Any) -> Any:
                return function(time, *args, **kwargs)

            return jax.make_jaxpr(once, return_shape=True)(args, kwargs)

        jaxpr, shapes = twice(record, step, lambda a, b: difference(a[0], b[0]))
        results = as_function(jaxpr)(*jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return traced


def difference(first: Any, second: Any) -> str | None:
    """Describe how two closed jaxprs differ; None if they do not."""
    pairs: dict[Any, Any] = dict(zip(first.jaxpr.invars, second.jaxpr.invars, strict=True))
    return _difference(first, second, pairs)


def _difference(first: Any, second: Any, pairs: dict[Any, Any]) -> str | None:
    constants = dict(zip(first.jaxpr.constvars, first.consts, strict=True))
    others = dict(zip(second.jaxpr.constvars, second.consts, strict=True))
    count = len(first.jaxpr.eqns)

    def value(atom: Any, known: dict[Any, Any]) -> Any:
        """Return the value of a constant operand; other operands as they are."""
        return atom.val if hasattr(atom, "val") else known.get(atom, atom)

    def alike(a: Any, b: Any) -> bool:
        known, other = value(a, constants), value(b, others)
        if known is a or other is b:
            return pairs.get(a) is b if known is a and other is b else False
        return str(a.aval) == str(b.aval) and same(_on_host(known), _on_host(other))

    def words(atom: Any, known: dict[Any, Any]) -> str:
        found = value(atom, known)
        return f"{atom.aval}" if found is atom else f"the constant {shown(_on_host(found))}"

    for k, (call, other) in enumerate(zip(first.jaxpr.eqns, second.jaxpr.eqns, strict=False)):
        where = f"call {k + 1} of {count}"
        if call.primitive is not other.primitive:
            return f"{where} is {call.primitive} the first time and {other.primitive} the second"
        for a, b in zip_longest(call.invars, other.invars):
            if a is None or b is None or not alike(a, b):
                was, became = words(a, constants), words(b, others)
                return (
                    f"{where}, {call.primitive}, has {was} the first time and {became} the second"
                )
        inner = _of_parameters(call.params, other.params)
        if inner is not None:
            return f"{where}, {call.primitive}: {inner}"
        if [str(v.aval) for v in call.outvars] != [str(v.aval) for v in other.outvars]:
            return f"{where}, {call.primitive}, has a result of another shape the second time"
        pairs.update(zip(call.outvars, other.outvars, strict=True))
    if count != len(second.jaxpr.eqns):
        return f"it makes {count} calls the first time and {len(second.jaxpr.eqns)} the second"
    if len(first.jaxpr.outvars) != len(second.jaxpr.outvars) or not all(
        map(alike, first.jaxpr.outvars, second.jaxpr.outvars)
    ):
        return "its results are those of other calls the second time"
    return None


def _on_host(constant: Any) -> Any:
    """Return a constant of a jaxpr in NumPy: an array, a literal of a kind of its own, or a key."""
    dtypes, dtype = importlib.import_module("jax").dtypes, getattr(constant, "dtype", None)
    if dtype is not None and dtypes.issubdtype(dtype, dtypes.extended):
        constant = importlib.import_module("jax").random.key_data(constant)
    return np.asarray(constant)


def _of_parameters(first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """Compare what a call is given beside arrays; functions that are traced in it are left out."""
    for name in {**first, **second}:
        a, b = first.get(name), second.get(name)
        if hasattr(a, "eqns") and hasattr(b, "eqns"):
            a, b = _closed(a), _closed(b)
        if a is b or (callable(a) and callable(b) and not hasattr(a, "jaxpr")):
            continue
        if hasattr(a, "jaxpr") and hasattr(b, "jaxpr"):
            found = difference(a, b)
            if found is not None:
                return found
        elif not same(a, b, _jaxprs):
            return f"{name} is {shown(a)} the first time and {shown(b)} the second"
    return None


def _jaxprs(a: Any, b: Any) -> bool | None:
    """Compare jaxprs within tuples, such as the branches of a condition."""
    if hasattr(a, "eqns") and hasattr(b, "eqns"):
        a, b = _closed(a), _closed(b)
    if hasattr(a, "jaxpr") and hasattr(b, "jaxpr"):
        return difference(a, b) is None
    return True if callable(a) and callable(b) else None


def _closed(jaxpr: Any) -> Any:
    if hasattr(jaxpr, "jaxpr"):  # closed already, although it has `eqns` too
        return jaxpr
    return importlib.import_module("jax.extend.core").ClosedJaxpr(jaxpr, ())
