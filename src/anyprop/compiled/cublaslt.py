"""Matrix products by cuBLASLt, through nvmath-python, on arrays that stay where they are.

CuPy's own way to cuBLAS refuses to be captured into a graph. cuBLASLt counts matrices by columns, ours
lie by rows, so it is given all of them transposed: out^T = b^T a^T. A bias then goes along the columns
that it knows, as its epilogue wants it.

An epilogue adds the bias and takes max(., 0) before a product is stored, which saves a kernel that reads
and writes all of it. It is not documented to keep NaN, as our ReLU does. So each is tried with a bias of
NaN when it is made, and not used unless all that comes out is NaN.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

# Bytes that a product may use besides; by default nvmath-python would let it have most of the GPU.
WORKSPACE = 32 * 2**20
# Bytes. nvmath-python has cuBLASLt count on the one for results; below the other, epilogues have failed.
RESULT_ALIGNMENT, BIAS_ALIGNMENT = 256, 16


class Products:
    """Makes products, and holds what they need.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        On which they will be launched.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._products: list[Any] = []

    def plain(self, a: Any, b: Any, out: Any) -> Callable[[], Any]:
        """Make the launch of out = a b."""
        product = self._new(a, b, out)
        product.plan(preferences={"limit": 1}, stream=self._stream)
        return self._kept(product)

    def rectified(self, a: Any, b: Any, bias: Any, out: Any) -> Callable[[], Any] | None:
        """Make the launch of out = max(a b + bias, 0); None if cuBLASLt cannot do it here."""
        if bias.data.ptr % BIAS_ALIGNMENT:
            return None
        advanced = importlib.import_module("nvmath.linalg.advanced")
        product = self._new(a, b, out)
        try:
            product.plan(
                preferences={"limit": 1},
                epilog=advanced.MatmulEpilog.RELU_BIAS,
                epilog_inputs={"bias": bias},
                stream=self._stream,
            )
            usable = self._keeps_nan(product, bias, out)
        except Exception:  # each library of the three raises its own
            usable = False
        if not usable:
            product.free()
            return None
        return self._kept(product)

    def _keeps_nan(self, product: Any, bias: Any, out: Any) -> bool:
        """Tell whether a bias of NaN comes through in all of a result."""
        cupy = importlib.import_module("cupy")
        nan = cupy.full(bias.shape, float("nan"), dtype=bias.dtype)
        product.reset_operands(epilog_inputs={"bias": nan}, stream=self._stream)
        product.execute(stream=self._stream)
        usable = bool(cupy.isnan(out).all().get())
        product.reset_operands(epilog_inputs={"bias": bias}, stream=self._stream)
        return usable

    def _new(self, a: Any, b: Any, out: Any) -> Any:
        advanced = importlib.import_module("nvmath.linalg.advanced")
        # In place of a third matrix that counts 0 times, so that the result lies where it shall.
        options = {"inplace": True, "memory_limit": WORKSPACE}
        return advanced.Matmul(b.T, a.T, out.T, beta=0.0, options=options, stream=self._stream)

    def _kept(self, product: Any) -> Callable[[], Any]:
        self._products.append(product)
        return partial(product.execute, stream=self._stream)

    def after_capture(self) -> None:
        """Do the products once more, outside of the capture: their events are waited for in the end."""
        for product in self._products:
            product.execute(stream=self._stream)

    def close(self) -> None:
        """Give back what the products hold."""
        for product in self._products:
            product.free()
