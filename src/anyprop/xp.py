"""The backend-switchable import.

`from anyprop.xp import xp` is the namespace that the environment variable ``ANYPROP_BACKEND``
names, NumPy if it is not set: ``ANYPROP_BACKEND=cupy python train.py``.
"""

import os

from anyprop.backend import get_namespace

xp = get_namespace(os.environ.get("ANYPROP_BACKEND") or "numpy")
"""The namespace that ``ANYPROP_BACKEND`` names."""

__all__ = ["xp"]
