"""A function of trees as a program: what it does, recorded on placeholder arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from anyprop._typing import Array, Tree
from anyprop.backend import check_array
from anyprop.compiled.trace import Call, Recording, Value, value_of
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.continuing import check_continues
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.same import same, shown
from anyprop.repeatable.stand_in import TraceError
from anyprop.repeatable.twice import twice

Data: TypeAlias = Mapping[str, Array | None]
"""What a step takes by name, with the rows of many batches."""


class Program(NamedTuple):
    """What a function does.

    Parameters
    ----------
    calls : list of Call
        Its work.
    results : list of Value
        What is read after the last call.
    targets : list of Value or None
        For each result, from the first, the given value in whose memory it should be at the end.
    arguments : list of Value
        What each run is given anew; other given values are read where they were recorded.
    """

    calls: list[Call]
    results: list[Value]
    targets: Sequence[Value | None] = ()
    arguments: Sequence[Value] = ()


def record(
    function: Callable[..., Tree], arguments: tuple[Tree, ...], owner: object
) -> tuple[list[Call], Tree]:
    """Record a function of trees, twice; return its calls and its result, a tree of Traced.

    Parameters
    ----------
    function : callable
        What to record.
    arguments : tuple of trees of Traced and TracedNumber
        What it is called with.
    owner : object
        What the function belongs to, which `twice` searches.

    Raises
    ------
    TraceError
        The function does what cannot be recorded, or not the same each time.
    """

    def once(time: int) -> tuple[list[Call], Tree]:
        # Only shapes and dtypes are found out, from ones: what NumPy warns of would be about these.
        with np.errstate(all="ignore"), Recording() as recording:
            result = function(*arguments)
        return recording.calls, result

    return twice(once, owner, difference)


def leaves_of(tree: Tree) -> list[Any]:
    """List the arrays and numbers in a tree of a step's arguments; of `Parameters` both vectors."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves_of(branch)]
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves_of(branch)]
    if isinstance(tree, Parameters):
        return [tree.flat] if tree.running is None else [tree.flat, tree.running]
    return [tree]


def values_of(tree: Tree) -> list[Value]:
    """List the values of the traced arrays and numbers in a tree."""
    values = [value_of(leaf) for leaf in leaves_of(tree)]
    if constants := [x for x in values if not isinstance(x, Value)]:
        raise TraceError(f"it returns {shown(constants[0])}, which it does not compute")
    return values


def structure_of(tree: Tree) -> Any:
    """Return what distinguishes two trees with the same list of leaves."""
    if isinstance(tree, dict):
        return tuple([(key, structure_of(branch)) for key, branch in tree.items()])
    if isinstance(tree, (tuple, list)):
        return tuple(map(structure_of, tree))
    return tree is None


def taken_apart(batch: Tree) -> tuple[list[Any], list[Any]]:
    """List the arrays of a batch, and all that a plan depends on: its structure, and their kinds."""
    leaves: list[Any] = []
    kinds: list[Any] = []
    try:
        _take_apart(batch, leaves, kinds)
    except AttributeError:
        # Only when it has failed, as every step comes here.
        _check_arrays("batch", batch)
        raise
    return leaves, kinds


def _take_apart(tree: Tree, leaves: list[Any], kinds: list[Any]) -> None:
    if isinstance(tree, dict):
        # Its names too, as the arrays alone do not say which of them they are.
        kinds += tree
        branches: Any = tree.values()
    else:  # a list of parts
        kinds.append(len(tree))
        branches = tree
    for branch in branches:
        if branch is None:
            kinds.append(None)
        elif isinstance(branch, (dict, tuple, list)):
            _take_apart(branch, leaves, kinds)
        else:  # without a call, as this is done in every step
            kinds += (type(branch), branch.shape, branch.dtype)
            leaves.append(branch)


def _check_arrays(name: str, tree: Tree) -> None:
    """Raise TypeError for what is no array, with the name that it has in its dict."""
    if isinstance(tree, dict):
        for key, branch in tree.items():
            _check_arrays(key, branch)
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            _check_arrays(name, branch)
    elif tree is not None:
        check_array(name, tree)


def rebuilt(tree: Tree, leaves: Iterator[Any]) -> Tree:
    """Return a tree of the same structure that holds other arrays and numbers."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: rebuilt(branch, leaves) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)([rebuilt(branch, leaves) for branch in tree])
    if isinstance(tree, Parameters):
        return Parameters(tree.layout, *(next(leaves) for _ in leaves_of(tree)))
    return next(leaves)


def mapped(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return a tree of a function's results for each array and number."""
    return rebuilt(tree, map(function, leaves_of(tree)))


