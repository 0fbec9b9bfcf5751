"""What an optimizer is.

An optimizer is a frozen dataclass of hyper-parameters and one elementwise formula, its rule:

    rule(p, g, *slots, **scalars) -> (p, *slots)

p is a parameter, g its gradient, and the slots are what the optimizer remembers of each parameter.
The rule uses operators and functions of one namespace only, so the same definition serves arrays of
any backend, single numbers inside a fused loop, and tracers. Whatever depends on the step alone (the
learning rate, bias corrections) is a scalar, computed once outside the rule. A subclass defines:

    slots()          name -> initial value, in the rule's order; None for a slot its options leave out
    scalars(t, lr)   the rule's scalars for the t-th update, t = 1, 2, ...
    rule(xp)         the rule, over the functions of xp; its options are settled here, not per entry

A slot that is left out reaches the rule as 0.0. The rest is the same for all and stands here: clipping,
weight decay, the learning rate's schedule, trees, and state, which is passed in and returned:

    state         = opt.init(params)
    params, state = opt.update(params, grads, state)

The order of one update is: clip the gradient, add weight decay, apply the rule.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from functools import partial, reduce
from typing import Any, ClassVar, NamedTuple

from anyprop import _tree
from anyprop._autograd import detached, unrecorded
from anyprop._checks import fields, flag, has, is_scalar_array, kind, non_negative, positive, shown
from anyprop._numerics import widened
from anyprop._repr import ShortRepr
from anyprop._typing import Array, Namespace, Number, Rule, Tree
from anyprop.backend import (
    check_array,
    check_same_place,
    create,
    dtype_name,
    memory_range,
    namespace,
    on_device_of,
)
from anyprop.parameters import Parameters


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError unless `optimizer` is an optimizer, or acts as one."""
    if not has(optimizer, "init", "update", "learning_rate"):
        raise TypeError(f"optimizer must be one such as anyprop.Adam(), not {shown(optimizer)}.")


class OptimizerState(NamedTuple):
    """What an optimizer carries from one update to the next.

    Parameters
    ----------
    step : int
        Updates done so far.
    lr_scale : float
        Factor on the learning rate; 1 until somebody lowers it, as `ReduceLROnPlateau` does.
    slots : dict of str to tree
        What the rule remembers, by name; each has the structure and shapes of the parameters.
    decay_mask : tree, optional
        1 where weight decay applies and 0 elsewhere; None where it applies everywhere or nowhere.
    """

    step: int | Number
    lr_scale: float | Number
    slots: dict[str, Tree]
    decay_mask: Tree | None = None

    def copy(self) -> OptimizerState:
        """Copy the slots, so that the copy outlives an update of the original in place."""
        slots = {name: _tree.map_leaves(_copied, slot) for name, slot in self.slots.items()}
        return self._replace(slots=slots)


