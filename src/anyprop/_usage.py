"""What to write instead, where a function or a class was called with arguments that do not fit it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, Self, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The name of an argument -> what other libraries and the book call it. Of several that a function has,
# the first is meant.
_NAMES_ELSEWHERE = {
    "lr": "learning_rate learning_rate_init init_value initial_learning_rate base_lr max_lr eta",
    "beta1": "beta_1 b1 betas",
    "beta2": "beta_2 b2",
    "rho": "alpha decay decay_rate gamma",
    "eps": "epsilon",
    "weight_decay": "l2 alpha weight_decay_rate",
    "eta_minus": "etas",
    "step_min": "step_sizes",
    "clip_value": "clipvalue",
    "clip_norm": "clipnorm",
    "clip_global_norm": "global_clipnorm max_norm max_grad_norm",
    "initial_accumulator": "initial_accumulator_value",
    "d": "in_features num_features normalized_shape input_dim input_size",
    "m": "out_features units output_size",
    "bias": "use_bias nobias",
    "rate": "p dropout_ratio",
    "dropout_ratio": "p rate",
    "slope": "negative_slope alpha",
    "factor": "gamma decay_rate",
    "every": "step_size decay_steps transition_steps save_freq",
    "decay": "decay_rate",
    "steps": "T_max T_0 total_steps total_iters decay_steps transition_steps warmup_steps",
    "end": "end_value end_learning_rate eta_min",
    "rise": "pct_start",
    "growth": "T_mult t_mul",
    "boundaries": "milestones",
    "class_weight": "weight weights",
    "delta": "beta",
    "xp": "backend namespace",
    "seed": "random_state rng key generator",
    "epochs": "max_epochs max_iter",
    "learning_rate_init": "lr eta",
    "max_iter": "epochs max_epochs n_epochs",
    "random_state": "rng seed",
    "n_iter_no_change": "patience",
    "hidden_layer_sizes": "hidden layers units sizes",
    "batch_size": "batch",
    "sample_weight": "weights weight",
    "X_val": "validation_data eval_set",
    "validation": "validation_data eval_set",
    "progress": "verbose",
    "patience": "n_iter_no_change",
    "min_delta": "tol threshold",
    "folder": "dirpath",
    "keep": "max_to_keep save_top_k",
    "path": "filename filepath",
}

# What a class or function lacks -> where it is.
_IS_ELSEWHERE = {
    "SGD": {"momentum": "write Momentum(momentum=0.9).", "nesterov": "write Nesterov()."},
    "Momentum": {"nesterov": "write Nesterov()."},
    "Adam": {"amsgrad": "write AMSGrad()."},
    "fit": dict.fromkeys(("lr", "learning_rate"), "write optimizer=anyprop.Adam(lr=0.001)."),
}


def usage(call: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator: arguments that are missing, too many or misspelt raise an error with advice.

    `call` is one as it should be written.

    Examples
    --------
    >>> @usage("area(width, height=1.0)")
    ... def area(width, *, height=1.0):
    ...     return width * height
    >>> area(2.0, hight=3.0)
    Traceback (most recent call last):
        ...
    TypeError: area got an unexpected keyword argument 'hight'; did you mean 'height'?
    >>> area(2.0, 3.0)
    Traceback (most recent call last):
        ...
    TypeError: area: too many positional arguments; write area(width, height=1.0).
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name, signature = call.partition("(")[0], inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            except TypeError:
                # Only now: to compare them takes a sixth of the time of a small network's step.
                wrong = _what_is_wrong(name, signature, args, kwargs, call)
                if wrong is None:
                    raise
            raise TypeError(wrong)

        return checked

    return decorate


class Advising:
    """Base of classes whose arguments, where there are too many or one is misspelt, raise such an error.

    Examples
    --------
    >>> class Rule(Advising):
    ...     def __init__(self, *, lr=0.1):
    ...         self.lr = lr
    >>> Rule(learning_rate=0.2)
    Traceback (most recent call last):
        ...
    TypeError: Rule got an unexpected keyword argument 'learning_rate'; did you mean 'lr'?
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:  # copies and pickles make an object without any
            init = cls.__init__
            signature = inspect.Signature() if init is object.__init__ else _of_method(init)
            wrong = _what_is_wrong(cls.__name__, signature, args, kwargs)
            if wrong is not None:
                raise TypeError(wrong)
        return super().__new__(cls)


@functools.lru_cache(maxsize=128)  # it takes longer than to make an optimizer
def _of_method(method: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a method without `self`."""
    signature = inspect.signature(method)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _what_is_wrong(
    name: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    call: str | None = None,
) -> str | None:
    """Describe why arguments do not fit a signature; None if they do."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        strange = next((key for key in kwargs if key not in signature.parameters), "")
        advice = _IS_ELSEWHERE.get(name, {}).get(strange)
        if advice is None and (near := nearest(strange, signature.parameters)):
            advice = f"did you mean {near!r}?"
        if advice:
            return f"{name} got an unexpected keyword argument {strange!r}; {advice}"
        return f"{name}: {error}; write {call or name + _names(signature)}."
    return None


def nearest(strange: str, names: Collection[str]) -> str:
    """Return the one of `names` that was probably meant; an empty text if none is near."""
    near = [ours for ours, theirs in _NAMES_ELSEWHERE.items() if strange in theirs.split()]
    near = [name for name in near if name in names]
    return next(iter(near or difflib.get_close_matches(strange, names, 1, 0.5)), "")


def _names(signature: inspect.Signature) -> str:
    """Write out the names of the arguments as in a definition."""
    parameters = signature.parameters.values()
    bare = [p.replace(default=p.empty, annotation=p.empty) for p in parameters]
    return str(inspect.Signature(bare))
