"""What an optimizer is.

An optimizer is a frozen dataclass of hyper-parameters and one elementwise formula, its rule:

    rule(p, g, *slots, **scalars) -> (p, *slots)

p is a parameter, g its gradient, and the slots are what the optimizer remembers of each parameter.
The rule uses operators and functions of one namespace only, so the same definition serves arrays of
any backend, single numbers inside a fused loop, and tracers. A subclass defines:

    slots()          name -> initial value, in the rule's order; None for a slot its options leave out
    scalars(t, lr)   what depends on the step alone, for the t-th update, t = 1, 2, ..., such as bias
                     corrections; the learning rate, if it is that alone
    rule(xp)         the rule, over the functions of xp; it closes over what is constant, such as rho
                     and 1 - rho, as Python floats, and its options are settled here, not per entry

A slot that is left out reaches the rule as 0.0. The rest is the same for all and is here: clipping,
weight decay, the learning rate's schedule, trees, and state, which is passed in and returned:

    state         = optimizer.init(params)
    params, state = optimizer.update(params, grads, state)

An update has two parts, so that a step can be compiled:

    numbers       = optimizer.numbers(state)                                   on the host, of the step
    params, slots = optimizer.apply(params, grads, slots, mask, numbers)       on arrays

The order of the second is: clip the gradient, add weight decay, apply the rule.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from anyprop import _tree
from anyprop._autograd import unrecorded
from anyprop._checks import fields, flag, has, is_scalar_array, non_negative, positive, shown
from anyprop._repr import ShortRepr
from anyprop._typing import Array, Namespace, Number, Rule, Tree
from anyprop._usage import Advising
from anyprop.backend import namespace
from anyprop.optimizers.clipping import clipped_to_norms, clipped_to_value
from anyprop.optimizers.continuing import check_dtypes, check_kind_and_scale, check_updated
from anyprop.optimizers.in_arrays import beside_slots, check_lr_array
from anyprop.optimizers.pieces import in_pieces, is_long
from anyprop.optimizers.state import (
    OptimizerState,
    beside,
    by_leaf,
    check_beside,
    check_kept,
    initial_state,
    on_device_of_first,
    stored,
)

Numbers = tuple[Number, dict[str, Number]]
"""What depends on the step alone: the learning rate, and the scalars of the rule by name."""


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError unless `optimizer` is an optimizer, or acts as one."""
    if not has(optimizer, "init", "update", "numbers", "apply"):
        raise TypeError(f"optimizer must be one such as anyprop.Adam(), not {shown(optimizer)}.")