def difference(first: tuple[list[Call], Tree], second: tuple[list[Call], Tree]) -> str | None:
    """Describe how two recordings differ; None if they do not."""
    (calls, result), (others, other_result) = first, second
    # What the calls compared so far have computed the first time, and the second.
    pairs: dict[Value, Value] = {}

    def paired(a: Any, b: Any) -> bool | None:
        a, b = value_of(a), value_of(b)
        if not (isinstance(a, Value) and isinstance(b, Value)):
            return None
        if a is b or a in pairs:
            return pairs.get(a, a) is b
        if not same((a.shape, a.dtype), (b.shape, b.dtype)) or a.given != b.given:
            return False
        if a.given:
            return same(a.data, b.data)
        # Only a view has not been computed by an earlier call.
        return a.parent is not None and same((a.parent, a.view), (b.parent, b.view), paired)

    # The first difference is the cause, and those that follow from it would hide it.
    for k, (call, other) in enumerate(zip(calls, others, strict=False)):
        where, name = f"call {k + 1} of {len(calls)}", _name(call.function)
        if not same(call.function, other.function, paired):
            return f"{where} is {name} the first time and {_name(other.function)} the second"
        for a, b in zip_longest(call.arguments, other.arguments):
            if not same(a, b, paired):
                return f"{where}, {name}, has {_words(a)} the first time and {_words(b)} the second"
        a, b = call.output, other.output
        if not same((a.shape, a.dtype), (b.shape, b.dtype)):
            return f"{where}, {name}, gives {_words(a)} the first time and {_words(b)} the second"
        pairs[a] = b
    if len(calls) != len(others):
        return f"it makes {len(calls)} calls the first time and {len(others)} the second"
    if not same(leaves_of(result), leaves_of(other_result), paired):
        return "its results are those of other calls the second time"
    return None


def _name(function: Any) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    of = getattr(getattr(function, "__self__", None), "__name__", "")
    return f"{of}.{name}" if of else name


def _words(value: Any) -> str:
    """Describe an argument of a call."""
    if not isinstance(value, Value):
        return shown(value)
    if value.is_number:
        return "a number"
    if value.given:
        return f"the constant {shown(value.data)}"
    return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"


def listed(numbers: Numbers) -> list[Any]:
    """List the numbers of a step: the learning rate, and the scalars of the rule."""
    lr, scalars = numbers
    return [lr, *scalars.values()]


def named(numbers: Iterable[Any], optimizer: Optimizer) -> Numbers:
    """Undo `listed`."""
    lr, *scalars = numbers
    return lr, dict(zip(optimizer.scalars(1, 1.0), scalars, strict=True))


def numbers_of(optimizer: Optimizer, state: OptimizerState, steps: int) -> list[list[Any]]:
    """List the numbers of each of some steps."""
    # Once for each step: a schedule may count how often it is asked.
    following = (state._replace(step=state.step + k) for k in range(steps))
    return [listed(optimizer.numbers(each)) for each in following]


class Places(NamedTuple):
    """The parameters and the state that a compiled step updates where they are."""

    params: Parameters
    slots: dict[str, Any]
    mask: Any

    @classmethod
    def of(cls, params: Parameters, state: OptimizerState) -> Places:
        """Take over what is donated, or copies of what cannot be written to where it is."""
        slots = {name: owned(slot) for name, slot in state.slots.items()}
        if all(slots[name] is slot for name, slot in state.slots.items()):
            slots = state.slots  # the same dict, by which `fill` knows it again
        # The mask is not donated, and the caller may change it.
        mask = None if state.decay_mask is None else state.decay_mask.copy()
        return cls(owned(params), slots, mask)

    def fill(self, params: Parameters, state: OptimizerState) -> None:
        """Copy in what a caller gives, unless it is there already."""
        if params is not self.params:
            fill(self.params, params)
        # By identity: a loop hands back what it was given, and then there is nothing to copy.
        if state.slots is not self.slots:
            check_continues(state, params, self.after(state))
            for name, slot in self.slots.items():
                fill(slot, state.slots[name])
        if state.decay_mask is not self.mask:
            fill(self.mask, state.decay_mask)

    def after(self, state: OptimizerState) -> OptimizerState:
        """Return the state that follows from the one that was filled in."""
        return OptimizerState(state.step + 1, state.lr_scale, self.slots, self.mask)


def owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what cannot be written to in the order of memory."""
    flags = params.flat.flags
    usable = flags.c_contiguous and getattr(flags, "writeable", True)  # as all of CuPy's are
    return params if usable else params.copy()


def fill(buffer: Any, params: Any) -> None:
    """Copy the vectors of parameters into those of others, unless they are the same."""
    for ours, theirs in ((buffer.flat, params.flat), (buffer.running, params.running)):
        if ours is not theirs and ours is not None:
            ours[...] = theirs


class Loop(Protocol):
    """Many steps in one call, without the cost of starting each."""

    def __call__(
        self, params: Parameters, state: OptimizerState, data: Data, batches: Sequence[Any]
    ) -> tuple[Parameters, OptimizerState, Any]:
        """Run a step with each batch; return parameters, state and the losses, a list or a vector.

        Parameters and state are donated; if the steps cannot be compiled, which raises TraceError, they
        are as they were. x may be of a dtype that the parameters' holds exactly; each batch is cast.
        Batches are vectors of rows of the data, all of one size.
        """