@dataclass(frozen=True)
class Optimizer(ShortRepr):
    """Base of all optimizers; its parameters are common to all of them.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate. A schedule is any function of the number of updates done so far.
    weight_decay : float >= 0
        Adds weight_decay * p to the gradient (L2 regularization); AdamW and Lion shrink p itself.
    decay_biases : bool
        Whether weight decay applies to vectors too (biases, gains and shifts of norms), or only to
        arrays of two or more dimensions.
    clip_value : float > 0, optional
        Largest absolute value that an entry of the gradient keeps.
    clip_norm : float > 0, optional
        Largest Euclidean norm that the gradient of each array keeps.
    clip_global_norm : float > 0, optional
        Largest Euclidean norm that the gradient of all arrays together keeps.
    """

    lr: Any = 1e-3
    _: KW_ONLY
    weight_decay: float = 0.0
    decay_biases: bool = True
    clip_value: float | None = None
    clip_norm: float | None = None
    clip_global_norm: float | None = None

    decoupled: ClassVar[bool] = False
    """Whether weight decay shrinks p itself instead of adding to g."""

    def __post_init__(self) -> None:
        if is_scalar_array(self.lr):
            _check_lr_array(type(self).__name__, self.lr)
        elif isinstance(self.lr, type) or not callable(self.lr):
            fields(self, lr=positive)
        fields(self, weight_decay=non_negative, decay_biases=flag)
        for name in ("clip_value", "clip_norm", "clip_global_norm"):
            if getattr(self, name) is not None:
                fields(self, **{name: positive})

    def slots(self) -> dict[str, float | None]:
        """Name the rule's slots and their initial values."""
        return {}

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        """Compute the rule's scalars for the t-th update."""
        raise NotImplementedError

    def rule(self, xp: Namespace) -> Rule:
        """Make the rule over the functions of `xp`."""
        raise NotImplementedError

    def init(self, params: Tree) -> OptimizerState:
        """Make the state from which the first update starts.

        Parameters
        ----------
        params : tree of arrays, float
            What will be updated: an array, a dict, tuple or NamedTuple of arrays, or `Parameters`.

        Returns
        -------
        OptimizerState
            Slots at their initial values, beside `params` in namespace, dtype and device.

        Raises
        ------
        TypeError
            An array is not of a floating dtype.
        ValueError
            `eps` is too small for the dtype: float16 rounds 1e-8 to 0.
        """
        for leaf in _tree.leaves(params):
            check_array("params", leaf)
        if isinstance(params, Parameters):  # its running statistics are none of ours
            params = Parameters(params.layout, params.flat)
        for leaf in _tree.leaves(params):
            self._check_dtype(leaf)
        with _on_device_of(params):
            slots = {
                name: _tree.map_leaves(partial(_beside, value=initial), params)
                for name, initial in self.slots().items()
                if initial is not None
            }
            mask = None
            if self._masks:
                mask = _tree.map_arrays(lambda p: _beside(p, 1.0 if p.ndim >= 2 else 0.0), params)
            return OptimizerState(0, 1.0, slots, mask)

    def update(
        self, params: Tree, grads: Tree, state: OptimizerState, *, donate: bool = False
    ) -> tuple[Tree, OptimizerState]:
        """Do one update.

        Parameters
        ----------
        params : tree of arrays, float
            Parameters p.
        grads : tree of arrays
            Gradients g, of the same structure, shapes, dtypes, namespace and device.
        state : OptimizerState
            What `init` or the update before this one returned.
        donate : bool
            Whether the results may be stored in the buffers of `params` and `state`, where the
            backend can write into arrays. Go on with the returned values in either case.

        Returns
        -------
        params : tree of arrays
            Updated parameters, of the structure given.
        state : OptimizerState
            State for the next update.

        Raises
        ------
        ValueError
            Structures or shapes differ, and the message shows both; the state comes from another
            optimizer; or a schedule gave a negative or infinite learning rate, or NaN. Nothing has
            changed then, donated buffers included.
        TypeError
            Namespaces, devices or dtypes differ.
        """
        donate = flag("update", "donate", donate)
        with _on_device_of(params):
            lr = self.learning_rate(state)
            return self.update_with(params, grads, state, lr, donate=donate)

    @unrecorded
    def update_with(
        self,
        params: Tree,
        grads: Tree,
        state: OptimizerState,
        lr: Number,
        scalars: dict[str, Number] | None = None,
        *,
        donate: bool = False,
    ) -> tuple[Tree, OptimizerState]:
        """Do `update` with numbers of the step that were computed before.

        A compiled step hands them over in arrays, so that what it repeats stays the same.

        Parameters
        ----------
        params, grads, state, donate
            As `update` takes them.
        lr : float, or array of shape ()
            What `learning_rate` gave.
        scalars : dict of str to float or to array of shape (), optional
            What `scalars` gave; computed here by default.

        Returns
        -------
        params, state
            As `update` returns them.
        """
        places = self._check_state(state)
        ps = _tree.leaves(params)
        gs = _tree.leaves_like(grads, params, names=("grads", "params"))
        slots = {
            name: _tree.leaves_like(slot, params, names=(f"state.slots[{name!r}]", "params"))
            for name, slot in state.slots.items()
        }
        t = state.step + 1
        if not ps:
            return params, state._replace(step=t)
        xp = namespace(*ps)
        for p, g, *slot in zip(ps, gs, *slots.values(), strict=True):
            _check_beside(p, [("grads", g), *zip(slots, slot, strict=True)])
        if self._clips:
            gs = _tree.leaves(self._clipped(_tree.rebuild(params, gs)))
        masks: list[Any] = [1.0] * len(ps)
        if state.decay_mask is not None:
            masks = _tree.leaves_like(
                state.decay_mask, params, names=("state.decay_mask", "params")
            )
        rule = self.rule(xp)
        if scalars is None and not is_scalar_array(lr) and not is_scalar_array(t):
            scalars = self.scalars(int(t), lr)

        # All results are there before the first is stored: what fails leaves the arguments as they were.
        new_ps = []
        new_slots: dict[str, list[Array]] = {name: [] for name in slots}
        for i, (p, g, mask) in enumerate(zip(ps, gs, masks, strict=True)):
            eta = _scalar_beside(p, lr, "lr")
            if self.weight_decay and self.decoupled:
                p = p * (1.0 - (eta * self.weight_decay) * mask)
            elif self.weight_decay:
                g = g + (self.weight_decay * mask) * p
            given = [slots[name][i] if kept else 0.0 for name, kept in places]
            numbers = scalars or self.scalars(_scalar_beside(p, t, "state.step"), eta)
            p, *returned = rule(p, g, *given, **numbers)
            new_ps.append(p)
            for (name, kept), new in zip(places, returned, strict=True):
                if kept:
                    new_slots[name].append(new)

        if donate:
            buffers = [*ps, *(array for slot in slots.values() for array in slot)]
            results = [*new_ps, *(array for new in new_slots.values() for array in new)]
            news = iter(_donated(buffers, results, several=len(ps) > 1))
            new_ps = [next(news) for _ in ps]
            new_slots = {name: [next(news) for _ in new] for name, new in new_slots.items()}
        updated = _tree.rebuild(params, new_ps)
        running = getattr(grads, "running", None)
        if running is not None:
            updated = updated.replace(running=running)
        rebuilt = {name: _tree.rebuild(state.slots[name], new) for name, new in new_slots.items()}
        return updated, state._replace(step=t, slots=rebuilt)

    def _check_dtype(self, p: Array) -> None:
        xp = namespace(p)
        if not xp.isdtype(p.dtype, "real floating"):
            raise TypeError(f"parameters must be of a floating dtype, not {p.dtype}.")
        eps, smallest = getattr(self, "eps", 1.0), 1.0 / float(xp.finfo(p.dtype).max)
        if eps < smallest:
            raise ValueError(
                f"{type(self).__name__}: eps={eps:g} is too small for {dtype_name(p)}, "
                f"where 1 / eps is infinite; give an eps of at least {smallest:.2g}."
            )

    def _check_state(self, state: OptimizerState) -> list[tuple[str, bool]]:
        """List the rule's slots, and whether the options keep each; `state` must have those."""
        places = [(name, initial is not None) for name, initial in self.slots().items()]
        names = [name for name, kept in places if kept]
        if state.slots.keys() != set(names):
            raise ValueError(
                f"{type(self).__name__} keeps {names or 'no slots'}, but the state has "
                f"{list(state.slots) or 'none'}; it comes from another optimizer or other options."
            )
        if (state.decay_mask is None) == self._masks:
            raise ValueError(
                f"{type(self).__name__} was made with decay_biases={self.decay_biases} and "
                f"weight_decay={self.weight_decay}, the state's optimizer was not; "
                "make the state by this optimizer's init."
            )
        return places

    @property
    def _masks(self) -> bool:
        return self.weight_decay > 0.0 and not self.decay_biases

    @property
    def _clips(self) -> bool:
        return (self.clip_value, self.clip_norm, self.clip_global_norm) != (None, None, None)

    @unrecorded
    def learning_rate(self, state: OptimizerState) -> Number:
        """Give the learning rate of the update that starts from `state`."""
        if not isinstance(state, OptimizerState):
            raise TypeError(
                f"state must be what {type(self).__name__}.init() returns, not {kind(state)}."
            )
        lr = self.lr(state.step) if callable(self.lr) else self.lr
        if callable(self.lr) and not is_scalar_array(lr):
            lr = non_negative(type(self).__name__, f"lr after {state.step} updates", lr)
        lr = lr * state.lr_scale
        # NumPy makes a scalar of an array of rank 0, and its dtype would count in type promotion.
        return lr if is_scalar_array(lr) else float(lr)

    @unrecorded
    def clip_norms(self, grads: Tree) -> Tree:
        """Do the part of clipping that needs norms, which no elementwise formula can.

        Parameters
        ----------
        grads : tree of arrays
            Gradients g.

        Returns
        -------
        tree of arrays
            g, shrunk to `clip_norm` and then to `clip_global_norm`. Where an entry is infinite or NaN,
            all that its norm covers becomes NaN.
        """
        if self.clip_norm is not None:
            c = self.clip_norm
            grads = _tree.map_arrays(lambda g: _shrunk(c, [g])[0], grads)
        if self.clip_global_norm is not None:
            grads = _tree.rebuild(grads, _shrunk(self.clip_global_norm, _tree.leaves(grads)))
        return grads

    def _clipped(self, grads: Tree) -> Tree:
        grads = self.clip_norms(grads)
        if self.clip_value is not None:
            v = self.clip_value
            grads = _tree.map_leaves(partial(_held, largest=v), grads)
        return grads