@dataclass(frozen=True)
class Optimizer(Advising, ShortRepr):
    """Base of all optimizers, with their common parameters; the text of its module is the contract.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate. A schedule is any function of the number of updates done so far.
    weight_decay : float >= 0
        Adds weight_decay * p to the gradient (L2 regularization); AdamW and Lion shrink p itself.
    decay_biases : bool
        Whether weight decay applies to vectors too: biases, and the gains and shifts of norms.
    clip_value : float > 0, optional
        Largest absolute value that an entry of the gradient keeps.
    clip_norm : float > 0, optional
        Largest Euclidean norm that the gradient of each array keeps.
    clip_global_norm : float > 0, optional
        Largest Euclidean norm that the gradient of all arrays together keeps.

    Raises
    ------
    TypeError, ValueError
        An option, of this class or of one derived from it, is of another kind, or out of its range.
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
            check_lr_array(type(self).__name__, self.lr)
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
        """Compute the part of the rule that depends on the step alone, for the t-th update."""
        return {"lr": lr}

    def rule(self, xp: Namespace) -> Rule:
        """Return the rule over the functions of `xp`."""
        raise NotImplementedError

    def init(self, params: Tree) -> OptimizerState:
        """Return the state from which the first update starts.

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
        with on_device_of_first(params):
            return initial_state(self, params)

    @unrecorded
    def update(
        self, params: Tree, grads: Tree, state: OptimizerState, *, donate: bool = False
    ) -> tuple[Tree, OptimizerState]:
        """Update the parameters once.

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
            backend can write into arrays. Continue with the returned values in either case.

        Returns
        -------
        params : tree of arrays
            Updated parameters, of the structure given; running statistics stay as they are.
        state : OptimizerState
            State for the next update.

        Raises
        ------
        ValueError
            Structures or shapes differ, and the message shows both; the state comes from another
            optimizer; or a schedule returned a negative or infinite learning rate, or NaN. Then
            nothing has changed, donated buffers included.
        TypeError
            Namespaces, devices or dtypes differ.
        """
        donate = flag("update", "donate", donate)
        with on_device_of_first(params):
            numbers = self.numbers(state)
            check_beside(params, grads, state)
            if is_long(params) and self._is_elementwise():
                apply, given = partial(self.apply, numbers=numbers), (state.slots, state.decay_mask)
                after = in_pieces(apply, params, grads, *given, donate=donate)
            else:
                after = self.apply(params, grads, state.slots, state.decay_mask, numbers)
                if donate:  # all results are there before the first is stored
                    after = stored(after, (params, state.slots))
            params, slots = after
            return params, OptimizerState(state.step + 1, state.lr_scale, slots, state.decay_mask)

    def _is_elementwise(self) -> bool:
        return not (self.clip_norm or self.clip_global_norm or type(self).apply != Optimizer.apply)

    def numbers(self, state: OptimizerState) -> Numbers:
        """Compute, on the host, the part of an update that depends on the step alone.

        Returns
        -------
        (lr, scalars)
            What `learning_rate` and `scalars` return: floats, or arrays of shape ().
        """
        lr, t = self.learning_rate(state), state.step + 1
        if type(lr) is float and type(t) is int:  # at once, as each step asks
            return lr, self.scalars(t, lr)
        return self._numbers_of(state, lr, t)

    @unrecorded
    def _numbers_of(self, state: OptimizerState, lr: Number, t: Number) -> Numbers:
        if not is_scalar_array(lr) and not is_scalar_array(t):
            return lr, self.scalars(int(t), lr)
        lr, t = beside_slots(state.slots, lr, t)
        return lr, self.scalars(t, lr)

    @unrecorded
    def apply(
        self,
        params: Tree,
        grads: Tree,
        slots: dict[str, Tree],
        mask: Tree | None,
        numbers: Numbers,
    ) -> tuple[Tree, dict[str, Tree]]:
        """Update arrays once, with the numbers of the step given.

        It reads nothing but its arguments, so it can be recorded or traced; `update` checks them.

        Parameters
        ----------
        params, grads : tree of arrays
            As `update` takes them.
        slots : dict of str to tree
            Those of the state.
        mask : tree, optional
            The `decay_mask` of the state.
        numbers : (number, dict of str to number)
            What `numbers` returned; each may be a float or an array of shape ().

        Returns
        -------
        params, slots
            Updated, of the structures given.
        """
        names = check_kept(self, slots, mask)
        ps = _tree.leaves(params)
        if not ps:
            return params, slots
        if (self.clip_value, self.clip_norm, self.clip_global_norm) != (None, None, None):
            gs = _tree.leaves_like(grads, params, names=("grads", "params"))
            grads = self._clipped(_tree.rebuild(params, gs))
        of_leaf = partial(self._updated, self.rule(namespace(*ps)), numbers)
        return by_leaf(of_leaf, params, grads, slots, mask, names)

    def _updated(
        self, rule: Rule, numbers: Numbers, p: Array, g: Array, m: Array | float, slot: list[Any]
    ) -> tuple[Any, ...]:
        """Update one array: decay, then the rule."""
        lr, scalars = numbers
        check_dtypes(p, slot)
        if self.weight_decay and self.decoupled:
            p = p * (1.0 - (beside(p, lr, "lr") * self.weight_decay) * m)
        elif self.weight_decay:
            g = g + (self.weight_decay * m) * p
        for name, number in scalars.items():
            if type(number) is not float:
                scalars = scalars | {name: beside(p, number, name)}
        return check_updated(type(self).__name__, rule(p, g, *slot, **scalars), (p, *slot))

    def learning_rate(self, state: OptimizerState) -> Number:
        """Return the learning rate of the update that starts from `state`."""
        check_kind_and_scale(state, type(self).__name__)
        if type(self.lr) is float and type(state.lr_scale) is float:  # as nearly always
            return self.lr * state.lr_scale
        return self._learning_rate_of(state)

    @unrecorded
    def _learning_rate_of(self, state: OptimizerState) -> Number:
        lr = self.lr
        if callable(lr):
            lr = lr(state.step)
            if not is_scalar_array(lr):
                lr = non_negative(type(self).__name__, f"lr after {state.step} updates", lr)
        lr = lr * state.lr_scale
        # NumPy makes a scalar of an array of rank 0, and its dtype would count in type promotion.
        return lr if is_scalar_array(lr) else float(lr)

    @unrecorded
    def clip_norms(self, grads: Tree) -> Tree:
        """Apply the part of clipping that needs norms and is therefore not elementwise."""
        return clipped_to_norms(grads, self.clip_norm, self.clip_global_norm)

    def _clipped(self, grads: Tree) -> Tree:
        grads = self.clip_norms(grads)
        return grads if self.clip_value is None else clipped_to_value(grads, self.clip_value)
