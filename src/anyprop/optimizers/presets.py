"""Presets: the defaults and conventions of other libraries, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from anyprop._checks import choice

# What each library offers besides the optimizer's own parameters and does as anyprop does:
# PyTorch's clip_grad_norm_ adds 1e-6 to the norm, Optax and Chainer take no norms of single arrays,
# and in the book only weights decay.
_COMMON = {
    "torch": {"weight_decay", "decay_biases", "clip_value"},
    "keras": {"weight_decay", "decay_biases", "clip_value", "clip_norm", "clip_global_norm"},
    "optax": {"weight_decay", "decay_biases", "clip_value", "clip_global_norm"},
    "chainer": {"weight_decay", "decay_biases", "clip_value", "clip_global_norm"},
    "book": {"weight_decay", "decay_biases"},
}


class HasPresets:
    """Adds to an optimizer the constructor `like`, which reads its table `presets`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Library -> the parameters by which this optimizer is that library's."""

    options: ClassVar[Mapping[str, set[str]]]
    """Library -> the optimizer's own parameters that it has, too."""

    @classmethod
    def like(cls, library: str, lr: Any = None, **options: Any) -> Self:
        """Return the optimizer as another library defines it, equal step for step.

        Parameters
        ----------
        library : {"torch", "keras", "optax", "chainer", "book"}
            Name of the library; ``"book"`` is "Deep Learning from Scratch".
        lr : float > 0, schedule, or array of shape (), optional
            Learning rate; by default the library's own (1e-3 for optax, which has none).
        **options
            Other parameters of the class that the library has as well, to override a default.

        Raises
        ------
        ValueError
            The library is unknown, and the message shows the nearest one; or it has no such
            parameter, or means something else by it.
        TypeError
            `library` is not a name.

        Examples
        --------
        >>> import anyprop as ap
        >>> ap.RMSProp.like("keras").rho
        0.9
        """
        choice("library", library, cls.presets)
        preset = cls.presets[library]
        own = cls.options[library] | _COMMON[library]
        defaults = {f.name: f.default for f in dataclasses.fields(cls)} | dict(preset)  # type: ignore[arg-type]
        for name, value in options.items():
            if name in defaults and name not in own and value != defaults[name]:
                raise ValueError(
                    f"{cls.__name__} of {library!r} has no {name}={value!r} that does what it does "
                    f"here; make {cls.__name__}(...) itself with the parameters you want."
                )
        _check_combination(cls.__name__, library, options)
        settings = {**preset, **options}
        if lr is not None:
            settings["lr"] = lr
        return cls(**settings)


def _check_combination(owner: str, library: str, options: Mapping[str, Any]) -> None:
    clips = [
        name for name, value in options.items() if name.startswith("clip_") and value is not None
    ]
    if library == "keras" and len(clips) > 1:
        raise ValueError(f"{owner} of 'keras' clips in one way only, not by {' and '.join(clips)}.")
    if library == "book" and options.get("weight_decay") and options.get("decay_biases", True):
        raise ValueError(
            f"{owner}: in the book only weights decay; pass decay_biases=False along with weight_decay."
        )
