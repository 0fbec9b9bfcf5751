"""Presets: the defaults and conventions of other libraries, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from anyprop._checks import unknown


class HasPresets:
    """Gives an optimizer the constructor `like`, over its table `presets`."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Library -> the parameters by which this optimizer is that library's."""

    @classmethod
    def like(cls, library: str, lr: Any = None, **options: Any) -> Self:
        """Make the optimizer as another library has it, equal step for step.

        Parameters
        ----------
        library : {"torch", "keras", "optax", "chainer", "book"}
            Whose; ``"book"`` is "Deep Learning from Scratch".
        lr : float > 0, schedule, or array of shape (), optional
            Learning rate; by default the library's own (1e-3 for optax, which has none).
        **options
            Any other parameter of the class, to change a default.

        Raises
        ------
        ValueError
            The library is unknown; the message shows the nearest one.

        Examples
        --------
        >>> import anyprop as ap
        >>> ap.RMSProp.like("keras").rho
        0.9
        """
        if library not in cls.presets:
            raise unknown("library", library, cls.presets)
        settings = {**cls.presets[library], **options}
        if lr is not None:
            settings["lr"] = lr
        return cls(**settings)
