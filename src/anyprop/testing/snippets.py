"""What arrays must be able to do besides the functions: exchange, devices, copies, reads.

Each check is a few lines of Python that run as they are, where `xp` is the namespace and `np`
NumPy: it is its own reproducer.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._typing import Namespace
from anyprop.testing.namespaces import header


@dataclass(frozen=True)
class Snippet:
    """A check in plain Array API calls: lines of code that raise where it fails."""

    name: str
    code: str
    needed: bool = (
        True  # whether training needs it; JAX's arrays, for example, cannot be assigned to
    )
    fundamental: bool = False  # whether everything needs it: where it fails nothing else is tried

    group = "arrays"

    @property
    def id(self) -> str:
        """The group and the name, as `--only` takes them."""
        return f"{self.group}/{self.name}"

    def program(self, xp: Namespace) -> str:
        """Write it as a program."""
        return "\n".join(["import numpy as np", *header(xp), self.code.strip()])


READ_BY_NUMPY = "can be read by NumPy"

SNIPPETS = [
    Snippet(
        "come from NumPy",
        """
x = xp.asarray(np.asarray([[1.0, 2.0]], dtype=np.float32), device=None)
assert tuple(x.shape) == (1, 2), x.shape
assert x.dtype == xp.float32, x.dtype
""",
        fundamental=True,
    ),
    Snippet(
        "know their namespace",
        """
from array_api_compat import array_namespace
x = xp.asarray(np.asarray([1.0, 2.0], dtype=np.float32))
assert array_namespace(x) is xp, f"the array belongs to {array_namespace(x).__name__}"
""",
        fundamental=True,
    ),
    Snippet(
        READ_BY_NUMPY,
        """
x = xp.asarray(np.asarray([1.0, 2.0], dtype=np.float32))
y = np.asarray(x)
assert y.dtype == np.float32, f"np.asarray gives {y.dtype}"
assert y.tolist() == [1.0, 2.0], f"np.asarray gives {y}"
""",
        fundamental=True,
    ),
    Snippet(
        "are read as numbers",
        """
x = xp.sum(xp.asarray([1.0, 2.0], dtype=xp.float32))
assert float(x) == 3.0, float(x)
""",
    ),
    Snippet(
        "have shapes of integers",
        """
x = xp.asarray([[1.0, 2.0], [3.0, 4.0]], dtype=xp.float32)[:1, :]
assert tuple(map(int, x.shape)) == (1, 2), x.shape
""",
    ),
    Snippet(
        "keep their dtype beside numbers",
        """
x = xp.asarray([1.0, 2.0], dtype=xp.float32)
assert (0.1 * x + 1).dtype == xp.float32, (0.1 * x + 1).dtype
""",
    ),
    Snippet(
        "are made beside others",
        """
from array_api_compat import device
x = xp.asarray([1.0, 2.0], dtype=xp.float32)
y = xp.zeros(2, dtype=xp.float32, device=device(x))
assert device(x + y) == device(x), device(x + y)
""",
    ),
    Snippet(
        "can be made on every device listed",
        """
for device in xp.__array_namespace_info__().devices():
    xp.zeros(2, dtype=xp.float32, device=device)
""",
        needed=False,
    ),
    Snippet(
        "go out by DLPack",
        """
x = xp.asarray([1.0, 2.0], dtype=xp.float32)
y = np.from_dlpack(x, device="cpu")
assert y.tolist() == [1.0, 2.0], y
""",
        needed=False,
    ),
    Snippet(
        "come in by DLPack",
        """
x = xp.from_dlpack(np.asarray([1.0, 2.0], dtype=np.float32))
assert float(x[1]) == 2.0, x
""",
        needed=False,
    ),
    Snippet(
        "can be assigned to",
        """
x = xp.asarray([1.0, 2.0], dtype=xp.float32)
x[...] = xp.asarray([3.0, 4.0], dtype=xp.float32)
assert float(x[1]) == 4.0, x
""",
        needed=False,
    ),
    Snippet(
        "are copied by copy=True",
        """
x = xp.asarray([1.0, 2.0], dtype=xp.float32)
y = xp.asarray(x, copy=True)
try:
    x[...] = 0.0 * x
except (TypeError, ValueError, RuntimeError):
    pass  # nothing can be written over
assert float(y[1]) == 2.0, y
""",
    ),
]