def _check_lr_array(owner: str, lr: Array) -> None:
    # Its value stays unread: it may be traced, or be written to later.
    if not namespace(lr).isdtype(lr.dtype, "real floating"):
        raise TypeError(f"{owner}: lr must be of a floating dtype, not {dtype_name(lr)}.")


def _check_beside(p: Array, others: list[tuple[str, Array]]) -> None:
    check_same_place([("params", p), *others])
    for name, array in others:
        if p.dtype != array.dtype:
            raise TypeError(
                f"params are {dtype_name(p)}, but {name} {dtype_name(array)}; cast one of them."
            )


def _scalar_beside(p: Array, value: Number, name: str) -> Number:
    """Give a scalar array the dtype of `p`, since it counts in type promotion; a float does not."""
    if not hasattr(value, "dtype"):
        return value
    return check_same_place([("params", p), (name, value)]).astype(value, p.dtype, copy=False)


def _held(g: Array, largest: float) -> Array:
    """Bring every entry into [-largest, largest]."""
    xp = namespace(g)
    return xp.minimum(xp.maximum(g, -largest), largest)


def _shrunk(largest: float, gs: list[Array]) -> list[Array]:
    """Bring the joint Euclidean norm of `gs` down to `largest`, where it is above."""
    xp = namespace(*gs)
    wide = [widened(xp, g) for g in gs]
    tops = [xp.max(xp.abs(g)) for g in wide if math.prod(g.shape)]
    if not tops:
        return gs
    # Squares of large entries overflow where what comes of the norm does not. The unit has a reciprocal
    # that is no subnormal number, which JAX would take for 0.
    top = reduce(xp.maximum, tops)
    limits = xp.finfo(top.dtype)
    unit = xp.minimum(top, 1.0 / float(limits.smallest_normal))
    unit = unit + xp.astype(unit == 0.0, unit.dtype)
    squares = []
    for g in wide:
        scaled = g / _scalar_beside(g, unit, "norm")
        squares.append(xp.sum(scaled * scaled))
    limit = largest / xp.maximum(xp.sqrt(sum(squares)), 1.0)
    limit = xp.where(top <= float(limits.max), limit, xp.nan)  # the run stops, as for NaN
    fits = unit <= limit
    unit, limit = xp.where(fits, 1.0, unit), xp.where(fits, 1.0, limit)
    return [
        xp.astype(
            w / _scalar_beside(w, unit, "norm") * _scalar_beside(w, limit, "norm"),
            g.dtype,
            copy=False,
        )
        for g, w in zip(gs, wide, strict=True)
    ]


