"""Rules of optimizers that several tests train with."""

from __future__ import annotations

from dataclasses import dataclass

import anyprop as ap


@dataclass(frozen=True)
class Remembering(ap.SGD):
    """A rule whose slot takes the parameters before the update."""

    def slots(self):
        return {"before": 0.0}

    def rule(self, xp):
        return lambda p, g, before, lr: (p - lr * (g + before), p)