def _copied(array: Array) -> Array:
    return namespace(array).asarray(array, copy=True)


def _on_device_of(params: Tree) -> AbstractContextManager[Any]:
    """Return a context in which all is computed where the first array of a tree lies."""
    if isinstance(params, Parameters):
        return on_device_of(params.flat)
    return on_device_of(next(iter(_tree.leaves(params)), None))


def _beside(p: Array, value: float) -> Array:
    return create(namespace(p).full, p.shape, value, like=p, dtype=p.dtype)


def _donated(buffers: list[Array], news: list[Array], *, several: bool) -> list[Array]:
    """Put results into donated buffers; of several leaves, not where these may share memory."""
    ranges = [memory_range(buffer) for buffer in buffers] if several else []
    order = sorted((r, i) for i, r in enumerate(ranges) if r is not None)
    shared: set[int] = set()
    stop, last = -1, -1
    for (start, end), i in order:
        if start < stop:
            shared |= {i, last}
        if end > stop:
            stop, last = end, i
    return [
        new if i in shared else _stored(buffer, new)
        for i, (buffer, new) in enumerate(zip(buffers, news, strict=True))
    ]


def _stored(buffer: Array, new: Array) -> Array:
    """Put `new` into a donated buffer, where arrays can be written to."""
    try:
        buffer[...] = new
    except (TypeError, ValueError, RuntimeError):
        # JAX arrays and NumPy scalars; read-only memory; tensors whose entries share memory
        return new
    return detached(buffer)
